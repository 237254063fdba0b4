"""The agent beside one national instance: everything that a site runs.

Its first words are :mod:`~ncen_updater.agent.engine.site` (what is acted on) and the
engine's steps. It shares ``common``, ``formats`` and ``feed`` with the publisher and knows nothing
of it.
"""
