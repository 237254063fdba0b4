"""PostgreSQL 14 to 18 behind the interface of ``databases.base``.

Each module has one subject: ``connection`` opens sessions of one server, and ``sessions`` those in
the application's databases; ``catalogue`` and ``control_database`` read and write the state on the
server; ``fence``, ``copies``, ``cut_over`` and ``candidate_migrations`` are the operations of a
change, ``rehearsal_copies`` those of a rehearsal; ``survey``, ``blockers`` and ``roles`` find
blocking conditions; ``engine`` combines them and imports psycopg; ``descriptor`` works without
psycopg.
"""
