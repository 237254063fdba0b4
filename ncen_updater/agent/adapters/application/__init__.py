"""Application adapters: start, stop, maintenance page and health check.

Adapters (``command``, ``systemd``) behind :class:`base.Application`. This room knows nothing of
databases, releases or the feed.
"""
