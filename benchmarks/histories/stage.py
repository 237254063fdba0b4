"""The site of the histories: created once, saved as a template, and restored from it by copying."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from benchmarks.histories.picture import picture, superuser
from benchmarks.histories.strikes import descendants, read_state
from demo.databases import (
    DATABASES,
    PostgresPlace,
    SiteDatabases,
    SqlitePlace,
    apply_release,
)
from demo.embedded_postgres import EmbeddedPostgres, find_binaries
from demo.releases import assemble, releases
from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.model.errors import JournalUnreadableError
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from tests.faults.nursery import Nursery
from tests.support.postgres import FAST_SETTINGS
from tests.support.sites import TrialFeed, connect, serve

START = "3.2.4"
AGENT = "benchmarks.histories.agent"
#: Releases that run; a reference for each is created by hand.
GOOD = (START, "3.3.0", "3.3.6", "3.3.9", "3.3.10", "3.4.0")
WAYS = {"3.4.0": ("3.3.10", "3.4.0")}
IMPORTER, REPORTER = "importer", "reporter"
CASES = 12
STATE_MB, DISK_MB = 64, 1200
SETTINGS = ("max_wal_size=64MB", "min_wal_size=32MB", "autovacuum_naptime=5s")


class Stage:
    """A site with its server and its feed, in one directory in memory.

    Args:
        engine: ``postgresql`` or ``sqlite``.
        server: Major version of the server.
    """

    def __init__(self, engine: str, server: int | None) -> None:
        self.engine = engine
        self._stack = contextlib.ExitStack()
        memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.work = Path(tempfile.mkdtemp(prefix="nu-histories-", dir=memory))
        self.disk = self.work / "disk"
        self.mounted = False
        self.server: EmbeddedPostgres | None = None
        self._major = server
        self._nurseries: dict[str, Nursery] = {}
        self.expected: dict[str, dict[str, frozenset[str]]] = {}
        #: Object IDs of databases that an administrator created or dropped: PostgreSQL leaves their
        #: directories if one of its processes is killed meanwhile.
        self.administrator_oids: set[int] = set()

    def __enter__(self) -> Self:
        try:
            self._lay_out()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if hasattr(self, "demo"):
            self.delay_command(None)
        self._stack.close()
        for place in (self.disk / "site/var/lib/ncen-updater", self.disk):
            if place.is_mount():
                subprocess.run(["umount", "-l", str(place)], check=False)
        subprocess.run(["chmod", "-R", "u+w", str(self.work)], check=False)
        shutil.rmtree(self.work, ignore_errors=True)

    # ---- creating the site -----------------------------------------------------------------------

    def _lay_out(self) -> None:
        self.disk.mkdir()
        self.work.chmod(0o755)
        self.mounted = _mount(self.disk, DISK_MB)
        state = self.disk / "site/var/lib/ncen-updater"
        state.mkdir(parents=True)
        if self.mounted:
            _mount(state, STATE_MB)
        feed = TrialFeed(self.work)
        feed.publish([release.version for release in releases()])
        url = self._stack.enter_context(serve(feed.directory))
        place: SiteDatabases | None = None
        if self.engine == "postgresql":
            found = [b for b in find_binaries() if self._major in (None, b.major)]
            if not found:
                raise SystemExit(f"no PostgreSQL {self._major or ''} found: script/bootstrap demo")
            self.server = EmbeddedPostgres(found[-1], self.disk / "pg", (*FAST_SETTINGS, *SETTINGS))
            self._stack.enter_context(self.server)
            place = PostgresPlace(str(self.server.host), programs=found[-1].directory)
        options = SiteOptions(
            feed_urls=(url,), cases=CASES, icomm=False, soak_s=0.0, soak_interval_s=0.1,
            health_timeout_s=5.0,
        )  # fmt: skip
        self.demo = DemoSite(self.disk / "site", place, options)
        self._stack.callback(self.demo.close)
        self.demo.lay_out()
        connect(self.demo, feed)
        self.place = self.demo.databases
        self._create_foreign_roles()
        self.configure()
        self._build_references()
        if isinstance(self.place, PostgresPlace):
            # So that the agent's own database is in the template.
            with superuser(self.place, "postgres") as session:
                session.execute("CHECKPOINT")
        self._save()
        self.demo.start_app()
        self.demo.start_front_door()
        self._stack.callback(self.renew)
        self.attributes = self.read_attributes()

    @property
    def nursery(self) -> Nursery:
        """Return the process that runs the agent."""
        return self._nursery("first")

    @property
    def second(self) -> Nursery:
        """Return a second process that runs an agent in parallel."""
        return self._nursery("second")

    def _nursery(self, name: str) -> Nursery:
        if name not in self._nurseries:
            self._nurseries[name] = Nursery(AGENT)
        return self._nurseries[name]

    def renew(self) -> None:
        """End the processes that run the agent; the next command starts new ones."""
        # Kill processes that hang or are stopped, but only those that this process started.
        for pid in descendants(os.getpid()):
            if read_state(pid) in ("T", "t"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for nursery in self._nurseries.values():
            nursery.__exit__()
        self._nurseries.clear()

    def _create_foreign_roles(self) -> None:
        """Create roles of local programs: one that writes, one that reads."""
        if not isinstance(self.place, PostgresPlace):
            return
        with superuser(self.place, "postgres") as session:
            for role in (IMPORTER, REPORTER):
                session.execute(f"CREATE ROLE {role} LOGIN".encode())
                for physical in self.place.names.values():
                    session.execute(f'GRANT CONNECT ON DATABASE "{physical}" TO {role}'.encode())
        for physical in self.place.names.values():
            with superuser(self.place, physical) as session:
                rights = "SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public"
                session.execute(f"GRANT {rights} TO {IMPORTER}".encode())
                session.execute(
                    f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {REPORTER}".encode()
                )

    def configure(
        self,
        *,
        soak_s: float = 0.0,
        health_timeout_s: float = 6.0,
        stop_timeout_s: float = 8.0,
        previous_days: float = 7.0,
    ) -> None:
        """Write the agent's configuration."""
        tables: dict[str, Any] = tomllib.loads(self.demo.config_path.read_text("utf-8"))
        tables.pop("schema")
        application = dict(tables["application"])
        # As the guide says, the link is resolved first; then the command may be slow.
        words = 'app=$(readlink -f "$1"); [ -f "$2" ] && sleep $(cat "$2"); exec "$3" -B "$app/app/bin/ncenctl" "$4"'  # noqa: E501
        for act in ("start", "stop"):
            slow = str(self.disk / f"slow-{act}")
            application[act] = [
                "/bin/sh", "-c", words, "sh", str(self.demo.current), slow, sys.executable, act
            ]  # fmt: skip
        application.update(
            health_timeout_s=health_timeout_s, stop_timeout_s=stop_timeout_s, probe_timeout_s=3.0
        )
        self.demo.configure(
            {
                "application": application,
                "soak": {"seconds": soak_s, "interval_s": 0.1},
                "retention": {"previous_days": previous_days},
            }
        )

    def _build_references(self) -> None:
        """Create each release by hand from the same records, as the reference for comparisons."""
        with tempfile.TemporaryDirectory(prefix="nu-hand-") as directory:
            root = Path(directory)
            for version in GOOD:
                place = self._by_hand(root / f"set-{version}")
                for hop in WAYS.get(version, (version,)):
                    source = root / f"source-{version}-{hop}"
                    if hop != START:
                        apply_release(place, assemble(hop, source))
                self.expected[version] = picture(place)
        if isinstance(self.place, PostgresPlace):
            with superuser(self.place, "postgres") as session:
                for name in DATABASES:
                    session.execute(f"DROP DATABASE hand_{name} WITH (FORCE)".encode())

    def _by_hand(self, directory: Path) -> SiteDatabases:
        if isinstance(self.place, SqlitePlace):
            shutil.copytree(self.place.directory, directory, symlinks=True)
            return SqlitePlace(directory)
        with superuser(self.place, "postgres") as session:
            for name in DATABASES:
                session.execute(f"DROP DATABASE IF EXISTS hand_{name} WITH (FORCE)".encode())
                words = (
                    f'CREATE DATABASE hand_{name} TEMPLATE "{self.place.names[name]}" OWNER ncen'
                )
                session.execute(words.encode())
        return PostgresPlace(self.place.host, prefix="hand_")

    # ---- restoring the site ----------------------------------------------------------------------

    def _parts(self) -> dict[str, Path]:
        parts = {
            "state": self.demo.state,
            "slots": self.demo.slots,
            "overlay": self.demo.overlay,
        }
        if self.server is not None:
            parts["pg"] = self.server.data
        if isinstance(self.place, SqlitePlace):
            parts["sqlite"] = self.place.directory
        return parts

    def _save(self) -> None:
        if self.server is not None:
            self.server.stop()
        (self.work / "saved").mkdir()
        for name, part in self._parts().items():
            subprocess.run(["cp", "-a", str(part), str(self.work / "saved" / name)], check=True)
        if self.server is not None:
            self.server.start()

    def reset(self) -> None:
        """Restore a fresh site of the first release."""
        self.demo.stop_app()
        if self.server is not None:
            self.server.kill()
        for name, part in self._parts().items():
            subprocess.run(["chmod", "-R", "u+w", str(part)], check=True)
            for item in part.iterdir():
                shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
            subprocess.run(["cp", "-a", f"{self.work / 'saved' / name}/.", str(part)], check=True)
        self.demo.maintenance_file.unlink(missing_ok=True)
        self.demo.current.unlink()
        self.demo.current.symlink_to(self.demo.slots / START)
        if self.server is not None:
            self.server.start()
        self.configure()
        self.demo.start_app()

    def keep(self, place: Path) -> None:
        """Copy the whole site in its current state for later inspection."""
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", str(self.disk), str(place)], check=False)

    # ---- observing the site ----------------------------------------------------------------------

    @property
    def sets(self) -> list[Path]:
        """Return every SQLite file of the site outside of the live set."""
        if not isinstance(self.place, SqlitePlace):
            return []
        live = (self.place.directory / "live").resolve()
        return [
            path for path in sorted(self.place.directory.rglob("*.sqlite"))
            if path.parent.resolve() != live
        ]  # fmt: skip

    def list_other_databases(self) -> dict[str, bool]:
        """Return every non-live database of the server, and whether it accepts connections."""
        if not isinstance(self.place, PostgresPlace):
            return {}
        with superuser(self.place, "postgres") as session:
            rows = session.execute(
                "SELECT datname, datallowconn FROM pg_database WHERE datname LIKE %s",
                (f"{self.place.prefix}%",),
            ).fetchall()
        live = {*self.place.names.values(), f"{self.place.prefix}control"}
        return {str(name): bool(may) for name, may in rows if name not in live}

    def read_live(self) -> dict[str, bool | None]:
        """Return for each live database whether it accepts connections; None if it is missing."""
        if isinstance(self.place, SqlitePlace):
            live = self.place.directory / "live"
            fenced = next(self.place.directory.glob("live.fenced-*"), live)
            found = live if live.is_symlink() else fenced
            return {
                name: live.is_symlink() if (found / f"{name}.sqlite").is_file() else None
                for name in DATABASES
            }
        with superuser(self.place, "postgres") as session:
            rows = dict(session.execute("SELECT datname, datallowconn FROM pg_database").fetchall())
        return {name: rows.get(name) for name in self.place.names.values()}

    def read_attributes(self) -> dict[str, tuple[Any, ...]]:
        """Return owner, grants, limits and settings of the live databases by physical name."""
        if not isinstance(self.place, PostgresPlace):
            return {}
        with superuser(self.place, "postgres") as session:
            rows = session.execute(
                "SELECT d.datname, r.rolname, array(SELECT unnest(d.datacl)::text ORDER BY 1),"
                " d.datconnlimit, d.datallowconn, array(SELECT setconfig::text"
                " FROM pg_db_role_setting s WHERE s.setdatabase = d.oid ORDER BY 1)"
                " FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba"
                " WHERE d.datname = ANY(%s) ORDER BY 1",
                (list(self.place.names.values()),),
            ).fetchall()
        return {str(row[0]): tuple(row[1:]) for row in rows}

    def open_change(self) -> tuple[str, str] | None:
        """Return id and state of the unfinished change; an interrupted journal has one."""
        try:
            journal = Journal.open(self.demo.state / JOURNAL_FILE, read_only=True)
        except JournalUnreadableError:  # interrupted: a writer must recover it first
            return ("", "torn")
        with journal:
            change = journal.find_open_change()
        return (change.id, str(change.state)) if change else None

    def events(self) -> list[tuple[str, str]]:
        """Return kind and data of every event of the journal."""
        with Journal.open(self.demo.state / JOURNAL_FILE, read_only=True) as journal:
            return [(e.kind, json.dumps(e.data, default=str)) for e in journal.list_events()]

    # ---- the machine ---------------------------------------------------------------------------

    def delay_command(self, seconds: float | None, act: str = "stop") -> None:
        """Delay the application's command, or end the delay."""
        place = self.disk / f"slow-{act}"
        if seconds is None:
            place.unlink(missing_ok=True)
        else:
            place.write_text(f"{seconds}")

    def fill(self, what: str) -> bool:
        """Fill a disk; return False if that is impossible here."""
        place = self.demo.state if what == "state" else self.disk
        if not place.is_mount():
            return False
        filler = os.open(place / "filler", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            end, piece = 0, 256 << 20
            while piece >= 4096:
                try:
                    os.posix_fallocate(filler, end, piece)
                    end += piece
                except OSError:
                    piece //= 2
        finally:
            os.close(filler)
        return True

    def free_disks(self) -> None:
        """Remove the files that fill the disks."""
        for place in (self.demo.state, self.disk):
            (place / "filler").unlink(missing_ok=True)

    def repair(self) -> None:
        """End every fault of the machine, as an administrator does before a resume."""
        self.free_disks()
        for act in ("start", "stop"):
            self.delay_command(None, act)
        if self.server is not None:
            deadline = time.monotonic() + 30
            while not self.answers():
                if self.server.pid() is None:
                    with contextlib.suppress(Exception):
                        self.server.start()
                if time.monotonic() > deadline:
                    raise TimeoutError("the server does not come up")
                time.sleep(0.02)

    def answers(self) -> bool:
        """Return whether the server accepts sessions; always True for files."""
        if not isinstance(self.place, PostgresPlace):
            return True
        import psycopg

        try:
            with superuser(self.place, "postgres"):
                return True
        except psycopg.OperationalError:
            return False


def _mount(place: Path, megabytes: int) -> bool:
    """Mount a separate file system, so that it can be full; requires root."""
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(place)]
    if os.geteuid() != 0:
        return False
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


def locate_databases(place: SiteDatabases) -> Mapping[str, str]:
    """Return the location of each live database by logical name."""
    if isinstance(place, PostgresPlace):
        return place.names
    return {name: place.address(name) for name in DATABASES}
