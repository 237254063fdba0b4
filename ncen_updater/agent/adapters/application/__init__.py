"""The application: how it is stopped, started, closed to users, and asked how it is.

Adapters (``command``, ``systemd``) behind :class:`base.Application`. This room knows nothing of
databases, releases or the feed.
"""
