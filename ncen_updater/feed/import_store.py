"""Stored metadata of imported bundles: locking, installing after an interruption, and the record.

In the state directory::

    metadata.lock     exclusive lock of an import, shared lock of readers of the feed
    import.partial/   being verified; the next process may remove it
    import.ready/     completely verified; the next process moves it into place
    feed/import.json  record of the last import

An import takes effect when ``import.partial`` is renamed to ``import.ready``. Every move after that
can be repeated, and the next check of the feed repeats it.
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
from ncen_updater.feed.delta_packs import BAD_PACKS_NAME
from ncen_updater.feed.errors import TrustError
from ncen_updater.feed.release_files import RECORD_NAME
from ncen_updater.formats.target_names import ROOT_HISTORY

METADATA_LOCK_NAME, PARTIAL_DIRECTORY, READY_DIRECTORY = (
    "metadata.lock",
    "import.partial",
    "import.ready",
)
#: How long an import waits for readers of the feed, seconds.
LOCK_WAIT_S, LOCK_RETRY_S = 10.0, 0.05
MAX_RECORD_BYTES = 1_000_000
MAX_METADATA_BYTES = 10_000_000


@dataclass(frozen=True)
class ImportRecord(JsonRecord):
    """The result of an import.

    Attributes:
        imported_at: When the bundle was imported (UTC).
        usable_until: Until when this site accepts its metadata (UTC).
        timestamp: Version of its timestamp.
        product: Product of the releases.
        releases: Versions of the imported releases, oldest first.
        reachable_release: The release to which the site can upgrade with this import; None if
            it is not newer.
        file: File name of the bundle.
        agents: Versions of the imported agent releases, oldest first.
        reachable_agent: The agent release to which the agent can update itself; None if none is
            newer.
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
    """Store the record of an import."""
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
    """Hold the metadata lock during the block: exclusive, or shared with readers of the feed.

    An import waits a moment for readers, such as the service, which reads after each event.

    Raises:
        METADATA_LOCKED: If another process holds the lock.
        LOCAL_STORE_FAILED: If the lock file cannot be created.
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
    """Acquire the lock.

    Raises:
        BlockingIOError: If another process holds it.
    """
    deadline = monotonic() + LOCK_WAIT_S
    while exclusive and monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sleep(LOCK_RETRY_S)
    mode = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    return fcntl.flock(descriptor, mode | fcntl.LOCK_NB)


def finish_import(state: Path) -> None:
    """Complete an import that was interrupted after verification; delete an unverified one.

    Raises:
        METADATA_LOCKED: If an import is running.
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
    """Move verified files into place. Safe to repeat after any interruption."""
    ready = state / READY_DIRECTORY
    for release in sorted(ready.glob("downloads/*/*")):
        target = state / release.relative_to(ready)
        durable.make_directory(target)
        if (release / RECORD_NAME).exists():
            # Without the record the directory is invalid while files are replaced.
            durable.remove_file(target / RECORD_NAME)
            # The import brought these packs again: try them once more.
            durable.remove_file(target / BAD_PACKS_NAME)
        for file in sorted(release.iterdir(), key=lambda path: path.name == RECORD_NAME):
            durable.rename_entry(file, target / file.name)
    # The clock floor first, the view last: the view never names files that are not in release.
    for folder in (".", f"metadata/{ROOT_HISTORY}", "metadata", "feed"):
        for file in sorted((ready / folder).glob("*.json")):
            durable.make_directory(state / folder)
            durable.rename_entry(file, state / folder / file.name)
    durable.rename_entry(ready, state / PARTIAL_DIRECTORY)
    finish_import_locked(state)
