"""SQLite: a set of files is one directory, and one symbolic link selects the live set.

``<directory>/live -> sets/<set>``; the application opens ``<directory>/live/<name>.sqlite``. One
rename of the link switches all databases at once. See ``database_sets`` for the files on disk.
"""
