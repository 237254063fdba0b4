"""Import blocker for optional modules that TUF's libraries look for and no feed reader needs.

securesystemslib imports an installed cloud client, to sign with its keys: that takes a third of the
time of a check, and adds a hundred modules to a process that reads untrusted bytes. A program that
only reads blocks that import first.
"""

from __future__ import annotations

import sys


def block_unused_imports() -> None:
    """For the whole of this process: what is left out counts as not installed."""
    sys.modules.setdefault("boto3", None)  # type: ignore[arg-type]  # documented so
