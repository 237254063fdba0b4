"""Application adapters: start, stop, maintenance page and health check.

The adapters (``command``, ``systemd``) are behind :class:`base.Application`. This package does not
deal with databases, releases or the feed.
"""
