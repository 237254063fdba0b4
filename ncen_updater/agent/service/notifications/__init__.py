"""Telling people and programs what happens here: mail, webhook, metrics, structured log.

Looks at the journal and at what the service knows; changes nothing of the site. Messages are sent
by a child process, which talks to the network and to no database. No value of the application's
records gets in: :mod:`~ncen_updater.agent.service.notifications.notification` says which values may
be told, and of which form.
"""
