"""The agent of one national instance: everything that a site runs.

Start reading at :mod:`~ncen_updater.agent.engine.site` (the object of every change) and the
engine's steps. The agent shares ``common``, ``formats`` and ``feed`` with the publisher and imports
nothing of the publisher.
"""
