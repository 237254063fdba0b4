"""Room on the disk that is kept for the journal, so that a full disk does not keep users out.

A change stops where its journal cannot store a record: nothing may be done without one. So a
reserve file is written before anything begins, and deleted when the disk is full: the records of a
revert fit into its space many times over.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ncen_updater.agent.model.errors import JournalUnwritableError
from ncen_updater.common import atomic_files as durable

logger = logging.getLogger(__name__)

T = TypeVar("T")

RESERVE_BYTES = 2 << 20  # a rollback writes some fifty records of at most a few pages each


def get_reserve_path(journal: Path) -> Path:
    """Where the reserve of a journal is."""
    return journal.with_name(f"{journal.name}.reserve")


def create_reserve(journal: Path) -> None:
    """Write the reserve, if it is not there; whole or not at all, and on the disk.

    Raises:
        OSError: If there is no room for it.
    """
    path = get_reserve_path(journal)
    if path.is_file() and path.stat().st_size == RESERVE_BYTES:
        return
    with durable.open_for_replace(path, 0o640) as stream:
        # Random, so that no file system stores them in less room.
        stream.write(os.urandom(RESERVE_BYTES))


def release_reserve(journal: Path) -> bool:
    """Remove the reserve; whether there was one and its room is free now."""
    path = get_reserve_path(journal)
    try:
        path.unlink()
    except OSError as error:
        logger.warning("no reserve to give up: %s", error)
        return False
    durable.fsync_directory(path.parent)
    logger.warning("the disk is full: the journal's reserve was given up")
    return True


def retry_with_reserve(journal: Path, action: Callable[[], T]) -> T:
    """Do what is recorded; where the disk is full, give the reserve up and do it once more.

    Args:
        journal: The journal.
        action: What is done; it may be repeated from its beginning.

    Raises:
        JournalUnwritableError: If there is no room even so.
    """
    try:
        return action()
    except JournalUnwritableError:
        if not release_reserve(journal):
            raise
        return action()
