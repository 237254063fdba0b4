"""The databases of a site: copied, migrated, cut over and taken back as one set.

One adapter an engine (``postgresql/``, ``sqlite/``) behind :class:`base.DatabaseEngine`; the
migrations themselves are run by ``migrations/`` for both. This room knows nothing of the network,
of releases on offer, or of the application.
"""
