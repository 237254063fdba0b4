"""Names of files in the state directory. Imports nothing: ``status`` needs them too."""

from __future__ import annotations

from typing import Final

__all__ = ["JOURNAL", "LOCK"]

JOURNAL: Final = "journal.sqlite"
LOCK: Final = "change.lock"
