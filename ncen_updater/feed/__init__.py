"""The TUF client: what the Secretariat signed, and nothing else, reaches this site.

This room knows of the network and of TUF, and of neither databases nor the application. Every line
that touches ``tuf`` or ``tufup`` on the reading side is here, on interfaces that tuf 4 and tuf 7
have in common. Importing this package imports none of them; ``load_last_view`` needs only the
standard library. What is on offer for a site, and the way there, are pure: ``upgrade_path`` and
``waves``.
"""

from __future__ import annotations

import sys


def block_unused_imports() -> None:
    """Make optional modules that TUF's libraries look for count as not installed, in this process.

    securesystemslib imports an installed cloud client, to sign with its keys: that takes a third of
    the time of a check, and adds a hundred modules to a process that reads untrusted bytes. A
    program that only reads a feed calls this before its first import of TUF.
    """
    sys.modules.setdefault("boto3", None)  # type: ignore[arg-type]  # documented so
