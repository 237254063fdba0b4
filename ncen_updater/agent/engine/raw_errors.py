"""Raw errors of databases and of the application's programs, in files that only root can read.

A raw error may quote rows of case files. So the journal, its backups, messages, the local API and
the support bundle contain only the text that :mod:`ncen_updater.common.error_sanitizer` lets
through, and the path of the file: ``failures/<id>.txt`` in the state directory for each failed
change or rehearsal (``<id>-revert.txt`` for a failed revert), mode 0600. The files are removed
after :data:`RETENTION_DAYS` days.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ncen_updater.common.atomic_files import make_directory, remove_file, write_file
from ncen_updater.common.errors import causes
from ncen_updater.common.i18n import N_, LazyText

logger = logging.getLogger(__name__)

RAW_ERROR_DIRECTORY: Final = "failures"
RETENTION_DAYS: Final = 30
RETENTION_S: Final = RETENTION_DAYS * 86_400
MAX_CHARACTERS: Final = 1_000_000


def store_raw_error(state: Path, name: str, error: BaseException) -> Path | None:
    """Store the raw errors of a failure, if there are any, and return the path of the file.

    A later failure of the same name overwrites the file. If the file cannot be written (for example
    on a full disk), this is only logged and None is returned, so that the failure itself stays
    visible.

    Args:
        state: The state directory.
        name: Name of the file without suffix: the id of the change or rehearsal.
        error: The error, with its causes.
    """
    text = "\n\n".join(_iter_raw_texts(error))
    if not text:
        return None
    path = state / RAW_ERROR_DIRECTORY / f"{name}.txt"
    try:
        make_directory(path.parent, 0o700)
        path.parent.chmod(0o700)
        write_file(path, f"{text[:MAX_CHARACTERS]}\n".encode("utf-8", "replace"), 0o600)
    except OSError as os_error:
        logger.warning("the raw error was not stored: %s", os_error)
        return None
    return path


def _iter_raw_texts(error: BaseException) -> Iterator[str]:
    """Yield the raw text of each error of a chain; pure."""
    for current in causes(error):
        raw = getattr(current, "raw_error", None)
        if raw:
            yield str(raw)
        elif isinstance(current, sqlite3.Error) or hasattr(current, "sqlstate"):
            yield f"{type(current).__name__}: {str(current).strip()}"


def describe_raw_error_path(path: Path | None) -> LazyText:
    """Describe where the raw error is stored; empty if it is not; pure."""
    if path is None:
        return LazyText("")
    template = N_("The complete error may quote records. To read it, run: sudo cat {path}")
    return LazyText(template, {"path": str(path)})


def add_raw_error_path(remedy: LazyText, path: Path | None) -> LazyText:
    """Return the remedy, and on a line of its own the path of the raw error if any; pure."""
    if path is None:
        return remedy
    return LazyText("{remedy}\n{where}", {"remedy": remedy, "where": describe_raw_error_path(path)})


def find_next_expiry(state: Path) -> datetime | None:
    """Return when the oldest file expires; None if there is none."""
    written = [entry.stat(follow_symlinks=False).st_mtime for entry in _list_files(state)]
    return datetime.fromtimestamp(min(written) + RETENTION_S, UTC) if written else None


def _list_files(state: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(state / RAW_ERROR_DIRECTORY) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def prune_raw_errors(state: Path, now_s: float) -> None:
    """Remove files that are older than :data:`RETENTION_DAYS`; idempotent.

    Args:
        state: The state directory.
        now_s: The current time, in seconds since 1970.
    """
    for entry in _list_files(state):
        if entry.stat(follow_symlinks=False).st_mtime + RETENTION_S <= now_s:
            remove_file(Path(entry.path))
