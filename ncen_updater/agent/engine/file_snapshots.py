"""Site files in a change: which are saved, when, and how a revert or rollback restores them.

The plan (directories and snapshot methods) is a fact of the change, recorded before any snapshot is
made. A later configuration does not affect an open change. A change without a plan has no files to
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

#: Kinds of events. They contain only counts, since file names may reveal personal data.
FILES_RESTORED, SNAPSHOT_FAILED, OLD_PATHS_RESTORED = (
    "files-restored",
    "files-not-saved",
    "previous-paths-restored",
)
SNAPSHOT_NOT_REMOVED = "files-not-removed"

logger = logging.getLogger(__name__)


def plan_snapshots(context: StepContext) -> ChangeFacts:
    """Choose directories and snapshot methods, as a fact of the change. Has no effect."""
    paths = context.site.config.paths
    plans = []
    for item in context.site.config.files:
        directory = paths.resolve(item.directory)
        try:
            method = choose_snapshot_method(directory, independent=item.snapshot_method == "copy")
        except OSError:
            method = SnapshotMethod.LINK  # Creating the snapshot will report the error.
        plans.append(SnapshotPlan(item.name, str(directory), method.value))
    return ChangeFacts(snapshots=tuple(plans) or None)


def _load_snapshots(journal: Journal, change: str) -> dict[str, DirectorySnapshot]:
    with guard_reads(journal.path):
        return {
            item.name: DirectorySnapshot(Path(item.directory), change, SnapshotMethod(item.method))
            for item in journal.read_facts(change).snapshots or ()
        }


def prepare_snapshots(context: StepContext) -> None:
    """Create the snapshots while users work.

    In a rollback, a directory without a possible snapshot is reported and left out, so that it does
    not block the rollback.

    Raises:
        SITE_FILES_NOT_SAVED: If a snapshot fails in an upgrade.
    """
    journal, change = context.journal, context.change
    for name, directory in _load_snapshots(journal, change.id).items():
        context.progress.report(LazyText(N_("saving the {name} of the site"), {"name": name}))
        try:
            directory.prepare()
        except UpdaterError as error:
            if change.kind is not ChangeKind.ROLLBACK:
                raise
            journal.record_event(
                SNAPSHOT_FAILED, change.id, name=name, code=error.code, error=error.full_text
            )
            files = journal.read_facts(change.id).snapshots or ()
            others = tuple(item for item in files if item.name != name)
            journal.store_facts(change.id, ChangeFacts(snapshots=others))


@contextlib.contextmanager
def complete_snapshots(context: StepContext) -> Iterator[None]:
    """Update the snapshots in parallel with the block, now that the application is stopped.

    Raises:
        SITE_FILES_NOT_SAVED: At the end of the block; the change is then reverted.
    """
    directories = _load_snapshots(context.journal, context.change.id).values()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="files") as executor:
        updates = [executor.submit(directory.complete) for directory in directories]
        yield
        for update in updates:
            update.result()


def are_snapshots_complete(context: StepContext) -> bool:
    """Tell whether every snapshot is complete."""
    return all(
        item.is_complete() for item in _load_snapshots(context.journal, context.change.id).values()
    )


def _may_have_changed_files(change: Change) -> bool:
    """Tell whether the new version, or a rollback that restored paths, may have changed files."""
    started = change.get_step_state(StepName.START) is not None
    return started or change.kind is ChangeKind.ROLLBACK


def must_restore_files(journal: Journal, change: Change) -> bool:
    """Tell whether site files must be restored if operators close a change by hand."""
    return (
        not change.is_committed
        and _may_have_changed_files(change)
        and bool(_load_snapshots(journal, change.id))
    )


def restore_files(context: StepContext) -> None:
    """Restore all site files as they were when the application had stopped; quarantine added ones.

    Raises:
        SITE_FILES_NOT_RESTORED: If they cannot be restored now; a resume tries again.
    """
    _restore_files(context.journal, context.change, context.progress)


def settle_files_by_operator(
    journal: Journal, change: Change, progress: ProgressListener, *, restore: bool
) -> None:
    """Settle the site files of a change that operators closed by hand; idempotent.

    After its commit users worked with the files, so only old paths are added, as in a rollback.

    Args:
        journal: The journal, open for writing.
        change: The last upgrade, or a change that recovery gave up.
        progress: Receives reports on restored files.
        restore: Whether the site returns to its state before the change.

    Raises:
        SITE_FILES_NOT_RESTORED: If files cannot be restored now.
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
        result = directory.restore(required=started)
        if result == RestoreResult():
            continue
        values: dict[str, object] = {
            "name": name, "restored": result.restored, "quarantined": result.quarantined,
            "written": len(result.overwritten), "path": str(directory.snapshots_directory),
        }  # fmt: skip
        journal.record_event(FILES_RESTORED, change.id, **values, lost=len(result.lost))
        progress.report(LazyText(N_("{name}: {restored} restored"), values))
        if result.quarantined:
            text = N_("{name}: {quarantined} added files moved to {path}")
            progress.report(LazyText(text, values))
        if result.overwritten:
            text = N_("{name}: {written} written in place, cannot be reverted")
            progress.report(LazyText(text, values))


