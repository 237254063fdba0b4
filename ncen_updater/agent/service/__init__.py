"""The service: reads the status of the site, decides, and runs commands in a worker process.

It reads the configuration, the journal and its own state; it connects neither to the feed nor to a
database. :mod:`ncen_updater.agent.policy.automation` makes the decisions; each action is a command
of ``ncen-updater`` that a user can also run by hand.
"""
