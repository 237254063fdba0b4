"""The SQLite adapter: see ``layout`` for what is on the disk, ``databases.base`` for the contract.

Every act first makes what it needs beside the live set, flushes it, and then moves one link.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sqlite3
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from ncen_updater.agent.adapters.databases.base import (
    Candidate,
    ChangeRef,
    CopyPlan,
    DatabaseRole,
    Live,
    Marker,
    MigrationSet,
)
from ncen_updater.agent.adapters.databases.sqlite import inspect, trying
from ncen_updater.agent.adapters.databases.sqlite.copying import (
    connect,
    copy_files,
    copy_set,
    give,
    settle,
)
from ncen_updater.agent.adapters.databases.sqlite.errors import NoteUnreadable, NotPlain, SetMissing
from ncen_updater.agent.adapters.databases.sqlite.layout import WRITTEN
from ncen_updater.agent.adapters.databases.sqlite.migrating import (
    mark_files,
    migrate_files,
    run_program,
    unmark_files,
)
from ncen_updater.agent.adapters.databases.sqlite.noting import (
    LentBy,
    Note,
    differing,
    journaled,
    look,
    look_when_quiet,
)
from ncen_updater.agent.adapters.databases.sqlite.plain import opened
from ncen_updater.agent.adapters.databases.sqlite.processes import holders, locked
from ncen_updater.agent.adapters.databases.sqlite.reading import SqliteFacts
from ncen_updater.agent.adapters.databases.tried import Untried
from ncen_updater.agent.model.errors import DatabaseError, FenceFailed
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.database_words import said
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import (
    CUT_OVER_FAILED,
    FENCED_BY_OTHER,
    FILES_WRITTEN,
    OFFICERS_WERE_IN,
)
from ncen_updater.common.progress import Progress
from ncen_updater.formats.manifest import DatabaseProgram

ADOPTED = "base"


class SqliteEngine(SqliteFacts):
    """All databases of a site as SQLite files in one directory; see :class:`SqliteFacts`."""

    # ---- acts ----------------------------------------------------------------------------------

    def adopt(self) -> None:
        """Make a set of a site's plain ``live`` directory, once.

        Who has the files open without being seen goes on with the same ones: they are renamed.

        Raises:
            FenceFailed: A process has the files open.
        """
        layout = self._layout
        base = layout.sets / ADOPTED
        if layout.plain():
            self._check_unused(layout.live)
            durable.make_directory(layout.sets)
            layout.say_new(base, None)
            durable.rename(layout.live, base)
        if not layout.live.is_symlink() and not layout.fence_links() and base.is_dir():
            durable.symlink(Path("sets", ADOPTED), layout.live)

    def fence(self, change: ChangeRef) -> None:
        """Take ``live`` away, and note what its files are before they are copied.

        Processes that are seen to have one open are refused. Those that are not, and those that
        come by another path, are told by what they write: see :meth:`_require_unwritten`.

        Raises:
            FencedByOther: Another change keeps everybody out; its agent may be at work.
            FenceFailed: A process has the files open.
            NotPlain: Something else lies in the place of a database, or beside it.
            FilesWritten: Somebody writes to them all the time.
        """
        layout = self._layout
        live = layout.live_set()
        layout.require_plain(live)
        ours = layout.fence_link(change.id)
        if layout.open():
            durable.rename(layout.live, ours)
        elif not ours.is_symlink():
            raise self._fenced_by_other(change)
        self._check_unused(live)
        if self._notes.read(change.id) is None:
            self._notes.write(change.id, Note(look_when_quiet(layout, live)))

    def _fenced_by_other(self, change: ChangeRef) -> DatabaseError:
        return DatabaseError(
            FENCED_BY_OTHER, change=change.id, other=", ".join(self._layout.fenced_by())
        )

    def _check_unused(self, live: Path) -> None:
        names = self._layout.names
        found = holders([path for name in names for path in self._layout.files(live, name)])
        if found:
            who = ", ".join(f"{item.name} ({item.pid}): {item.file}" for item in found)
            count = len({item.pid for item in found})
            raise FenceFailed(database=live.name, count=count, detail=who)
        for name in names:
            path = self._layout.file(live, name)
            if path.is_file() and locked(path):
                raise FenceFailed(
                    database=name, count=1, detail=Text("{name} is locked", {"name": path.name})
                )

    def unfence(self, change: ChangeRef) -> None:
        """Put ``live`` back, as it was.

        Raises:
            FencedByOther: Another change keeps everybody out.
        """
        self._open(change)
        if not self._swapped(change, self._layout.live_set()):
            self._notes.remove(change.id)

    def _open(self, change: ChangeRef) -> None:
        layout = self._layout
        live = layout.live_set()
        ours = layout.fence_link(change.id)
        if not layout.open():
            if not ours.is_symlink():
                raise self._fenced_by_other(change)
            layout.settle_role(live)
            durable.symlink(Path("sets", live.name), layout.live)
        durable.remove(ours)

    def plan_copy(self, change: ChangeRef) -> CopyPlan:
        """Sizes and places. Writes nothing."""
        if change.as_is:
            return CopyPlan({})
        layout = self._layout
        source = self._source(change)
        target = layout.next_set(change.id)
        data: dict[str, dict[str, object]] = {}
        for name in self.names:
            size = sum(path.lstat().st_size for path in layout.files(source, name))
            data[name] = {"from": source.name, "to": target.name, "size": size}
        return CopyPlan(data)

    def copy(self, change: ChangeRef, plan: CopyPlan, progress: Progress) -> None:
        """Copy all files into a new set; it gets its name when all are whole.

        A set that is not fenced (a rehearsal) is copied through SQLite's backup.
        """
        layout = self._layout
        target = layout.next_set(change.id)
        if change.as_is or target.exists():
            return
        source = self._source(change)
        online = layout.open() and source == layout.live_set()
        partial = layout.partial(target)
        layout.remove_set(partial)
        total = sum(int(str(item.get("size", 0))) for item in plan.data.values())
        done = 0

        def told(name: str, count: int) -> None:
            nonlocal done
            done += count
            progress.tell(Text(N_("copying {database}"), {"database": name}), done, total)

        copy_files(layout, source, partial, told, online=online)
        self._note_copied(change, source, partial)
        layout.say_new(partial, layout.marker(source))
        give(layout, source, partial)
        layout.rename(partial, target)

    def _note_copied(self, change: ChangeRef, source: Path, copy: Path) -> None:
        """Note the copies of files with a journal: the same will be made of their originals."""
        note = self._notes.read(change.id)
        if note is not None and note.before.place == source.name:
            digests = {
                name: _sha256(self._layout.file(copy, name))
                for name in journaled(self._layout, look(self._layout, source))
            }
            self._notes.write(change.id, dataclasses.replace(note, copied=digests))

    def copy_online(
        self, change: ChangeRef, plan: CopyPlan, progress: Progress
    ) -> dict[str, tuple[str, ...]]:
        """Copy an open set through SQLite's backup, which carries all there is."""
        self.discard(change, plan)
        self.copy(change, plan, progress)
        return {}

    def copy_again(self, change: ChangeRef, again: ChangeRef, progress: Progress) -> CopyPlan:
        """Copy the files of a rehearsal's candidates, as those of a fenced set are copied."""
        return copy_set(
            self._layout,
            self._layout.next_set(change.id),
            self._layout.next_set(again.id),
            progress,
        )

    def copied(self, change: ChangeRef, plan: CopyPlan) -> bool:
        """Whether the new set has its name, which it gets last."""
        del plan
        return change.as_is or self._layout.present(self._layout.next_set(change.id)) == self.names

    def discard(self, change: ChangeRef, plan: CopyPlan) -> None:
        """Remove candidates and partial copies of a change; never the live set.

        A set that was cut over and has newer rows than it had then is kept: the application does
        not stand alone with it while its door is closed, and nobody can say who wrote them.
        """
        del plan
        # Where nobody can say which set is live, it might be the one that is to be removed.
        live = self._layout.live_set()
        for path, role in self._layout.roles():
            if role.role is DatabaseRole.CANDIDATE and role.change == change.id and path != live:
                self._remove_or_keep(change, path)

    def _remove_or_keep(self, change: ChangeRef, path: Path) -> None:
        try:
            counts = self._rows_since(change, path)
        except DatabaseError:
            self._layout.keep_for_good(path, change.id)  # nobody can say what is in it
            return
        if counts:
            self._layout.keep_for_good(path, change.id, counts)
        else:
            self._layout.remove_set(path)

    def _rows_since(self, change: ChangeRef, path: Path) -> dict[str, int]:
        """Rows that came into a set after it was cut over, by database and table."""
        note = self._notes.read(change.id)
        if note is None or note.after is None or note.after.place != path.name:
            return {}
        if not differing(note.after, look(self._layout, path), frozen=True):
            return {}
        found = {}
        for name in self._layout.present(path):
            with self._reading(self._layout.file(path, name), name) as database:
                newest, counts = note.newest.get(name, {}), note.counts.get(name)
                rows = inspect.newer_rows(database, newest, counts)
            found.update({f"{name}.{table}": count for table, count in rows.items()})
        return found

    def migrate(
        self,
        change: ChangeRef,
        target: MigrationSet,
        origin: MigrationSet | None,
        progress: Progress,
    ) -> bool:
        """Bring every candidate to the target's schema."""
        paths = self._candidates(change)
        environment = self._migrator_environment
        user = self.migrator_user() if target.command is not None else None
        return migrate_files(paths, change, target, origin, environment, progress, user)

    def run_beside(
        self,
        program: DatabaseProgram,
        slot: Path,
        progress: Progress,
        *,
        change: ChangeRef | None = None,
        kept: int = -1,
    ) -> None:
        """See :meth:`DatabaseEngine.run_beside`; on candidates alone: a file has one writer."""
        if change is None:
            super().run_beside(program, slot, progress, kept=kept)
        else:
            paths, user = self._candidates(change), self.migrator_user()
            run_program(program, slot, paths, self._migrator_environment, progress, user)

    def mark(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.mark`."""
        mark_files(self._candidates(change), change)

    def write_values(
        self, place: Candidate, seed: str, short: Mapping[str, Collection[str]]
    ) -> dict[str, dict[str, Counter[Untried]]]:
        """See :meth:`DatabaseEngine.write_values`."""
        path = self._path(place)
        try:
            with connect(path, "rw") as database:
                refusals = trying.write(database, seed, short)
            problem = settle(path)
        except sqlite3.Error as error:
            raise DatabaseError(database=place.name, detail=said(error)) from error
        if problem:
            raise DatabaseError(database=place.name, detail=problem)
        return refusals

    def _candidates(self, change: ChangeRef) -> dict[str, Path]:
        return {name: self._path(change.candidate(name)) for name in self.names}

    def baseline(self, change: ChangeRef, target: MigrationSet) -> None:
        """Write the ledger of a release into live databases that have none.

        A plain ``live`` directory is made a set first, see :meth:`adopt`.
        """
        from ncen_updater.agent.adapters.databases.migrations.runner import MigrationRunner
        from ncen_updater.agent.adapters.databases.sqlite.dialect import SqliteDialect

        self.adopt()
        for name in self.names:
            path = self._path(Live(name))
            MigrationRunner(SqliteDialect(path), name).baseline(
                change, target.databases.get(name, ())
            )

    def cut_over(self, change: ChangeRef) -> None:
        """Write marker and role, then let ``live`` point at the new set, by one rename."""
        layout = self._layout
        live = layout.live_set()
        fresh = Marker(change.release, change.generation, change.id)
        if not self._swapped(change, live):
            if self._is_later(change, live):
                raise DatabaseError(
                    CUT_OVER_FAILED,
                    detail=Text("{live} was cut over meanwhile", {"live": layout.marker(live)}),
                )
            target = live if change.as_is else layout.next_set(change.id)
            if layout.open():
                raise DatabaseError(CUT_OVER_FAILED, detail="the databases are not fenced")
            if change.as_is:
                self._lend(change, live)
            self._check_complete(target, fresh)
            if change.as_is:
                layout.write_marker(live, fresh)
            else:
                # All that can fail comes first: afterwards the old ones are only made read-only.
                self._finish_journals(change, live)
                self._note_after(change, target)
                layout.write_marker(target, fresh)
                layout.write_role(live, DatabaseRole.PREVIOUS, change.id)
                self._require_unwritten(change, live)
                durable.symlink(Path("sets", target.name), layout.live)
        self._open(change)
        kept = layout.previous_set(change.id)
        if kept and kept.lstat().st_mode & 0o200:
            try:
                layout.freeze(kept)
            except OSError as error:
                raise DatabaseError(CUT_OVER_FAILED, detail=f"{kept.name}: {error}") from error

    def _lend(self, change: ChangeRef, live: Path) -> None:
        """Mark the files of the live set for another release; what they were is noted first."""
        note = self._noted(change)
        if note.lent is None:
            lent = LentBy(self._layout.marker(live))
            self._notes.write(change.id, dataclasses.replace(note, lent=lent))
        mark_files({name: self._layout.file(live, name) for name in self.names}, change)

    def _give_back(self, change: ChangeRef, live: Path) -> None:
        """Mark the files of the live set as what they were before :meth:`_lend`; fenced.

        What was written to them meanwhile stays.
        """
        layout, note = self._layout, self._notes.read(change.id)
        if note is None or note.lent is None:
            return
        if change.id in layout.committed(live) or self._is_later(change, live):
            raise DatabaseError(OFFICERS_WERE_IN, change=change.id)
        if layout.open():
            durable.rename(layout.live, layout.fence_link(change.id))
        self._check_unused(live)
        was = note.lent.marker
        paths = {name: layout.file(live, name) for name in self.names}
        if was is None:
            unmark_files(paths)
        else:
            mark_files(paths, ChangeRef(was.change, was.generation, was.release))
        layout.write_marker(live, was)
        self._notes.write(change.id, dataclasses.replace(note, lent=None))

    def _check_complete(self, target: Path, fresh: Marker) -> None:
        for name in self.names:
            path = self._layout.file(target, name)
            if path.is_symlink() or not path.is_file():
                raise DatabaseError(
                    CUT_OVER_FAILED,
                    detail=Text(
                        "{name} is missing in {name2}", {"name": name, "name2": target.name}
                    ),
                )
            inside = self._state(path, name)
            if inside != fresh:
                raise DatabaseError(CUT_OVER_FAILED, detail=f"{name} says {inside}, not {fresh}")

    def _note_after(self, change: ChangeRef, target: Path) -> None:
        newest, counts = {}, {}
        for name in self.names:
            with self._reading(self._layout.file(target, name), name) as database:
                newest[name] = inspect.newest_rows(database)
                counts[name] = inspect.row_counts(database)
        note = self._noted(change)
        after = look_when_quiet(self._layout, target)
        self._notes.write(
            change.id, dataclasses.replace(note, after=after, newest=newest, counts=counts)
        )

    def _noted(self, change: ChangeRef) -> Note:
        note = self._notes.read(change.id)
        if note is None:
            raise NoteUnreadable(database=change.id)
        return note

    def _require_unwritten(
        self, change: ChangeRef, set_path: Path, *, frozen: bool = False
    ) -> None:
        """Raise if a file of a set is not what it was when it was fenced.

        Raises:
            FilesWritten: With their names.
        """
        found = differing(self._noted(change).before, look(self._layout, set_path), frozen=frozen)
        if found:
            raise DatabaseError(FILES_WRITTEN, database=set_path.name, files=", ".join(found))

    def _finish_journals(self, change: ChangeRef, live: Path) -> None:
        """Finish what the application did not finish writing, as it would at its next start.

        A file with a journal beside it cannot be read once it is frozen. No row changes by this.
        The copy was finished in the same way, so it has the same bytes, unless somebody wrote.
        """
        layout = self._layout
        beside = {
            name: [path for path in layout.files(live, name) if path != layout.file(live, name)]
            for name in self.names
        }
        unfinished = [n for n in self.names if any(path.lstat().st_size for path in beside[n])]
        if not unfinished:
            return
        self._require_unwritten(change, live)
        note = self._noted(change)
        for name in unfinished:
            path = layout.file(live, name)
            try:
                problem = settle(path)
            except sqlite3.Error as error:
                raise DatabaseError(
                    CUT_OVER_FAILED, detail=f"{name} in {live.name}: {error}"
                ) from error
            if problem:
                raise DatabaseError(CUT_OVER_FAILED, detail=f"{name} in {live.name}: {problem}")
        now = look_when_quiet(layout, live)
        finished = journaled(layout, note.before)
        expected = {
            file for name in finished for file in note.before.files
            if file.startswith(layout.file(live, name).name)
        }  # fmt: skip
        wrong = {
            layout.file(live, name).name
            for name in finished
            if name in note.copied and note.copied[name] != _sha256(layout.file(live, name))
        }
        wrong |= {*differing(note.before, now)} - expected
        wrong |= {layout.file(live, name).name for name in journaled(layout, now)}
        if wrong:
            raise DatabaseError(FILES_WRITTEN, database=live.name, files=", ".join(sorted(wrong)))
        self._notes.write(change.id, dataclasses.replace(note, before=now))

    def before_commit(self, change: ChangeRef) -> None:
        """Look once more at what was live: a program may have it open still, and nobody see it.

        Raises:
            FilesWritten: It was written since; it is what going back brings.
        """
        kept = self._layout.previous_set(change.id)
        if kept is not None:
            self._require_unwritten(change, kept, frozen=True)

    def record_commit(self, change: ChangeRef) -> None:
        """Write it beside the files of the live set.

        Raises:
            CutOverFailed: The change is not cut over.
        """
        live = self._layout.live_set()
        if not self._swapped(change, live):
            raise DatabaseError(
                CUT_OVER_FAILED, detail=Text("{id} is not cut over", {"id": change.id})
            )
        self._layout.write_committed(live, change.id)

    def heal_marker(self) -> tuple[str, ...]:
        """Write the record file again where the live set lost it."""
        marker = self.marker()
        live = self._layout.live_set()
        if marker is None or self._layout.marker(live) is not None:
            return ()
        self._layout.write_marker(live, marker)
        return (live.name,)

    def take_as(
        self, change: ChangeRef, target: MigrationSet, closes: ChangeRef | None = None
    ) -> None:
        """Let everybody in, then write state rows, marker and commit into the live set."""
        from ncen_updater.agent.adapters.databases.migrations.runner import MigrationRunner
        from ncen_updater.agent.adapters.databases.sqlite.dialect import SqliteDialect

        del closes  # links and records are those of the live set alone
        layout = self._layout
        self.baseline(change, target)
        live = layout.live_set()
        if not layout.open():
            layout.settle_role(live)
            durable.symlink(Path("sets", live.name), layout.live)
        for link in layout.fence_links():
            durable.remove(link)
        for name in self.names:
            MigrationRunner(SqliteDialect(layout.file(live, name)), name).mark(change)
        layout.write_marker(live, Marker(change.release, change.generation, change.id))
        layout.write_committed(live, change.id)

    def cut_back(self, change: ChangeRef) -> None:
        """Let the fence point at the previous set, then take ``live`` away: fenced, as it was."""
        layout = self._layout
        live = layout.live_set()
        if change.as_is:
            self._give_back(change, live)
            return
        kept = layout.previous_set(change.id)
        if not self._swapped(change, live):
            return
        if change.id in layout.committed(live) or self._is_later(change, live):
            raise DatabaseError(OFFICERS_WERE_IN, change=change.id)
        if kept is None:
            raise SetMissing(database=f"previous of {change.id}")
        layout.thaw(kept)
        durable.symlink(Path("sets", kept.name), layout.fence_link(change.id))
        durable.remove(layout.live)
        self._check_unused(live)

    def drop_previous(self, change_id: str) -> None:
        """Remove the set that a change put aside, unless somebody wrote to it since: see layout."""
        # Where nobody can say which set is live, it might be the one that is to be removed.
        self._layout.live_set()
        kept = self._layout.previous_set(change_id)
        if kept is not None and self._written_after_all(change_id, kept):
            self._layout.keep_for_good(kept, change_id)
        elif kept is not None:
            self._layout.remove_set(kept)
        self._layout.remove_set(self._layout.partial(self._layout.sets / f"gone_{change_id}"))
        self._notes.remove(change_id)

    def drop_set_aside(self, change_id: str) -> None:
        """Remove what a change set aside; a person said so."""
        for kept in self._layout.set_aside():
            if kept.change == change_id:
                for place in kept.places:
                    self._layout.remove_set(Path(place))
        for torn in self._layout.sets.glob(f"gone_{WRITTEN}{change_id}*"):
            self._layout.remove_set(torn)

    def _written_after_all(self, change_id: str, kept: Path) -> bool:
        try:
            note = self._notes.read(change_id)
            if note is None or note.before.place != kept.name:
                return False
            return bool(differing(note.before, look(self._layout, kept), frozen=True))
        except (NoteUnreadable, NotPlain):
            return True  # nobody can say whether somebody wrote to it


def _sha256(path: Path) -> str:
    with opened(path) as descriptor, open(descriptor, "rb", closefd=False) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
