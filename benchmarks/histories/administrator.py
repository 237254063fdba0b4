"""A database administrator who acts at any instant of a change.

The administrator renames databases, drops and restores them, revokes rights, opens and closes them,
and knows nothing of the change. Each action is undone later: at a later instant of the operation,
while the agent waits, or only after the operation has ended.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.histories.picture import superuser
from demo.databases import DATABASES, PostgresPlace, SiteDatabases, SqlitePlace

if TYPE_CHECKING:
    import psycopg

    from benchmarks.histories.stage import Stage

ASIDE = "of_the_administrator"
#: Object IDs of the databases created by the administrator. No other database has such an ID, so
#: leftovers can be attributed.
OIDS = range(1_000_000, 100_000_000)


class Administrator:
    """Performs one action and undoes it, as often as asked.

    Args:
        stage: The site.
        kind: ``renames``, ``drops and restores``, ``revokes CONNECT``, ``revokes LOGIN``, ``opens``
            or ``closes``.
        chance: Chooses the database, and whether the action is undone while the agent waits.
    """

    def __init__(self, stage: Stage, kind: str, chance: random.Random) -> None:
        self._stage, self._kind, self._chance = stage, kind, chance
        self._database = chance.choice(DATABASES)
        self._soon = chance.uniform(0.2, 2.5) if chance.random() < 0.35 else None
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._at_peace = False
        self.acted = self.away = False
        self.did = ""
        #: Live databases that were replaced while they were closed.
        self.replaced: tuple[str, ...] = ()
        self._before: dict[str, Any] = {}

    def act(self) -> None:
        """Perform the action; at the second call, undo it."""
        if self.acted:
            self.undo()
            return
        place = self._stage.place
        do = self._act_on_files if isinstance(place, SqlitePlace) else self._act_on_server
        try:
            with self._lock:
                self.acted = self.away = do(place)
        except Exception as error:  # noqa: BLE001 - what is refused to him is his matter
            self.did = f"refused: {error}"
        if self.away and self._soon is not None:
            self._timer = threading.Timer(self._soon, self._try_undo)
            self._timer.start()

    def _try_undo(self) -> None:
        with contextlib.suppress(Exception):
            self.undo()

    @property
    def is_steady(self) -> bool:
        """Return whether no undo is scheduled or running."""
        return self._timer is None or not self._timer.is_alive()

    def undo(self, *, open_change: bool = True) -> None:
        """Undo the action.

        Args:
            open_change: Whether a change is open, whose databases may be closed for that reason.
        """
        place = self._stage.place
        self._at_peace = not open_change
        with self._lock:
            if not self.acted:
                return
            if isinstance(place, SqlitePlace):
                self._undo_on_files(place)
            else:
                self._undo_on_server(place)
            self.away = False

    # ---- on a server -----------------------------------------------------------------------------

    def _act_on_server(self, place: SiteDatabases) -> bool:
        assert isinstance(place, PostgresPlace)
        name, aside = place.names[self._database], f"{place.names[self._database]}_{ASIDE}"
        with superuser(place, "postgres") as session:
            row = session.execute(
                "SELECT datallowconn, datacl::text, datconnlimit, shobj_description(oid,"
                " 'pg_database'), pg_get_userbyid(datdba), oid FROM pg_database WHERE datname = %s",
                (name,),
            ).fetchone()
            if row is None:
                return False
            allow, acl, limit, comment, owner, oid = row
            settings = session.execute(
                "SELECT setrole, setconfig::text FROM pg_db_role_setting s JOIN pg_database d"
                " ON d.oid = s.setdatabase WHERE d.datname = %s", (name,),
            ).fetchall()  # fmt: skip
            self._before = {
                "acl": acl, "limit": limit, "comment": comment, "owner": owner,
                "settings": settings,
            }  # fmt: skip
            self.did = f"{self._kind} {name}, {'open' if allow else 'closed'}"
            if self._kind == "renames":
                self._end_sessions(session, name)
                session.execute(f'ALTER DATABASE "{name}" RENAME TO "{aside}"'.encode())
            elif self._kind == "drops and restores":
                self._end_sessions(session, name)
                made = self._chance.choice(OIDS)
                self._stage.administrator_oids |= {int(oid), made}
                words = f'CREATE DATABASE "{aside}" OWNER "{owner}" TEMPLATE "{name}" OID {made}'
                session.execute(words.encode())
                session.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
                if not allow:
                    self.replaced = (name,)
            elif self._kind == "revokes CONNECT":
                words = f'REVOKE CONNECT ON DATABASE "{name}" FROM "{place.owner}"'
                session.execute(words.encode())
                self._end_sessions(session, name)
            elif self._kind == "revokes LOGIN":
                session.execute(f'ALTER ROLE "{place.owner}" NOLOGIN'.encode())
                session.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s",
                    (place.owner,),
                )
            elif self._kind == "opens":
                closed = session.execute(
                    "SELECT datname FROM pg_database WHERE NOT datallowconn AND datname LIKE %s"
                    " ORDER BY random() LIMIT 1", (f"{place.prefix}%",),
                ).fetchone()  # fmt: skip
                if closed is None:
                    return False
                self.did = f"opens {closed[0]}"
                words = f'ALTER DATABASE "{closed[0]}" ALLOW_CONNECTIONS true'
                session.execute(words.encode())
            else:
                session.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
                self._end_sessions(session, name)
        return True

    def _undo_on_server(self, place: SiteDatabases) -> None:
        assert isinstance(place, PostgresPlace)
        name, aside = place.names[self._database], f"{place.names[self._database]}_{ASIDE}"
        with superuser(place, "postgres") as session:
            there = {
                str(row[0]): bool(row[1])
                for row in session.execute("SELECT datname, datallowconn FROM pg_database")
            }
            if aside in there and name not in there:
                session.execute(f'ALTER DATABASE "{aside}" RENAME TO "{name}"'.encode())
                if self._kind == "drops and restores":
                    self._restore_attributes(session, name)
            elif self._kind == "revokes CONNECT" and name in there:
                words = f'GRANT CONNECT ON DATABASE "{name}" TO "{place.owner}"'
                session.execute(words.encode())
            elif self._kind == "revokes LOGIN":
                session.execute(f'ALTER ROLE "{place.owner}" LOGIN'.encode())
            elif self._kind == "closes" and name in there and (self.away or self._at_peace):
                session.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())

    def _restore_attributes(self, session: psycopg.Connection[Any], name: str) -> None:
        """Restore the attributes of a restored database, as ``pg_restore --create`` does."""
        before = self._before
        session.execute("SET allow_system_table_mods = on")
        session.execute(
            "UPDATE pg_database SET datacl = %s::aclitem[], datconnlimit = %s WHERE datname = %s",
            (before["acl"], before["limit"], name),
        )
        session.execute(
            "DELETE FROM pg_db_role_setting s USING pg_database d WHERE d.oid = s.setdatabase"
            " AND d.datname = %s", (name,),
        )  # fmt: skip
        for role, config in before["settings"]:
            session.execute(
                "INSERT INTO pg_db_role_setting SELECT oid, %s, %s::text[] FROM pg_database"
                " WHERE datname = %s", (role, config, name),
            )  # fmt: skip
        comment = (before["comment"] or "").replace("'", "''")
        session.execute(f"COMMENT ON DATABASE \"{name}\" IS '{comment}'".encode())

    @staticmethod
    def _end_sessions(session: psycopg.Connection[Any], name: str) -> None:
        session.execute(
            "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE datname = %s",
            (name,),
        )

    # ---- files ---------------------------------------------------------------------------------

    def _find_file(self, place: SqlitePlace) -> Path | None:
        """Return the live database file, fenced or not; None if there is none."""
        for link in (place.directory / "live", *place.directory.glob("live.fenced-*")):
            path = link / f"{self._database}.sqlite"
            if path.is_file():
                return path.resolve()
        return None

    def _act_on_files(self, place: SiteDatabases) -> bool:
        assert isinstance(place, SqlitePlace)
        path = self._find_file(place)
        if path is None:
            return False
        self._before = {"path": path}
        self.did = f"{self._kind} {path}"
        with self._checkpoint(path):
            if self._kind == "opens":
                fenced = next(place.directory.glob("live.fenced-*"), None)
                if fenced is None or (place.directory / "live").is_symlink():
                    return False
                (place.directory / "live").symlink_to(fenced.readlink())
            elif self._kind == "drops and restores":
                shutil.copy2(path, path.with_name(f"{path.name}.{ASIDE}"))
                path.unlink()
            elif self._kind == "renames":
                path.rename(path.with_name(f"{path.name}.{ASIDE}"))
            else:
                return False
        return True

    @contextlib.contextmanager
    def _checkpoint(self, path: Path) -> Iterator[None]:
        """Checkpoint the WAL into the database file, which is necessary before a copy."""
        import sqlite3

        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(path, timeout=2)) as session,
        ):
            session.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        yield

    def _undo_on_files(self, place: SqlitePlace) -> None:
        path: Path = self._before["path"]
        aside = path.with_name(f"{path.name}.{ASIDE}")
        if aside.exists() and not path.exists():
            aside.rename(path)
        else:
            # The directory may have been renamed.
            for found in place.directory.rglob(f"{self._database}.sqlite.{ASIDE}"):
                target = found.with_name(f"{self._database}.sqlite")
                if not target.exists():
                    found.rename(target)
