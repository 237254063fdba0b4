"""PostgreSQL 14 to 18 behind the interface of ``databases.base``.

Each module is one concept: ``connection`` opens sessions of one server, and ``sessions`` those in
the application's databases; ``catalogue`` and ``control`` read and write what the server
remembers; ``fence``, ``copying``, ``swap`` and ``migrating`` are the acts, ``rehearsing`` those of
a rehearsal; ``survey``, ``blockers`` and ``roles`` find what stands in the way; ``engine`` puts
them together, and with it psycopg is imported; ``kind`` is asked before that.
"""
