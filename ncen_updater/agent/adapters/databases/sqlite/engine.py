"""SQLite engine: see ``database_sets`` for the files on disk, ``databases.base`` for the contract.

Every operation writes new files, flushes them, and then moves one link.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sqlite3
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from ncen_updater.agent.adapters.databases.base import (
    CandidateDatabase,
    ChangeRef,
    CopyPlan,
    DatabaseMarker,
    DatabaseRole,
    LiveDatabase,
    MigrationSet,
)
from ncen_updater.agent.adapters.databases.round_trip import UntestedReason
from ncen_updater.agent.adapters.databases.sqlite import inspection, round_trip
from ncen_updater.agent.adapters.databases.sqlite.candidate_migrations import (
    check_file,
    mark_files,
    migrate_files,
    run_program,
    unmark_files,
)
from ncen_updater.agent.adapters.databases.sqlite.copies import (
    checkpoint_and_check,
    copy_files,
    copy_owner_and_modes,
    copy_set,
)
from ncen_updater.agent.adapters.databases.sqlite.database_sets import (
    QUARANTINE_PREFIX,
    FenceRecord,
    NoCopyRecord,
    find_changed_files,
    find_journaled,
    snapshot_quiet_set,
    snapshot_set,
)
from ncen_updater.agent.adapters.databases.sqlite.read_operations import (
    SqliteReadOperations,
    open_session,
)
from ncen_updater.agent.adapters.databases.sqlite.safe_files import (
    DatabaseSetMissingError,
    NotRegularFileError,
    RecordUnreadableError,
    find_holders,
    is_locked,
    open_regular_file,
)
from ncen_updater.agent.model.errors import DatabaseError, FenceError
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    ALREADY_COMMITTED,
    CUT_OVER_FAILED,
    FENCED_BY_OTHER,
    FENCED_FILES_CHANGED,
)
from ncen_updater.common.progress import Amount, ProgressListener, Unit
from ncen_updater.formats.manifest import DatabaseProgram

ADOPTED_SET = "base"
ADOPTED_LINK = Path("sets", ADOPTED_SET)


class SqliteEngine(SqliteReadOperations):
    """All databases of a site as SQLite files in one directory.

    See :class:`SqliteReadOperations`.
    """

    # ---- write operations ----------------------------------------------------------------------

    def adopt_databases(self) -> None:
        """Turn a site's plain ``live`` directory into a set, once.

        A process that the agent cannot see and that has the files open keeps using the same files:
        they are only renamed.

        Raises:
            FenceError: A process has the files open.
        """
        layout = self._layout
        base = layout.sets / ADOPTED_SET
        if layout.is_plain_directory():
            self._check_unused(layout.live)
            durable.make_directory(layout.sets)
            layout.write_new_record(base, None)
            durable.replace_symlink(ADOPTED_LINK, base)
            try:
                durable.exchange_entries(layout.live, base)
            except OSError:  # not supported by the file system: for an instant there is no 'live'
                durable.remove_file(base)
                durable.rename_entry(layout.live, base)
        if not layout.live.is_symlink() and not layout.list_fence_links() and base.is_dir():
            durable.replace_symlink(ADOPTED_LINK, layout.live)

    def fence(self, change: ChangeRef) -> None:
        """Remove the link ``live``, and record the state of its files before they are copied.

        A visible process that has a file open is refused. The writes of other processes, or by
        another path, are noticed later: see :meth:`_require_unwritten`.

        Raises:
            FENCED_BY_OTHER: The fence of another change is in force; its agent may be running.
            FenceError: A process has the files open.
            NotRegularFileError: A database or a companion file is not a regular file.
            FENCED_FILES_CHANGED: Somebody keeps writing to them.
        """
        layout = self._layout
        live = layout.find_live_set()
        layout.require_regular_files(live)
        fence_link = layout.get_fence_link(change.id)
        if layout.is_open():
            durable.rename_entry(layout.live, fence_link)
        elif not fence_link.is_symlink():
            raise self._make_fence_error(change)
        self._check_unused(live)
        if self._fence_records.read(change.id) is None:
            self._fence_records.write(change.id, FenceRecord(snapshot_quiet_set(layout, live)))

    def _make_fence_error(self, change: ChangeRef) -> DatabaseError:
        return DatabaseError(
            FENCED_BY_OTHER, change=change.id, other=", ".join(self._layout.list_fencing_changes())
        )

    def _check_unused(self, live: Path) -> None:
        names = self._layout.names
        found = find_holders(
            [path for name in names for path in self._layout.list_files(live, name)]
        )
        if found:
            processes = ", ".join(f"{item.name} ({item.pid}): {item.file}" for item in found)
            count = len({item.pid for item in found})
            raise FenceError(database=live.name, count=count, detail=processes)
        for name in names:
            path = self._layout.get_file(live, name)
            if path.is_file() and is_locked(path):
                raise FenceError(
                    database=name, count=1, detail=LazyText("{name} is locked", {"name": path.name})
                )

    def unfence(self, change: ChangeRef) -> None:
        """Restore the link ``live`` as it was.

        Raises:
            FENCED_BY_OTHER: The fence of another change is in force.
        """
        self._reopen(change)
        if not self._is_cut_over(change, self._layout.find_live_set()):
            self._fence_records.remove(change.id)

    def _reopen(self, change: ChangeRef) -> None:
        layout = self._layout
        live = layout.find_live_set()
        fence_link = layout.get_fence_link(change.id)
        if not layout.is_open():
            if not fence_link.is_symlink():
                raise self._make_fence_error(change)
            layout.clear_role(live)
            durable.replace_symlink(Path("sets", live.name), layout.live)
        durable.remove_file(fence_link)

    def plan_copy(self, change: ChangeRef) -> CopyPlan:
        """Return sizes and directories. Writes nothing."""
        if change.no_copy:
            return CopyPlan({})
        layout = self._layout
        source = self._find_source_set(change)
        target = layout.get_candidate_set(change.id)
        data: dict[str, dict[str, object]] = {}
        for name in self.names:
            size = sum(path.lstat().st_size for path in layout.list_files(source, name))
            data[name] = {"from": source.name, "to": target.name, "size": size}
        return CopyPlan(data)

    def copy_databases(self, change: ChangeRef, plan: CopyPlan, progress: ProgressListener) -> None:
        """Copy all files into a new set, which gets its final name when all are complete.

        A set that is not fenced (in a rehearsal) is copied through SQLite's backup.
        """
        layout = self._layout
        target = layout.get_candidate_set(change.id)
        if change.no_copy or target.exists():
            return
        source = self._find_source_set(change)
        online = layout.is_open() and source == layout.find_live_set()
        partial = layout.get_partial_set(target)
        layout.remove_set(partial)
        total = sum(int(str(item.get("size", 0))) for item in plan.copies.values())
        done = 0

        def report_block(name: str, count: int) -> None:
            nonlocal done
            done += count
            what = LazyText(N_("copying {name}"), {"name": name})
            progress.report(what, Amount(done, total, Unit.BYTES))

        copy_files(layout, source, partial, report_block, online=online)
        self._record_copied(change, source, partial)
        layout.write_new_record(partial, layout.read_marker(source))
        copy_owner_and_modes(layout, source, partial)
        layout.rename_set(partial, target)

    def _record_copied(self, change: ChangeRef, source: Path, copy: Path) -> None:
        """Record digests of copied files with a journal; the originals are compared with them."""
        record = self._fence_records.read(change.id)
        if record is not None and record.before.set_name == source.name:
            digests = {
                name: _compute_sha256(self._layout.get_file(copy, name))
                for name in find_journaled(self._layout, snapshot_set(self._layout, source))
            }
            self._fence_records.write(
                change.id, dataclasses.replace(record, copied_digests=digests)
            )

    def copy_online(
        self, change: ChangeRef, plan: CopyPlan, progress: ProgressListener
    ) -> dict[str, tuple[str, ...]]:
        """Copy an open set through SQLite's backup, which contains all objects."""
        self.discard_candidates(change, plan)
        self.copy_databases(change, plan, progress)
        return {}

    def copy_candidates(
        self, change: ChangeRef, timing_change: ChangeRef, progress: ProgressListener
    ) -> CopyPlan:
        """Copy the files of a rehearsal's candidates the way a fenced set is copied."""
        return copy_set(
            self._layout,
            self._layout.get_candidate_set(change.id),
            self._layout.get_candidate_set(timing_change.id),
            progress,
        )

    def is_copied(self, change: ChangeRef, plan: CopyPlan) -> bool:
        """Tell whether the new set has its final name, which it gets last."""
        del plan
        return (
            change.no_copy
            or self._layout.list_present(self._layout.get_candidate_set(change.id)) == self.names
        )

    def discard_candidates(self, change: ChangeRef, plan: CopyPlan) -> None:
        """Remove candidates and partial copies of a change; never the live set.

        A set that was cut over and has received rows since goes into quarantine: the application
        does not write behind its maintenance page, so the writer is unknown.
        """
        del plan
        # Raises if the live set is unknown: it might be the one to be removed.
        live = self._layout.find_live_set()
        for path, role in self._layout.list_roles():
            if role.role is DatabaseRole.CANDIDATE and role.change == change.id and path != live:
                self._remove_or_quarantine(change, path)

    def _remove_or_quarantine(self, change: ChangeRef, path: Path) -> None:
        try:
            counts = self._count_rows_since(change, path)
        except DatabaseError:
            self._layout.quarantine_set(path, change.id)  # its contents are unknown
            return
        if counts:
            self._layout.quarantine_set(path, change.id, counts)
        else:
            self._layout.remove_set(path)

    def _count_rows_since(self, change: ChangeRef, path: Path) -> dict[str, int]:
        """Count the rows added to a set after its cut-over, by database and table."""
        record = self._fence_records.read(change.id)
        if record is None or record.after is None or record.after.set_name != path.name:
            return {}
        if not find_changed_files(record.after, snapshot_set(self._layout, path), frozen=True):
            return {}
        found = {}
        for name in self._layout.list_present(path):
            with self._open_for_reading(self._layout.get_file(path, name), name) as database:
                newest, counts = record.newest_rowids.get(name, {}), record.row_counts.get(name)
                rows = inspection.count_newer_rows(database, newest, counts)
            found.update({f"{name}.{table}": count for table, count in rows.items()})
        return found

    def migrate(
        self,
        change: ChangeRef,
        target: MigrationSet,
        current: MigrationSet | None,
        progress: ProgressListener,
    ) -> bool:
        """Migrate every candidate to the target's schema."""
        paths = self._find_candidates(change)
        environment = self._migrator_environment
        user = self.find_migrator_user() if target.migrator is not None else None
        return migrate_files(paths, change, target, current, environment, progress, user)

    def run_online_program(
        self,
        program: DatabaseProgram,
        slot: Path,
        progress: ProgressListener,
        *,
        change: ChangeRef | None = None,
        lock_fd: int = -1,
    ) -> None:
        """See :meth:`DatabaseEngine.run_online_program`; on candidates only.

        A live file allows only one writer.
        """
        if change is None:
            super().run_online_program(program, slot, progress, lock_fd=lock_fd)
        else:
            paths, user = self._find_candidates(change), self.find_migrator_user()
            run_program(program, slot, paths, self._migrator_environment, progress, user)

    def mark_candidates(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.mark_candidates`."""
        mark_files(self._find_candidates(change), change)

    def write_sample_values(
        self,
        candidate: CandidateDatabase,
        seed: str,
        minimal_columns: Mapping[str, Collection[str]],
    ) -> dict[str, dict[str, Counter[UntestedReason]]]:
        """See :meth:`DatabaseEngine.write_sample_values`."""
        path = self._find_path(candidate)
        with open_session(path, "rw", candidate.name) as database:
            refusals = round_trip.write_sample_values(database, seed, minimal_columns)
        check_file(candidate.name, path)
        return refusals

    def _find_candidates(self, change: ChangeRef) -> dict[str, Path]:
        return {name: self._find_path(change.get_candidate(name)) for name in self.names}

    def baseline_ledger(self, change: ChangeRef, target: MigrationSet) -> None:
        """Write the ledger of a release into live databases that have none.

        A plain ``live`` directory first becomes a set, see :meth:`adopt_databases`.
        """
        from ncen_updater.agent.adapters.databases.migrations.runner import MigrationRunner
        from ncen_updater.agent.adapters.databases.sqlite.dialect import SqliteDialect

        self.adopt_databases()
        for name in self.names:
            path = self._find_path(LiveDatabase(name))
            MigrationRunner(SqliteDialect(path), name).write_baseline(
                change, target.databases.get(name, ())
            )

    def cut_over(self, change: ChangeRef) -> None:
        """Write marker and role, then point ``live`` to the new set by one rename."""
        layout = self._layout
        live = layout.find_live_set()
        marker = DatabaseMarker(change.release, change.generation, change.id)
        if not self._is_cut_over(change, live):
            if self._is_later(change, live):
                raise DatabaseError(
                    CUT_OVER_FAILED,
                    detail=LazyText(
                        "{live} was cut over meanwhile", {"live": layout.read_marker(live)}
                    ),
                )
            target = live if change.no_copy else layout.get_candidate_set(change.id)
            if layout.is_open():
                raise DatabaseError(
                    CUT_OVER_FAILED, detail="the databases are not closed to connections"
                )
            if change.no_copy:
                self._mark_without_copy(change, live)
            self._check_complete(target, marker)
            if change.no_copy:
                layout.write_marker(live, marker)
            else:
                # Everything that can fail comes first: afterwards the old set is only made
                # read-only.
                self._finish_sqlite_journals(change, live)
                self._record_after(change, target)
                layout.write_marker(target, marker)
                layout.write_role(live, DatabaseRole.PREVIOUS, change.id)
                self._require_unwritten(change, live)
                durable.replace_symlink(Path("sets", target.name), layout.live)
        self._reopen(change)
        previous = layout.find_previous_set(change.id)
        if previous and previous.lstat().st_mode & 0o200:
            try:
                layout.freeze(previous)
            except OSError as error:
                raise DatabaseError(CUT_OVER_FAILED, detail=f"{previous.name}: {error}") from error

    def _mark_without_copy(self, change: ChangeRef, live: Path) -> None:
        """Mark the files of the live set for another release; first record their former state."""
        record = self._require_fence_record(change)
        if record.no_copy is None:
            former_state = NoCopyRecord(self._layout.read_marker(live))
            self._fence_records.write(change.id, dataclasses.replace(record, no_copy=former_state))
        mark_files({name: self._layout.get_file(live, name) for name in self.names}, change)

    def _revert_without_copy(self, change: ChangeRef, live: Path) -> None:
        """Restore the marks that the files of the live set had before :meth:`_mark_without_copy`.

        The set is fenced; rows written meanwhile stay.
        """
        layout, record = self._layout, self._fence_records.read(change.id)
        if record is None or record.no_copy is None:
            return
        if change.id in layout.read_committed(live) or self._is_later(change, live):
            raise DatabaseError(ALREADY_COMMITTED, change=change.id)
        if layout.is_open():
            durable.rename_entry(layout.live, layout.get_fence_link(change.id))
        self._check_unused(live)
        former = record.no_copy.marker
        paths = {name: layout.get_file(live, name) for name in self.names}
        if former is None:
            unmark_files(paths)
        else:
            mark_files(paths, ChangeRef(former.change, former.generation, former.release))
        layout.write_marker(live, former)
        self._fence_records.write(change.id, dataclasses.replace(record, no_copy=None))

    def _check_complete(self, target: Path, marker: DatabaseMarker) -> None:
        for name in self.names:
            path = self._layout.get_file(target, name)
            if path.is_symlink() or not path.is_file():
                raise DatabaseError(
                    CUT_OVER_FAILED,
                    detail=LazyText(
                        "{name} not found in {name2}", {"name": name, "name2": target.name}
                    ),
                )
            state = self._read_state(path, name)
            if state != marker:
                raise DatabaseError(
                    CUT_OVER_FAILED, detail=f"marker of {name} is {state or '-'}, not {marker}"
                )

    def _record_after(self, change: ChangeRef, target: Path) -> None:
        newest, counts = {}, {}
        for name in self.names:
            with self._open_for_reading(self._layout.get_file(target, name), name) as database:
                newest[name] = inspection.read_newest_rowids(database)
                counts[name] = inspection.count_rows(database)
        record = self._require_fence_record(change)
        after = snapshot_quiet_set(self._layout, target)
        self._fence_records.write(
            change.id,
            dataclasses.replace(record, after=after, newest_rowids=newest, row_counts=counts),
        )

    def _require_fence_record(self, change: ChangeRef) -> FenceRecord:
        record = self._fence_records.read(change.id)
        if record is None:
            raise RecordUnreadableError(database=change.id)
        return record

    def _require_unwritten(
        self, change: ChangeRef, set_path: Path, *, frozen: bool = False
    ) -> None:
        """Refuse a set with a file that changed since it was fenced.

        Raises:
            FENCED_FILES_CHANGED: With their names.
        """
        found = find_changed_files(
            self._require_fence_record(change).before,
            snapshot_set(self._layout, set_path),
            frozen=frozen,
        )
        if found:
            raise DatabaseError(
                FENCED_FILES_CHANGED, database=set_path.name, files=", ".join(found)
            )

    def _finish_sqlite_journals(self, change: ChangeRef, live: Path) -> None:
        """Apply the journals that the application left, as it would at its next start.

        A file with a journal cannot be read once it is frozen. This changes no row. The journals of
        the copy were applied in the same way, so it has the same bytes, unless somebody wrote.
        """
        layout = self._layout
        companions = {
            name: [
                path
                for path in layout.list_files(live, name)
                if path != layout.get_file(live, name)
            ]
            for name in self.names
        }
        unfinished = [n for n in self.names if any(path.lstat().st_size for path in companions[n])]
        if not unfinished:
            return
        self._require_unwritten(change, live)
        record = self._require_fence_record(change)
        for name in unfinished:
            path = layout.get_file(live, name)
            try:
                problem = checkpoint_and_check(path)
            except sqlite3.Error as error:
                raise DatabaseError(
                    CUT_OVER_FAILED, detail=f"{name} in {live.name}: {error}"
                ) from error
            if problem:
                raise DatabaseError(CUT_OVER_FAILED, detail=f"{name} in {live.name}: {problem}")
        now = snapshot_quiet_set(layout, live)
        finished = find_journaled(layout, record.before)
        expected = {
            file for name in finished for file in record.before.files
            if file.startswith(layout.get_file(live, name).name)
        }  # fmt: skip
        wrong = {
            layout.get_file(live, name).name
            for name in finished
            if name in record.copied_digests
            and record.copied_digests[name] != _compute_sha256(layout.get_file(live, name))
        }
        wrong |= {*find_changed_files(record.before, now)} - expected
        wrong |= {layout.get_file(live, name).name for name in find_journaled(layout, now)}
        if wrong:
            raise DatabaseError(
                FENCED_FILES_CHANGED, database=live.name, files=", ".join(sorted(wrong))
            )
        self._fence_records.write(change.id, dataclasses.replace(record, before=now))

    def check_before_commit(self, change: ChangeRef) -> None:
        """Check the previous set once more: an unseen program may still have it open.

        Raises:
            FENCED_FILES_CHANGED: It was written to since; a rollback would bring these rows back.
        """
        previous = self._layout.find_previous_set(change.id)
        if previous is not None:
            self._require_unwritten(change, previous, frozen=True)

    def record_commit(self, change: ChangeRef) -> None:
        """Record the commit in the record of the live set, and in the set.

        Raises:
            CUT_OVER_FAILED: The change is not cut over.
        """
        live = self._layout.find_live_set()
        if not self._is_cut_over(change, live):
            raise DatabaseError(
                CUT_OVER_FAILED, detail=LazyText("{id} is not cut over", {"id": change.id})
            )
        self._layout.write_committed(live, change.id)

    def repair_marker(self) -> tuple[str, ...]:
        """Write the record of the live set again if it was lost."""
        marker = self.read_marker()
        live = self._layout.find_live_set()
        if marker is None or self._layout.read_marker(live) is not None:
            return ()
        self._layout.write_marker(live, marker)
        return (live.name,)

    def adopt_restored(
        self, change: ChangeRef, target: MigrationSet, closed_change: ChangeRef | None = None
    ) -> None:
        """Open the databases, then write state rows, marker and commit into the live set."""
        from ncen_updater.agent.adapters.databases.migrations.runner import MigrationRunner
        from ncen_updater.agent.adapters.databases.sqlite.dialect import SqliteDialect

        del closed_change  # links and records concern the live set alone
        layout = self._layout
        self.baseline_ledger(change, target)
        live = layout.find_live_set()
        if not layout.is_open():
            layout.clear_role(live)
            durable.replace_symlink(Path("sets", live.name), layout.live)
        for link in layout.list_fence_links():
            durable.remove_file(link)
        for name in self.names:
            MigrationRunner(SqliteDialect(layout.get_file(live, name)), name).write_state(change)
        layout.write_marker(live, DatabaseMarker(change.release, change.generation, change.id))
        layout.write_committed(live, change.id)

    def revert_cut_over(self, change: ChangeRef) -> None:
        """Point the fence link to the previous set, then remove ``live``: fenced, as before."""
        layout = self._layout
        live = layout.find_live_set()
        if change.no_copy:
            self._revert_without_copy(change, live)
            return
        previous = layout.find_previous_set(change.id)
        if not self._is_cut_over(change, live):
            return
        if change.id in layout.read_committed(live) or self._is_later(change, live):
            raise DatabaseError(ALREADY_COMMITTED, change=change.id)
        if previous is None:
            raise DatabaseSetMissingError(database=f"previous of {change.id}")
        layout.thaw(previous)
        durable.replace_symlink(Path("sets", previous.name), layout.get_fence_link(change.id))
        durable.remove_file(layout.live)
        self._check_unused(live)

    def drop_previous(self, change_id: str) -> None:
        """Remove the previous set of a change; put it in quarantine if somebody wrote to it."""
        # Raises if the live set is unknown: it might be the one to be removed.
        self._layout.find_live_set()
        previous = self._layout.find_previous_set(change_id)
        if previous is not None and self._was_written(change_id, previous):
            self._layout.quarantine_set(previous, change_id)
        elif previous is not None:
            self._layout.remove_set(previous)
        self._layout.remove_set(
            self._layout.get_partial_set(self._layout.sets / f"gone_{change_id}")
        )
        self._fence_records.remove(change_id)

    def drop_quarantined(self, change_id: str) -> None:
        """Remove the sets of a change in quarantine, on an operator's command."""
        for quarantined in self._layout.list_quarantined():
            if quarantined.change == change_id:
                for directory in quarantined.counts:
                    self._layout.remove_set(Path(directory))
        for interrupted in self._layout.sets.glob(f"gone_{QUARANTINE_PREFIX}{change_id}*"):
            self._layout.remove_set(interrupted)

    def _was_written(self, change_id: str, previous: Path) -> bool:
        try:
            record = self._fence_records.read(change_id)
            if record is None or record.before.set_name != previous.name:
                return False
            return bool(
                find_changed_files(record.before, snapshot_set(self._layout, previous), frozen=True)
            )
        except (RecordUnreadableError, NotRegularFileError):
            return True  # whether somebody wrote to it is unknown


def _compute_sha256(path: Path) -> str:
    with open_regular_file(path) as descriptor, open(descriptor, "rb", closefd=False) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
