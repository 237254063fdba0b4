"""The service: it reads the status, decides, and lets a child process do the work.

It reads the configuration, the journal and its own state; it connects neither to the feed nor to a
database. The decisions are in :mod:`ncen_updater.agent.policy.automation`; each action is a command
of ``ncen-updater``, run as a child, so that a person may do the same by hand.
"""
