"""Warn of unclosed SQLite connections with every Python version, not only from 3.13 on.

A connection and its statement cache refer to each other, so the warning appears during a garbage
collection in any later test. It therefore names the place where the connection was opened.
"""

from __future__ import annotations

import functools
import sqlite3
import sys
import warnings
from typing import Any


class WatchedConnection(sqlite3.Connection):
    """Connection that warns if it is destroyed while open."""

    _opened_at: str | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        caller = sys._getframe(1)
        self._opened_at = f"{caller.f_code.co_filename}:{caller.f_lineno}"

    def close(self) -> None:
        super().close()
        self._opened_at = None

    def __del__(self) -> None:
        if self._opened_at is not None:
            opened_at = self._opened_at
            self.close()
            message = f"unclosed database, opened at {opened_at}"
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)


def watch_connections() -> None:
    """Watch all connections of this process."""
    if not isinstance(sqlite3.connect, functools.partial):
        watched = functools.partial(sqlite3.connect, factory=WatchedConnection)
        sqlite3.connect = watched  # type: ignore[assignment]
