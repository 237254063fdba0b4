"""Migrations, the same for every engine: their plan (pure) and their execution.

``planner`` compares a ledger with the releases, ``runner`` runs plain SQL files, each in a
transaction, ``dialect`` contains the differences between engines, ``migrator`` runs the
application's own migrator. This package opens the databases it is given; it does not deal with
roles of databases, copies or cut-overs.
"""
