"""The facts of the SQLite adapter: everything that only looks."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ncen_updater.agent.adapters.databases.base import (
    AppliedMigration,
    Candidate,
    ChangeRef,
    DatabaseEngine,
    DatabaseFacts,
    DatabaseRole,
    Evidence,
    Live,
    Marker,
    MigrationPlan,
    MigrationSet,
    Place,
    PlaceOf,
    RunAs,
    TableDigest,
)
from ncen_updater.agent.adapters.databases.migrations import ledger
from ncen_updater.agent.adapters.databases.migrations.command import migrator_user
from ncen_updater.agent.adapters.databases.schema import Schema
from ncen_updater.agent.adapters.databases.sqlite import inspect, trying
from ncen_updater.agent.adapters.databases.sqlite.copying import connect, uri
from ncen_updater.agent.adapters.databases.sqlite.dialect import TABLES
from ncen_updater.agent.adapters.databases.sqlite.errors import SetMissing
from ncen_updater.agent.adapters.databases.sqlite.facts import find_blockers, find_set_aside
from ncen_updater.agent.adapters.databases.sqlite.layout import Layout
from ncen_updater.agent.adapters.databases.sqlite.noting import Note
from ncen_updater.agent.adapters.databases.sqlite.plain import check_database, check_opened
from ncen_updater.agent.adapters.databases.sqlite.records import KeptRecords
from ncen_updater.agent.adapters.databases.tried import Keys, Sample
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.database_words import said
from ncen_updater.common.disk_space import free_bytes
from ncen_updater.common.findings import Finding
from ncen_updater.common.messages import MARKERS_DISAGREE, QUERY_FAILED
from ncen_updater.formats.losses import Loss

QUERY_INSTRUCTIONS = 20_000

logger = logging.getLogger(__name__)


class SqliteFacts(DatabaseEngine):
    """What can be asked of a site's SQLite files without changing anything.

    Args:
        directory: Holds ``live`` and ``sets``; on one file system.
        names: Logical names; the file is ``<name>.sqlite``.
        migrator_environment: Further variables of the application's own migrator.
        notes: Where the agent keeps what it noted of the files; a directory of its own, since what
            another user can write there would be believed. Beside the sets by default.
        user: As whom the application's own migrator runs; by default whose the files are.
    """

    kind = "sqlite"

    def __init__(
        self,
        directory: Path,
        names: Sequence[str],
        migrator_environment: Mapping[str, str] | None = None,
        notes: Path | None = None,
        user: str | None = None,
    ) -> None:
        kept = (notes or directory / "notes").absolute()
        self._notes = KeptRecords(kept, Note)
        self._layout = Layout(directory.absolute(), tuple(names), kept)
        self._migrator_environment = dict(migrator_environment or {})
        self._user = user

    @property
    def names(self) -> tuple[str, ...]:
        """Logical names, in the order of the configuration."""
        return self._layout.names

    # ---- facts ---------------------------------------------------------------------------------

    def version(self) -> str:
        """Version of the SQLite library that this process uses."""
        return sqlite3.sqlite_version

    def describe(self) -> tuple[DatabaseFacts, ...]:
        """Facts of each live database."""
        live = self._layout.live_set()
        found = []
        for name in self.names:
            path = self._layout.file(live, name)
            size = sum(item.lstat().st_size for item in self._layout.files(live, name))
            with self._reading(path, name) as database:
                mode = str(database.execute("PRAGMA journal_mode").fetchone()[0])
                page = int(database.execute("PRAGMA page_size").fetchone()[0])
            info = path.lstat()
            details: dict[str, object] = {
                "journal_mode": mode, "page_size": page, "uid": info.st_uid, "gid": info.st_gid,
            }  # fmt: skip
            found.append(DatabaseFacts(name, str(path), size, details))
        return tuple(found)

    def blockers(self, change: ChangeRef, *, final: bool) -> tuple[Finding, ...]:
        """What would stop this change."""
        return tuple(find_blockers(self._layout, change, final=final))

    def evidence(self, change: ChangeRef | None) -> Evidence:
        """What exists for a change, from links and records; else from the files of the set."""
        layout = self._layout
        live = layout.live_or_none()
        present = layout.present(live) if live else ()
        closed = () if layout.open() or live is None else self.names
        at_rest = Evidence(
            swapped=False,
            fenced=bool(closed),
            missing=tuple(name for name in self.names if name not in present),
            closed=closed,
            fenced_by=layout.fenced_by(),
        )
        if change is None:
            return at_rest
        candidates: set[str] = set()
        for path, role in layout.roles():
            if role.role is DatabaseRole.CANDIDATE and role.change == change.id:
                # One that is being made or removed counts as a whole: not whole, but there.
                partial = path.name.endswith(".partial")
                candidates.update(self.names if partial else layout.present(path))
        kept = layout.previous_set(change.id)
        return replace(
            at_rest,
            swapped=live is not None and self._swapped(change, live),
            candidates=tuple(name for name in self.names if name in candidates),
            previous=layout.present(kept) if kept else (),
            committed=live is not None and change.id in layout.committed(live),
            later=live is not None and self._is_later(change, live),
        )

    def _is_later(self, change: ChangeRef, live: Path) -> bool:
        """Whether a change that came later brought the live set.

        Where the agent's directory is from an older backup there is no record of the set: then its
        files are asked.
        """
        record = self._layout.marker(live)
        words = [record] if record is not None else self._states(live)
        return any(
            word is not None and word.change != change.id and word.generation >= change.generation
            for word in words
        )

    def _states(self, live: Path) -> list[Marker | None]:
        """State rows of a set, also beside a journal that a killed application left.

        A file that cannot be read says nothing: a recovery must not fail for it.
        """
        found = []
        for name in () if self._layout.plain() else self._layout.present(live):
            path = self._layout.file(live, name)
            for mode in (self._mode(path), "frozen"):
                try:
                    found.append(self._state_in(_Reading(path, mode, name)))
                    break
                except (DatabaseError, sqlite3.Error) as error:
                    logger.warning("the state row of %s cannot be read: %s", name, said(error))
        return found

    def _swapped(self, change: ChangeRef, live: Path) -> bool:
        if live == self._layout.next_set(change.id):
            return True
        # Where the databases were left as they are, the set is the same one.
        marker = self._layout.marker(live)
        return marker is not None and marker.change == change.id

    def marker(self) -> Marker | None:
        """What the live set says it is; compared with the state row in every file.

        A record file that was lost (files of a set that were put elsewhere and back) is made up for
        by the files, where the set bears the name of the change that they speak of.
        """
        if self._layout.plain():
            return None  # no agent ever cut over to it
        live = self._layout.live_set()
        marker = self._layout.marker(live)
        states: dict[str, Marker | None] = {}
        for name in self.names:
            path = self._layout.file(live, name)
            states[name] = self._state(path, name)
        inside = next(iter(states.values()))
        if marker is None and inside is not None and set(states.values()) == {inside}:
            said = {live.name.removeprefix("next_"), *self._layout.committed(live)}
            marker = inside if inside.change in said else None
        for name, state in states.items():
            if state != marker:
                raise DatabaseError(
                    MARKERS_DISAGREE, reason=f"{name}: {state}; {live.name}: {marker}"
                )
        return marker

    def free_bytes(self) -> dict[Path, int]:
        """See :meth:`DatabaseEngine.free_bytes`."""
        return {self._layout.directory: free_bytes(self._layout.directory)}

    def leftovers(self) -> tuple[tuple[str, DatabaseRole, str], ...]:
        """Every candidate or previous that exists."""
        found: list[tuple[str, DatabaseRole, str]] = []
        for path, role in self._layout.roles():
            partial = path.name.endswith(".partial")
            names = self.names if partial else self._layout.present(path)
            found += [(role.change, role.role, name) for name in names]
        return tuple(found)

    def applied(self, place: Place) -> tuple[AppliedMigration, ...]:
        """The ledger of a database, oldest first."""
        with self._reading(self._path(place), place.name) as database:
            if not database.execute(TABLES.exists).fetchone():
                return ()
            return ledger.applied_rows(database.execute(TABLES.select))

    def query(
        self, place: Place, sql: str, *, timeout_s: float = 3600.0
    ) -> list[tuple[object, ...]]:
        """Run one SELECT; the file is opened read-only."""
        deadline = time.monotonic() + timeout_s
        path = self._path(place)
        try:
            with connect(path, self._mode(path)) as database:
                database.execute("PRAGMA query_only = ON")
                database.set_progress_handler(
                    lambda: int(time.monotonic() > deadline), QUERY_INSTRUCTIONS
                )
                return [tuple(row) for row in database.execute(sql)]
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise DatabaseError(
                QUERY_FAILED, database=place.name, sql=sql, detail=said(error)
            ) from error

    def table_digests(self, place: Place) -> dict[str, TableDigest]:
        """Digest of every user table."""
        with self._reading(self._path(place), place.name) as database:
            return inspect.table_digests(database)

    def schema(self, place: Place) -> Schema:
        """Digests of the schema."""
        with self._reading(self._path(place), place.name) as database:
            return inspect.look_at_schema(database)

    def lost_rows(self, change: ChangeRef) -> dict[str, dict[str, int]]:
        """See :meth:`DatabaseEngine.lost_rows`: rows that are not so in the kept set."""
        live = self._layout.live_set()
        kept = self._source(change)
        found: dict[str, dict[str, int]] = {}
        for name in self.names:
            older = self._layout.file(kept, name)
            with self._reading(self._layout.file(live, name), name) as database:
                check_database(older)
                database.execute("ATTACH ? AS kept", (uri(older, self._mode(older)),))
                check_opened(database, older, "kept")
                lost = inspect.lost_rows(database)
            if lost:
                found[name] = lost
        return found

    def entered(
        self, change: ChangeRef, losses: Mapping[str, Sequence[Loss]]
    ) -> dict[str, dict[str, int]]:
        """See :meth:`DatabaseEngine.entered`: since when a value is there cannot be told."""
        del change
        found: dict[str, dict[str, int]] = {}
        for name in (name for name in self.names if losses.get(name)):
            with self._reading(self._path(Live(name)), name) as database:
                entered = inspect.entered_by_object(database, losses[name])
            if entered:
                found[name] = entered
        return found

    def sample(self, place: Place, keys: Keys | None = None) -> Sample:
        """See :meth:`DatabaseEngine.sample`."""
        with self._reading(self._path(place), place.name) as database:
            return trying.sample(database, keys)

    def address(self, place: Place) -> str:
        """URL of a database's file."""
        return f"sqlite:///{self._path(place)}"

    def plan_migrations(
        self, places: PlaceOf, target: MigrationSet, origin: MigrationSet | None
    ) -> MigrationPlan:
        """Compare the ledgers with the releases; for a command, what is known of it."""
        from ncen_updater.agent.adapters.databases.migrations.planner import plan_set

        by_files = target.command is None
        ledgers = {n: self.applied(places(n)) for n in self.names} if by_files else {}
        return plan_set(self.names, ledgers, target, origin)

    def migrator_user(self) -> RunAs | None:
        """See :meth:`DatabaseEngine.migrator_user`."""
        info = self._layout.file(self._layout.live_set(), self.names[0]).lstat()
        return migrator_user(self._user, (info.st_uid, info.st_gid))

    def set_aside(self) -> tuple[Finding, ...]:
        """Sets that were kept since somebody wrote to them, also instead of being dropped."""
        return tuple(find_set_aside(self._layout))

    # ---- ways to a file ------------------------------------------------------------------------

    def _path(self, place: Place) -> Path:
        layout, name = self._layout, place.name
        if isinstance(place, Live):
            # Before an adoption the files lie in a plain directory.
            return layout.file(layout.live if layout.plain() else layout.live_set(), name)
        change = place.change.id
        if isinstance(place, Candidate):
            found: Path | None = layout.next_set(change)
        else:
            found = layout.previous_set(change)
        if found is None or not layout.file(found, name).is_file():
            raise SetMissing(database=f"{place.role.value} {name} ({change})")
        return layout.file(found, name)

    def _mode(self, path: Path) -> str:
        """A frozen set is opened without locks, unless a journal beside it must be read too."""
        if not path.is_file():
            raise SetMissing(database=path)
        frozen = not path.lstat().st_mode & 0o200
        wal = path.with_name(path.name + "-wal")
        left = os.path.lexists(wal) and wal.lstat().st_size
        return "frozen" if frozen and not left else "ro"

    def _reading(self, path: Path, name: str) -> _Reading:
        return _Reading(path, self._mode(path), name)

    def _state(self, path: Path, name: str) -> Marker | None:
        return self._state_in(self._reading(path, name))

    @staticmethod
    def _state_in(reading: _Reading) -> Marker | None:
        with reading as database:
            if not database.execute(TABLES.exists).fetchone():
                return None
            return ledger.marker(database.execute(TABLES.select_state).fetchall())

    def _source(self, change: ChangeRef) -> Path:
        if change.source is None:
            return self._layout.live_set()
        kept = self._layout.previous_set(change.source)
        if kept is None:
            raise SetMissing(database=f"previous of {change.source}")
        return kept


class _Reading:
    """An open database for a block; the driver's errors become ours."""

    def __init__(self, path: Path, mode: str, name: str) -> None:
        self._path = path
        self._opened = connect(path, mode)
        self._name = name

    def __enter__(self) -> sqlite3.Connection:
        return self._opened.__enter__()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._opened.__exit__(None, None, None)
        if isinstance(error, sqlite3.Error):
            raise DatabaseError(database=self._name, detail=said(error)) from error
