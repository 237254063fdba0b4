"""Lists that were imported, and lie on the disk: how they are kept, and read without a feed.

In the state directory::

    lists.lock        held by an import alone, shared by those that read the feed
    import.partial/   being verified; the next process may remove it
    import.ready/     verified whole; the next process moves it into its places
    feed/import.json  what was imported last

An import takes effect when ``import.partial`` is renamed to ``import.ready``. Every move after it
may be repeated, and the next check of the feed does so.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic, sleep

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import parse_json, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.json_records import JsonRecord
from ncen_updater.common.messages import LOCAL_STORE_FAILED, METADATA_LOCKED, VIEW_DAMAGED
from ncen_updater.feed.delta_packs import clear_bad_packs
from ncen_updater.feed.errors import TrustError
from ncen_updater.feed.release_files import RECORD_NAME, remove_document_record
from ncen_updater.formats.target_names import ROOT_HISTORY

METADATA_LOCK_NAME, PARTIAL_DIRECTORY, READY_DIRECTORY = (
    "lists.lock",
    "import.partial",
    "import.ready",
)
#: So long an import waits for others to have read the feed.
LOCK_WAIT_S, LOCK_RETRY_S = 10.0, 0.05
MAX_RECORD_BYTES = 1_000_000
MAX_METADATA_BYTES = 10_000_000


@dataclass(frozen=True)
class ImportRecord(JsonRecord):
    """What an import brought.

    Attributes:
        imported_at: When (UTC).
        usable_until: Until when its lists count here (UTC).
        timestamp: Version of its timestamp.
        product: Of the releases.
        releases: Versions of the releases that lie on the disk now, oldest first.
        reachable_release: The release that an upgrade can go to with these; None if to no newer
            one.
        file: Name of the file that it came in.
        agents: Versions of the agent that it brought, oldest first.
        reachable_agent: The one of them to which the agent can renew itself; None if to no newer
            one.
    """

    imported_at: datetime
    usable_until: datetime
    timestamp: int
    product: str
    releases: tuple[str, ...]
    reachable_release: str | None
    file: str
    agents: tuple[str, ...] = ()
    reachable_agent: str | None = None


def _record_path(state: Path) -> Path:
    return state / "feed" / "import.json"


def write_import_record(state: Path, record: ImportRecord) -> None:
    """Keep what was imported."""
    durable.make_directory(_record_path(state).parent)
    durable.write_file(_record_path(state), json.dumps(record.to_json(), sort_keys=True).encode())


def read_import_record(state: Path) -> ImportRecord | None:
    """Return the record of the last import; None if nothing was ever imported.

    Raises:
        VIEW_DAMAGED: If the record cannot be read.
    """
    path = _record_path(state)
    try:
        return ImportRecord.from_json(parse_json(read_file(path, MAX_RECORD_BYTES)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise TrustError(VIEW_DAMAGED, path=path, detail=str(error)) from error


@contextlib.contextmanager
def lock_metadata(state: Path, *, exclusive: bool) -> Iterator[None]:
    """Hold the lists while the block runs, alone or together with others that only read the feed.

    An import waits a moment for those that read it, such as the service after each event.

    Raises:
        METADATA_LOCKED: If that cannot be had.
        LOCAL_STORE_FAILED: If the state directory takes no lock.
    """
    try:
        durable.make_directory(state)
        descriptor = os.open(
            state / METADATA_LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640
        )
    except OSError as error:
        raise TrustError(LOCAL_STORE_FAILED, detail=str(error)) from error
    try:
        _acquire(descriptor, exclusive=exclusive)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UpdaterError(METADATA_LOCKED) from error
    try:
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, *, exclusive: bool) -> None:
    """Take the lock.

    Raises:
        BlockingIOError: If others hold it.
    """
    until = monotonic() + LOCK_WAIT_S
    while exclusive and monotonic() < until:
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sleep(LOCK_RETRY_S)
    mode = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    return fcntl.flock(descriptor, mode | fcntl.LOCK_NB)


def finish_import(state: Path) -> None:
    """Complete an import that was killed after it was verified; throw away one that was not.

    Raises:
        METADATA_LOCKED: If one is going on.
    """
    if (state / READY_DIRECTORY).is_dir() or (state / PARTIAL_DIRECTORY).is_dir():
        with lock_metadata(state, exclusive=True):
            finish_import_locked(state)


def finish_import_locked(state: Path) -> None:
    """Do the work of :func:`finish_import` while the caller holds the exclusive lock."""
    if (state / READY_DIRECTORY).is_dir():
        install_import(state)
    if (state / PARTIAL_DIRECTORY).is_dir():
        shutil.rmtree(state / PARTIAL_DIRECTORY)
        durable.fsync_directory(state)


def install_import(state: Path) -> None:
    """Move what was verified to where it is used. May be repeated after any interruption."""
    ready = state / READY_DIRECTORY
    for place in sorted(ready.glob("downloads/*/*")):
        target = state / place.relative_to(ready)
        durable.make_directory(target)
        if (place / RECORD_NAME).exists():
            remove_document_record(target)  # while files are exchanged, nothing there counts
            clear_bad_packs(target)  # what failed here before gets its turn once more
        for file in sorted(place.iterdir(), key=lambda path: path.name == RECORD_NAME):
            durable.rename_entry(file, target / file.name)
    # The clock's floor first, the view of the list last: what is shown is what is there.
    for folder in (".", f"metadata/{ROOT_HISTORY}", "metadata", "feed"):
        for file in sorted((ready / folder).glob("*.json")):
            durable.make_directory(state / folder)
            durable.rename_entry(file, state / folder / file.name)
    durable.rename_entry(ready, state / PARTIAL_DIRECTORY)
    finish_import_locked(state)
