"""The site's own files in a change: which are kept, when, and what a rollback does to them.

The plan (which directories, kept how) is a fact of the change, written before anything is made; a
later configuration does not matter to an open change. A change without that fact has no files to
restore.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ncen_updater.agent.engine.change_guards import find_last_upgrade
from ncen_updater.agent.engine.site import StepContext
from ncen_updater.agent.model.change import Change, ChangeKind, DatabaseMode, StepName
from ncen_updater.agent.model.change_facts import ChangeFacts, SnapshotPlan
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import guard_reads
from ncen_updater.agent.storage.site_files.directory_index import (
    SnapshotMethod,
    choose_snapshot_method,
)
from ncen_updater.agent.storage.site_files.directory_snapshot import (
    DirectorySnapshot,
    RestoreResult,
)
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.progress import ProgressListener
from ncen_updater.formats.manifest import SiteFileEffect

#: Kinds of events. They count: names of files may tell of people.
FILES_RESTORED, SNAPSHOT_FAILED, OLD_PATHS_RESTORED = (
    "files-restored",
    "files-not-retained",
    "previous-paths-restored",
)
SNAPSHOT_NOT_REMOVED = "files-not-removed"

logger = logging.getLogger(__name__)


def plan_snapshots(context: StepContext) -> ChangeFacts:
    """Say which directories will be kept and how; a fact of the change. No effect."""
    paths = context.site.config.paths
    found = []
    for item in context.site.config.files:
        directory = paths.resolve(item.directory)
        try:
            method = choose_snapshot_method(directory, independent=item.snapshot_method == "copy")
        except OSError:
            method = SnapshotMethod.LINK  # making it says what is wrong
        found.append(SnapshotPlan(item.name, str(directory), method.value))
    return ChangeFacts(snapshots=tuple(found) or None)


def _load_snapshots(journal: Journal, change: str) -> dict[str, DirectorySnapshot]:
    with guard_reads(journal.path):
        return {
            item.name: DirectorySnapshot(Path(item.directory), change, SnapshotMethod(item.method))
            for item in journal.read_facts(change).snapshots or ()
        }


def prepare_snapshots(context: StepContext) -> None:
    """Make the kept trees while users work.

    A directory that cannot be kept does not block the rollback: it is reported and left out.

    Raises:
        SITE_FILES_NOT_SAVED: On the way forward.
    """
    journal, change = context.journal, context.change
    for name, directory in _load_snapshots(journal, change.id).items():
        context.progress.report(LazyText(N_("retaining the {name} of the site"), {"name": name}))
        try:
            directory.prepare()
        except UpdaterError as error:
            if change.kind is not ChangeKind.ROLLBACK:
                raise
            journal.record_event(
                SNAPSHOT_FAILED, change.id, name=name, code=error.code, error=error.full_text
            )
            files = journal.read_facts(change.id).snapshots or ()
            rest = tuple(item for item in files if item.name != name)
            journal.store_facts(change.id, ChangeFacts(snapshots=rest))


@contextlib.contextmanager
def complete_snapshots(context: StepContext) -> Iterator[None]:
    """Bring the kept trees up to date, now that the application stands still, beside the block.

    Raises:
        SITE_FILES_NOT_SAVED: At the end of the block, which was not in vain: the change goes back.
    """
    directories = _load_snapshots(context.journal, context.change.id).values()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="files") as beside:
        at_work = [beside.submit(directory.complete) for directory in directories]
        yield
        for work in at_work:
            work.result()


def are_snapshots_complete(context: StepContext) -> bool:
    """Tell whether every kept tree is whole."""
    return all(
        item.is_complete() for item in _load_snapshots(context.journal, context.change.id).values()
    )


def _may_have_changed_files(change: Change) -> bool:
    """Tell whether the new version, or a rollback that restored names, may have changed files."""
    started = change.get_step_state(StepName.START) is not None
    return started or change.kind is ChangeKind.ROLLBACK


def must_restore_files(journal: Journal, change: Change) -> bool:
    """Tell whether files have to be restored if people end a change while nobody uses them."""
    return (
        not change.is_committed
        and _may_have_changed_files(change)
        and bool(_load_snapshots(journal, change.id))
    )


def restore_files(context: StepContext) -> None:
    """Put back every file as it was in the stop; what was added is set aside, and told.

    Raises:
        SITE_FILES_NOT_RESTORED: If it cannot be done now; a resume does it again.
    """
    _restore_files(context.journal, context.change, context.progress)


def settle_files_by_operator(
    journal: Journal, change: Change, progress: ProgressListener, *, restore: bool
) -> None:
    """End by people's word what a change had begun with files; may be repeated.

    After its commit users worked with them, so that names are only added, as by a rollback.

    Args:
        journal: Open for writing.
        change: The last upgrade, or a change that recovery gave up.
        progress: Told what is put back.
        restore: Whether the site goes back to its state before the change.

    Raises:
        SITE_FILES_NOT_RESTORED: If it cannot be done now.
    """
    if not change.is_committed:
        if restore:
            _restore_files(journal, change, progress)
        prune_snapshots(journal, change.id)
        return
    for name, directory in _load_snapshots(journal, change.id).items() if restore else ():
        _restore_directory_paths(
            journal, change, progress, name, directory, directory, everything=True
        )


def _restore_files(journal: Journal, change: Change, progress: ProgressListener) -> None:
    if not _may_have_changed_files(change):
        return
    started = change.get_step_state(StepName.START) is not None
    for name, directory in _load_snapshots(journal, change.id).items():
        found = directory.restore(required=started)
        if found == RestoreResult():
            continue
        journal.record_event(
            FILES_RESTORED, change.id, name=name, restored=found.restored,
            set_aside=found.quarantined, written=len(found.overwritten), lost=len(found.lost),
            place=str(directory.place),
        )  # fmt: skip
        values = {
            "name": name, "restored": found.restored, "set_aside": found.quarantined,
            "written": len(found.overwritten), "place": directory.place,
        }  # fmt: skip
        progress.report(LazyText(N_("{name}: {restored} restored"), values))
        if found.quarantined:
            words = N_("{name}: {aside} added files moved to {place}")
            progress.report(LazyText(words, values))
        if found.overwritten:
            words = N_("{name}: {written} written in place, cannot be reverted")
            progress.report(LazyText(words, values))


def are_files_restored(context: StepContext) -> bool:
    """Tell whether nothing is missing of what was there before the change."""
    retained = (
        _load_snapshots(context.journal, context.change.id)
        if _may_have_changed_files(context.change)
        else {}
    )
    return not any(item.list_missing() for item in retained.values())


def discard_snapshots(context: StepContext) -> None:
    """Remove the kept trees of a change that was undone."""
    for directory in _load_snapshots(context.journal, context.change.id).values():
        directory.discard()


def restore_old_paths(context: StepContext) -> None:
    """On a rollback after the commit: give files of the previous release their old names again.

    Files are added and never removed. Those that the newer release moved get their old names beside
    the new ones. Those that are gone may have been deleted by users, and come back only where
    the databases go back too, or where the release said that it moves or rewrites files. What
    cannot be restored does not block the rollback; it is reported.
    """
    change, journal = context.change, context.journal
    if change.kind is not ChangeKind.ROLLBACK:
        return
    upgrade = find_last_upgrade(journal.list_changes(), context.origin_version)
    before = _load_snapshots(journal, upgrade.id) if upgrade is not None else {}
    declared = {item.name: item.effect for item in context.read_newer_release().manifest.files}
    for name, directory in _load_snapshots(journal, change.id).items():
        earlier = before.get(name)
        if earlier is None or earlier.directory != directory.directory:
            continue
        strong = declared.get(name) in (SiteFileEffect.MOVES, SiteFileEffect.REWRITES)
        everything = strong or change.mode is DatabaseMode.RESTORE
        _restore_directory_paths(
            journal, change, context.progress, name, directory, earlier, everything=everything
        )


def _restore_directory_paths(
    journal: Journal,
    change: Change,
    progress: ProgressListener,
    name: str,
    directory: DirectorySnapshot,
    earlier: DirectorySnapshot,
    *,
    everything: bool,
) -> None:
    try:
        given, gone = directory.restore_old_paths(earlier, everything=everything)
    except UpdaterError as error:
        journal.record_event(
            SNAPSHOT_FAILED, change.id, name=name, code=error.code, error=error.full_text
        )
        progress.report(error.title_text)
        return
    if given or gone:
        journal.record_event(
            OLD_PATHS_RESTORED,
            change.id,
            name=name,
            paths_restored=given,
            paths_missing=gone,
            place=str(earlier.place),
        )
        words = N_("{name}: {given} restored to their previous paths, {gone} missing")
        progress.report(LazyText(words, {"name": name, "given": given, "gone": gone}))


def prune_snapshots(journal: Journal, change: str) -> None:
    """Remove the kept trees of a change that was committed, once its days are over.

    One that cannot be removed takes room and nothing else: it bars neither the end of a change nor
    the databases that go with it. It is told, and tried again by the next collection.
    """
    for name, directory in _load_snapshots(journal, change).items():
        try:
            directory.discard()
        except UpdaterError as error:
            logger.warning("the kept %s of %s cannot be removed: %s", name, change, error)
            journal.record_event(
                SNAPSHOT_NOT_REMOVED, change, name=name, code=error.code, error=error.full_text
            )


def find_remaining_snapshots(journal: Journal, changes: Iterable[str]) -> set[str]:
    """Of these changes those of which a kept tree, or a part of one, is there. Reads only."""
    return {
        change
        for change in changes
        if any(_exists(directory) for directory in _load_snapshots(journal, change).values())
    }


def _exists(directory: DirectorySnapshot) -> bool:
    """Tell whether anything is left; a way that leads elsewhere by now leads to nothing of ours."""
    try:
        return directory.exists()
    except (OSError, UpdaterError):
        return False
