"""Notifications: mail, webhook, metrics, structured log.

This package reads the journal and the state of the service, and changes nothing at the site. A
worker process sends the messages; it uses the network and no database. Messages contain no values
of the application's records:
:mod:`~ncen_updater.agent.service.notifications.notification` lists the allowed values and their
formats.
"""
