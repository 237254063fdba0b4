"""Import blocker for optional modules that TUF's libraries look for and no feed reader needs.

securesystemslib imports the client of a cloud where one is installed, to sign with its keys: a
third of the time of a check, and a hundred modules more beside what strangers send. A program that
only reads leaves it out before it imports them.
"""

from __future__ import annotations

import sys


def block_unused_imports() -> None:
    """For the whole of this process: what is left out counts as not installed."""
    sys.modules.setdefault("boto3", None)  # type: ignore[arg-type]  # documented so
