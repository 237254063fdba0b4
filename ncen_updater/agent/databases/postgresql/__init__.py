"""PostgreSQL 14 to 18 behind the interface of ``databases.base``.

Each module is one concept: ``naming`` and ``quoting`` are pure; ``connection`` opens sessions;
``catalogue`` and ``control`` read and write what the server remembers; ``fence``, ``copying``,
``swap`` and ``migrating`` are the acts; ``survey`` and ``blockers`` find what stands in the way;
``engine`` puts them together. Importing this package imports psycopg.
"""

from __future__ import annotations

from ncen_updater.agent.databases.postgresql.engine import PostgresEngine

__all__ = ["PostgresEngine"]
