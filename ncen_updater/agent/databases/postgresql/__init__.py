"""PostgreSQL 14 to 18 behind the interface of ``databases.base``.

Each module is one concept: ``naming`` and ``quoting`` are pure; ``connection`` opens sessions;
``catalogue`` and ``control`` read and write what the server remembers; ``fence``, ``copying``,
``swap`` and ``migrating`` are the acts; ``survey`` and ``blockers`` find what stands in the way;
``engine`` puts them together, and with it psycopg is imported; ``kind`` is asked before that.
"""
