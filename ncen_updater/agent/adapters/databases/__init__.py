"""The databases of a site: copied, migrated, cut over and taken back as one set.

One package an engine, each a line of ``engines``, behind :class:`base.DatabaseEngine`; the
migrations themselves are run by ``migrations/`` for all. This room knows nothing of the network,
of releases on offer, or of the application.
"""
