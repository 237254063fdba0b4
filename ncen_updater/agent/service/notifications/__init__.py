"""Notifications to people and programs: mail, webhook, metrics, structured log.

Reads the journal and the state of the service; changes nothing of the site. Messages are sent by a
child process, which uses the network and no database. They contain no value of the application's
records: :mod:`~ncen_updater.agent.service.notifications.notification` lists the allowed values and
their form.
"""
