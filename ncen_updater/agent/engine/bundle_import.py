"""Import of an offline bundle at a site, under the lock of changes and recorded in the journal.

The bundle is read by the network worker process, which cannot reach the databases. An import does
not change the application: nothing is stopped, and nothing has to be undone. It is recorded by two
events, one before and one after, so that an interrupted import is visible too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from ncen_updater.agent.adapters.feed_reader.worker_source import WorkerReleaseSource
from ncen_updater.agent.engine.lock import hold_change_lock
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.event_names import (
    CHANGE_LOCK_FILE,
    IMPORT_REFUSED,
    IMPORTED,
    JOURNAL_FILE,
)
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import READER_FAILED
from ncen_updater.common.progress import ProgressListener
from ncen_updater.feed.errors import TrustError
from ncen_updater.feed.import_store import ImportRecord

IMPORT_STARTED = "import-started"


def import_bundle(
    site: Site,
    reader: WorkerReleaseSource,
    file: Path,
    progress: ProgressListener,
    *,
    actor: str,
    dry_run: bool,
    opener: Callable[[Path], int],
) -> ImportRecord:
    """Verify a whole bundle and store it.

    Args:
        site: The site; it need not be adopted yet.
        reader: Reads the bundle.
        file: The bundle.
        progress: Receives the number of bytes.
        actor: Name of the actor.
        dry_run: Verify only.
        opener: Opens the bundle.

    Raises:
        UpdaterError: The import failed; nothing was stored.
    """
    current = site.slots.read_current()
    request: dict[str, object] = {
        "act": "import",
        "file": str(file.absolute()),
        "current": None if current is None else str(current),
        "agent": str(site.agent_version),
        "dry_run": dry_run,
    }
    if dry_run:
        return _read_in_child(reader, request, progress, opener)
    with (
        hold_change_lock(site.state_directory / CHANGE_LOCK_FILE, "import"),
        _record_import(site, file.name, actor) as journal,
    ):
        record = _read_in_child(reader, request, progress, opener)
        reader.verify_import()
        if journal is not None:
            journal.record_event(IMPORTED, None, by=actor, **record.to_json())
        return record


def _read_in_child(
    reader: WorkerReleaseSource,
    request: dict[str, object],
    progress: ProgressListener,
    opener: Callable[[Path], int],
) -> ImportRecord:
    try:
        return ImportRecord.from_json(reader.run_request(request, progress, opener))
    except ValueError as error:
        raise TrustError(READER_FAILED, detail=str(error)) from error


@contextlib.contextmanager
def _record_import(site: Site, file: str, actor: str) -> Iterator[Journal | None]:
    """Record the start of an import and the reason of a failure; a new site has no journal yet."""
    if not (site.state_directory / JOURNAL_FILE).exists():
        yield None
        return
    with Journal.open(site.state_directory / JOURNAL_FILE, now=site.clock.now) as journal:
        journal.record_event(IMPORT_STARTED, by=actor, file=file)
        try:
            yield journal
        except UpdaterError as error:
            journal.record_event(IMPORT_REFUSED, by=actor, file=file, code=error.code)
            raise