def are_files_restored(context: StepContext) -> bool:
    """Tell whether no file that existed before the change is missing."""
    snapshots = (
        _load_snapshots(context.journal, context.change.id)
        if _may_have_changed_files(context.change)
        else {}
    )
    return not any(item.list_missing() for item in snapshots.values())


def discard_snapshots(context: StepContext) -> None:
    """Remove the snapshots of a reverted change."""
    for directory in _load_snapshots(context.journal, context.change.id).values():
        directory.discard()


def restore_old_paths(context: StepContext) -> None:
    """In a rollback, restore the paths that files had under the previous release.

    Files are added and never removed. A file that the newer release moved also gets its old path. A
    missing file may have been deleted by a user, so it is restored only if the databases are
    restored too, or if the release declared that it moves or rewrites files. A file that cannot be
    restored is reported and does not block the rollback.
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
        moved = declared.get(name) in (SiteFileEffect.MOVES, SiteFileEffect.REWRITES)
        everything = moved or change.mode is DatabaseMode.RESTORE
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
        restored, missing = directory.restore_old_paths(earlier, everything=everything)
    except UpdaterError as error:
        journal.record_event(
            SNAPSHOT_FAILED, change.id, name=name, code=error.code, error=error.full_text
        )
        progress.report(error.title_text)
        return
    if restored or missing:
        journal.record_event(
            OLD_PATHS_RESTORED,
            change.id,
            name=name,
            paths_restored=restored,
            paths_missing=missing,
            path=str(earlier.snapshots_directory),
        )
        text = N_("{name}: {restored} restored to their previous paths, {missing} missing")
        values = {"name": name, "restored": restored, "missing": missing}
        progress.report(LazyText(text, values))


def prune_snapshots(journal: Journal, change: str) -> None:
    """Remove the snapshots of a change that no longer needs them.

    A snapshot that cannot be removed is reported and tried again by the next prune. It blocks
    neither the end of a change nor the removal of its databases.
    """
    for name, directory in _load_snapshots(journal, change).items():
        try:
            directory.discard()
        except UpdaterError as error:
            logger.warning("the stored %s of %s cannot be removed: %s", name, change, error)
            journal.record_event(
                SNAPSHOT_NOT_REMOVED, change, name=name, code=error.code, error=error.full_text
            )


def find_remaining_snapshots(journal: Journal, changes: Iterable[str]) -> set[str]:
    """Return the changes of which a snapshot, or a part of one, still exists. Reads only."""
    return {
        change
        for change in changes
        if any(_exists(directory) for directory in _load_snapshots(journal, change).values())
    }


def _exists(directory: DirectorySnapshot) -> bool:
    """Tell whether a snapshot exists; False if its path now leads outside."""
    try:
        return directory.exists()
    except (OSError, UpdaterError):
        return False
