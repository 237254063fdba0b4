"""Site files: photographs, attachments and the like, shared by all releases.

They belong to no release and no database, so neither the cut-over nor the slots restore them.
Before a change each such directory gets a *snapshot* beside it: a hard link to every file (or a
copy of it), and an index of its attributes. The snapshot is made while users work and updated once
the application is stopped. A revert restores the files; files that were added meanwhile go into
quarantine and are never deleted (``docs/decisions/0030``).

The application's user owns these directories. Their contents are data, and never paths to follow:
all operations use open directory handles, and follow no link.

``directory_index`` surveys, lists and compares, ``directory_snapshot`` works on one directory.
``engine/file_snapshots.py`` decides which directories are included, and when.
"""
