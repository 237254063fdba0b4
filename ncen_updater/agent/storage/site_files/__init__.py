"""Files of the site's own: photographs and attachments that every release sees.

They are no part of a release and no part of a database, so neither the cut-over nor the slots bring
them back. Before a change each such directory gets a *kept tree* beside it: a second name for every
file (or a copy of it), and an index of what it was. The tree is made while users work and
brought up to date once the application stands still. A rollback before the commit puts back what
was there; what was added meanwhile is set aside, never deleted (``docs/decisions/0030``).

The application's user owns these directories. What lies in them is data and never a path to follow:
everything is done below open directories, and no link is followed.

``directory_index`` surveys, lists and compares, ``directory_snapshot`` works on one
directory. Which directories, and when, is decided by ``engine/file_snapshots.py``.
"""
