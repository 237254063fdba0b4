"""The headless service: looks, decides, and lets a child process do the work.

It may look at the configuration, the journal and its own notes; it opens no connection, neither to
the feed nor to a database. What it decides is in :mod:`ncen_updater.agent.policy.automation`; what
is to be done is a command of ``ncen-updater``, run as a child, so that a person may do the same by
hand.
"""
