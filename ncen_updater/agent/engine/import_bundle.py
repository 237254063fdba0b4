"""Importing a bundle at a site: one at a time with changes, and in its history.

The bundle is read by the process that talks to the network; it cannot reach the databases. An
import is no change of the application: nothing is stopped, and nothing has to be undone. Two events
tell of it, one before and one after, so that one that was killed is seen too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from ncen_updater.agent.adapters.feed_reader.child import ChildSource
from ncen_updater.agent.engine.lock import change_lock
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.names import IMPORT_REFUSED, IMPORTED, JOURNAL, LOCK
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import READER_FAILED
from ncen_updater.common.progress import Progress
from ncen_updater.feed.errors import TrustError
from ncen_updater.feed.offline.store import ImportRecord

BEGUN = "import-begun"


def import_bundle(
    site: Site,
    child: ChildSource,
    file: Path,
    progress: Progress,
    *,
    by: str,
    dry_run: bool,
    opener: Callable[[Path], int],
) -> ImportRecord:
    """Verify a bundle whole and keep it.

    Args:
        site: The site; it need not have been taken over yet.
        child: Reads the bundle.
        file: The bundle.
        progress: Told the bytes.
        by: Who ordered it.
        dry_run: Verify only.
        opener: Opens it.

    Raises:
        UpdaterError: Nothing was kept.
    """
    current = site.slots.current()
    order: dict[str, object] = {
        "act": "import",
        "file": str(file.absolute()),
        "current": None if current is None else str(current),
        "agent": str(site.agent_version),
        "dry_run": dry_run,
    }
    if dry_run:
        return _record(child, order, progress, opener)
    with change_lock(site.state / LOCK, "import"), _told(site, file.name, by) as journal:
        record = _record(child, order, progress, opener)
        child.prove_import()
        if journal is not None:
            journal.note(IMPORTED, None, by=by, **record.to_json())
        return record


def _record(
    child: ChildSource,
    order: dict[str, object],
    progress: Progress,
    opener: Callable[[Path], int],
) -> ImportRecord:
    try:
        return ImportRecord.from_json(child.ask(order, progress, opener))
    except ValueError as error:
        raise TrustError(READER_FAILED, detail=str(error)) from error


@contextlib.contextmanager
def _told(site: Site, file: str, by: str) -> Iterator[Journal | None]:
    """Write down that an import begins, and why it was refused; a new site has no journal yet."""
    if not (site.state / JOURNAL).exists():
        yield None
        return
    with Journal.open(site.state / JOURNAL, now=site.clock.now) as journal:
        journal.note(BEGUN, by=by, file=file)
        try:
            yield journal
        except UpdaterError as error:
            journal.note(IMPORT_REFUSED, by=by, file=file, code=error.code)
            raise
