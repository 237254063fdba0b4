"""The databases of a site, copied, migrated, cut over and reverted together.

Each engine has a package, listed in ``engines``, behind :class:`base.DatabaseEngine`;
``migrations/`` runs the migrations for all of them. This package does not access the network,
releases on offer, or the application.
"""
