"""Migrations, the same for every engine: what will run (pure), and how it is run.

``planner`` compares a ledger with the releases, ``runner`` runs plain SQL files, each in a
transaction, ``dialect`` carries what differs between engines, ``command`` runs the application's
own migrator.
This room opens the databases it is handed and knows nothing of roles, copies or cut-overs.
"""
