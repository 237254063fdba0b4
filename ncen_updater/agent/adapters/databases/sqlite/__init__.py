"""SQLite: a set of files is one directory, and which set is live is one symbolic link.

``<directory>/live -> sets/<set>``; the application opens ``<directory>/live/<name>.sqlite``. One
rename of the link changes all databases at once. See ``database_sets`` for the files on disk.
"""
