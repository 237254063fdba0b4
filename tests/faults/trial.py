"""One site on which cells are tried one after the other, and what must be true after each.

The old release's databases are the originals throughout: where a change was committed, the kept
previous databases are put back by hand, so that every cell begins from the very same objects. In
place the originals are migrated, and so they are where a release works on the live ones or only
marks them: then every cell begins from copies of spare ones.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from demo.databases import PostgresPlace, SqlitePlace
from demo.embedded_postgres import EmbeddedPostgres
from demo.site import DemoSite, SiteOptions, digests, version_of
from ncen_updater.agent.adapters.databases.base import DatabaseRole, LiveDatabase
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    DatabaseAttributes,
    apply_attributes,
    read_attributes,
)
from ncen_updater.agent.engine.lock import read_lock_holder
from ncen_updater.agent.engine.observed_state import ADOPTED
from ncen_updater.agent.engine.schema_fingerprints import read_schemas
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import StepName, StepState
from ncen_updater.agent.model.event_names import CHANGE_LOCK_FILE, JOURNAL_FILE
from ncen_updater.agent.reports.diagnostics.verify import verify_site
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.site_files.directory_index import get_snapshot_directory
from ncen_updater.common.findings import Severity
from ncen_updater.common.progress import SilentProgress
from tests.faults.cells import Cell, Strike
from tests.faults.kinds import FILES, Kind
from tests.faults.nursery import Nursery, shared
from tests.support.sites import TrialFeed, connect, serve, site_in_process
from tests.support.trees import remove_tree

if TYPE_CHECKING:
    import psycopg

OLD, NEW = "3.2.4", "3.3.0"
MOST_RESUMES = 6
#: A language that no release has.
WORDS, OWN_WORDS = "i18n/sw.json", '{"title": "nCEN", "menu": {"search": "Tafuta"}}'


class BrokenPromiseError(AssertionError):
    """A promise that was not kept."""


@dataclass(frozen=True)
class Outcome:
    """How a cell ended.

    Attributes:
        version: The one whole version that runs.
        resumes: How many resumes it took.
        struck: Whether the (last) fault struck at all.
    """

    version: str
    resumes: int
    struck: bool


class Trial:
    """A site, its feed, and the expected rows of both releases."""

    def __init__(
        self,
        demo: DemoSite,
        server: EmbeddedPostgres | None,
        nursery: Nursery,
        kind: Kind = FILES,
    ) -> None:
        self.demo = demo
        self._kind = kind
        self.server = server
        self._nursery = nursery
        self._saved = demo.root.with_name("saved")
        self._spares: dict[str, DatabaseAttributes] = {}
        more_pictures(demo.photos)
        self._save()
        self._make_spares()
        self._pictures = {OLD: pictures(demo.photos)}
        self.expected = {OLD: digests(demo)}
        self.attributes = self._attributes()
        self.run(Cell("upgrade", ()))
        self._pictures[NEW] = pictures(demo.photos)
        if self._pictures[NEW] == self._pictures[OLD]:
            raise BrokenPromiseError(
                "the new release touches no picture: the trial would show nothing"
            )
        self.expected[NEW] = digests(demo)
        if (self.expected[NEW] == self.expected[OLD]) is not kind.same_rows:
            raise BrokenPromiseError(
                "the releases do not differ in their rows: the trial would show nothing"
            )

    # ---- one cell ------------------------------------------------------------------------------

    def run(self, cell: Cell) -> Outcome:
        """Try one cell from a fresh site.

        Raises:
            BrokenPromiseError: If a promise was not kept; the message names it.
        """
        self.reset(NEW if cell.operation == "rollback" else OLD)
        output = self.operate(cell.operation, cell.strikes)
        struck = output.count("strike ") == len(cell.strikes)
        return Outcome(*self.settle(), struck)

    def operate(self, operation: str, strikes: tuple[Strike, ...] = ()) -> str:
        """Run one operation in a process of its own; kill it where it hangs. Returns its output."""
        lines: list[str] = []
        for line in self._nursery.run(self._argv(operation, strikes)):
            lines.append(line)
            if line.startswith("strike hang"):
                if read_lock_holder(self.demo.state / CHANGE_LOCK_FILE) is None:
                    raise BrokenPromiseError("a process at work does not hold the lock")
                self._nursery.kill()
        return "".join(lines) + f"exit {self._nursery.returncode}\n"

    def _argv(self, operation: str, strikes: tuple[Strike, ...] = ()) -> list[str]:
        return [str(self.demo.config_path), operation, Cell(operation, strikes).encode()]

    def start(self, operation: str) -> subprocess.Popen[str]:
        """Start one operation in an interpreter of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "tests.faults.worker", *self._argv(operation)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            cwd=Path(__file__).parents[2],
        )

    def settle(self) -> tuple[str, int]:
        """Resume until no change is open, then check every promise."""
        resumes = 0
        while True:
            output = self.operate("resume-auto")
            if output.endswith("exit 0\n") and not self._is_open():
                break
            resumes += 1
            if resumes >= MOST_RESUMES:
                raise BrokenPromiseError(f"recovery does not come to an end: {output}")
        return self.judge(), resumes

    def judge(self) -> str:
        """Return the one whole version that the site runs, with every record.

        Raises:
            BrokenPromiseError: If it is not so.
        """
        seen = version_of(self.demo)
        if seen.whole is None or seen.reported is None:
            raise BrokenPromiseError(f"a mixture, or nothing that runs: {seen}")
        rows = digests(self.demo)
        expected = self.expected.get(seen.whole, rows)
        if seen.whole == OLD:
            # What a down migration parks comes on top of every row of the old release.
            rows = {key: digest for key, digest in rows.items() if key in expected}
        if rows != expected:
            different = {k for k in rows if rows[k] != expected.get(k)}
            raise BrokenPromiseError(f"rows of {seen.whole} differ in {sorted(different)}")
        if self.demo.maintenance_file.exists():
            raise BrokenPromiseError("officers are kept out")
        site = site_in_process(self.demo)
        candidates = [
            row for row in site.database_engine.list_leftovers() if row[1] is DatabaseRole.CANDIDATE
        ]
        if candidates:
            raise BrokenPromiseError(f"copies were left: {candidates}")
        if site.database_engine.list_quarantined():
            raise BrokenPromiseError(
                f"kept although nobody wrote: {site.database_engine.list_quarantined()}"
            )
        with Journal.open(self.demo.state / JOURNAL_FILE) as journal:
            strict = [
                f
                for f in verify_site(site, journal, SilentProgress())
                if f.severity is Severity.CRITICAL
            ]
            committed = [
                change.to_version
                for change in journal.list_changes()
                if change.get_step_state(StepName.COMMIT) is StepState.DONE
            ]
        if strict:
            raise BrokenPromiseError(f"verify finds {[f'{f.code} {f.title}' for f in strict]}")
        should = committed[0] if committed else self._began
        if seen.whole != should:
            raise BrokenPromiseError(f"the journal committed {should}, the site runs {seen.whole}")
        self._judge_words(site, seen.whole, committed)
        if self._attributes() != self.attributes:
            raise BrokenPromiseError(f"owner, grants or settings differ: {self._attributes()}")
        self._no_orphans()
        self._judge_pictures(seen.whole, committed)
        return seen.whole

    def _judge_words(self, site: Site, version: str, committed: list[str]) -> None:
        """The country's own texts as they were, and merged for the release that runs."""
        layer = site.overlay
        if layer is None:
            return  # a trial that configures the site again
        if (self.demo.country / WORDS).read_text("utf-8") != OWN_WORDS:
            raise BrokenPromiseError("the country's own file was changed")
        if len(committed) == (self._began == NEW) and layer.read_current() != self._words:
            raise BrokenPromiseError(
                f"merged texts are {layer.read_current()}, and were {self._words}"
            )
        if not layer.is_built_for(Version(version)):
            raise BrokenPromiseError(f"{version} runs with the texts of {layer.read_current()}")

    def _judge_pictures(self, version: str, committed: list[str]) -> None:
        """Every picture where this version looks for it; exactly as before if nothing came of it.

        A rollback after the commit only adds: what the newer release moved has both names.
        """
        if version not in self._pictures:
            return
        found, expected = pictures(self.demo.photos), self._pictures[version]
        since = len(committed) - (self._began == NEW)
        if since > 0:  # directories are as old as that change
            found, expected = (
                {
                    path: item if item[0] == "f" else (*item[:2], 0, b"")
                    for path, item in each.items()
                }
                for each in (found, expected)
            )
        if (committed and version == OLD) or since > 1:
            found = {path: item for path, item in found.items() if path in expected}
        if found != expected:
            wrong = {p for p in {*found, *expected} if found.get(p) != expected.get(p)}
            raise BrokenPromiseError(f"pictures of {version} differ: {sorted(wrong)[:10]}")
        place = get_snapshot_directory(self.demo.photos)
        with Journal.open(self.demo.state / JOURNAL_FILE, read_only=True) as journal:
            done = {c.id for c in journal.list_changes() if c.get_step_state(StepName.COMMIT)}
        left = {item.name for item in place.iterdir()} - done if place.exists() else set()
        if left:
            raise BrokenPromiseError(f"kept pictures were left: {left}")

    def _is_open(self) -> bool:
        with Journal.open(self.demo.state / JOURNAL_FILE, read_only=True) as journal:
            return journal.find_open_change() is not None

    # ---- from the same beginning ---------------------------------------------------------------

    def _chosen(self) -> str:
        return (self.demo.merged / "current").readlink().name

    def _save(self) -> None:
        shutil.copytree(self.demo.merged, self._saved / "merged", symlinks=True)
        shutil.copytree(self.demo.state, self._saved / "state")
        shutil.copytree(self.demo.photos, self._saved / "photos", symlinks=True)
        if isinstance(self.demo.databases, SqlitePlace):
            shutil.copytree(self.demo.databases.directory, self._saved / "sqlite", symlinks=True)

    def reset(self, version: str = OLD) -> None:
        """Bring the site back to a fresh old release, or to one that was upgraded well."""
        if self.server is not None and self.server.pid() is None:
            self.server.start()
        self._began = OLD
        remove_tree(self.demo.merged)
        shutil.copytree(self._saved / "merged", self.demo.merged, symlinks=True)
        self._words = self._chosen()
        if version_of_code(self.demo) != OLD or not self.demo.app_running():
            self.demo.stop_app()
        self._reset_databases()
        remove_tree(self.demo.state)
        shutil.copytree(self._saved / "state", self.demo.state)
        remove_tree(self.demo.photos)
        remove_tree(get_snapshot_directory(self.demo.photos))
        shutil.copytree(self._saved / "photos", self.demo.photos, symlinks=True)
        self.demo.maintenance_file.unlink(missing_ok=True)
        for item in self.demo.slots.iterdir():
            if item.name not in (OLD, ".records"):
                remove_tree(item)
        remove_tree(self.demo.slots / ".records" / NEW)
        self.demo.current.unlink()
        self.demo.current.symlink_to(self.demo.slots / OLD)
        if not self.demo.app_running():
            self.demo.start_app()
        if version == NEW:
            output = self.operate("upgrade")
            if not output.endswith("exit 0\n"):
                raise BrokenPromiseError(f"a plain upgrade failed: {output}")
            self._began = NEW
            self._words = self._chosen()
            self._pictures[NEW] = pictures(self.demo.photos)

    def _reset_databases(self) -> None:
        place = self.demo.databases
        if isinstance(place, SqlitePlace):
            remove_tree(place.directory)
            shutil.copytree(self._saved / "sqlite", place.directory, symlinks=True)
            return
        if self._spares:
            self._restore_spares(place)
            self._empty_control(f"{place.prefix}control")
            return
        with self._superuser() as connection:
            for physical in place.names.values():
                rows = connection.execute(
                    "SELECT datname FROM pg_database WHERE datname LIKE %s",
                    (physical.replace("_", r"\_") + r"\_\_prev\_%",),
                ).fetchall()
                # The oldest previous set is the original one.
                kept = [name for (name,) in rows]
                if kept:
                    connection.execute(f'DROP DATABASE IF EXISTS "{physical}" WITH (FORCE)')
                    original = self._originals[physical]
                    row = connection.execute(
                        "SELECT datname FROM pg_database WHERE oid = %s", (original,)
                    ).fetchone()
                    if row is None:
                        raise BrokenPromiseError(f"the original of {physical} is gone")
                    connection.execute(f'ALTER DATABASE "{row[0]}" ALLOW_CONNECTIONS true')
                    connection.execute(f'ALTER DATABASE "{row[0]}" RENAME TO "{physical}"')
            rows = connection.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE %s", (r"%\_\_%",)
            ).fetchall()
            for (name,) in rows:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        self._empty_control(f"{place.prefix}control")

    def _make_spares(self) -> None:
        place = self.demo.databases
        if not isinstance(place, PostgresPlace) or not self._kind.stays:
            return
        self.demo.stop_app()
        with self._superuser() as connection:
            for physical in place.names.values():
                self._spares[physical] = read_attributes(connection, physical)
                connection.execute(f'CREATE DATABASE "spare_{physical}" TEMPLATE "{physical}"')
        self.demo.start_app()

    def _restore_spares(self, place: PostgresPlace) -> None:
        with self._superuser() as connection:
            found = connection.execute("SELECT datname FROM pg_database").fetchall()
            for (name,) in found:
                if name in self._spares or "__" in name:
                    connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            limits = {row[0]: row[3] for row in self.attributes}
            for physical, attributes in self._spares.items():
                connection.execute(
                    f'CREATE DATABASE "{physical}" TEMPLATE "spare_{physical}"'
                    f" CONNECTION LIMIT {limits[physical]}"
                )
                apply_attributes(connection, attributes, physical)

    def _empty_control(self, name: str) -> None:
        """Empty the control database: a real site makes it once and keeps it."""
        import psycopg

        if self.server is None:
            return
        try:
            connection = psycopg.connect(self.server.conninfo(name), autocommit=True)
        except psycopg.OperationalError:
            return  # not made yet: the very first change makes it
        with connection:
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            ).fetchall()
            for (table,) in tables:
                connection.execute(f'TRUNCATE public."{table}"')

    # ---- PostgreSQL ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _superuser(self) -> Iterator[psycopg.Connection[Any]]:
        import psycopg

        if self.server is None:
            raise BrokenPromiseError("no server")
        with psycopg.connect(self.server.conninfo(), autocommit=True) as connection:
            yield connection

    def _attributes(self) -> list[tuple[Any, ...]]:
        """Owner, grants, limits, settings of the live databases; object ids the first time."""
        place = self.demo.databases
        if not isinstance(place, PostgresPlace):
            return []
        with self._superuser() as connection:
            rows = connection.execute(
                "SELECT d.datname, d.oid, r.rolname, d.datacl::text, d.datconnlimit,"
                " d.datallowconn, array(SELECT setconfig::text FROM pg_db_role_setting s"
                " WHERE s.setdatabase = d.oid ORDER BY 1)"
                " FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba"
                " WHERE d.datname = ANY(%s) ORDER BY 1",
                (list(place.names.values()),),
            ).fetchall()
        if not hasattr(self, "_originals"):
            self._originals = {row[0]: row[1] for row in rows}
        return [(row[0], *row[2:]) for row in rows]

    def _no_orphans(self) -> None:
        if self.server is None:
            return
        with self._superuser() as connection:
            known = {str(oid) for (oid,) in connection.execute("SELECT oid FROM pg_database")}
        there = {item.name for item in (self.server.data / "base").iterdir()}
        orphans = {name for name in there if name.isdigit()} - known
        if orphans:
            raise BrokenPromiseError(f"directories of interrupted copies were left: {orphans}")


def more_pictures(directory: Path) -> None:
    """Bring a stand-in's pictures to twenty, of different rights, and lent ones below."""
    for number in range(20 - len(list(directory.glob("*.*")))):
        picture = directory / f"more-{number}.jpg"
        picture.write_bytes(bytes([number]) * (number + 1))
        picture.chmod(0o640 if number % 2 else 0o444)
    lent = directory / "lent"
    lent.mkdir(mode=0o750)
    (lent / "plan").write_bytes(b"a plan of the store")
    (lent / "latest").symlink_to("plan")


def pictures(directory: Path) -> dict[str, tuple[str, int, int, bytes]]:
    """Everything in a directory: kind, mode, time of writing and content, by path."""
    found = {}
    for path in (directory, *directory.rglob("*")):
        look = path.lstat()
        kind = "d" if path.is_dir() else "f"
        content = path.read_bytes() if kind == "f" else b""
        name = str(path.relative_to(directory))
        found[name] = (kind, look.st_mode, look.st_mtime_ns, content)
    return found


def version_of_code(demo: DemoSite) -> str:
    """The version that ``current`` leads to."""
    release = json.loads((demo.current / "app" / "release.json").read_text("utf-8"))
    return str(release["version"])


def _own_words(demo: DemoSite) -> None:
    """Give the site texts of its own, merged for the release that runs."""
    (demo.country / WORDS).parent.mkdir()
    (demo.country / WORDS).write_text(OWN_WORDS, "utf-8")
    layer = site_in_process(demo).overlay
    assert layer is not None
    layer.switch_current(layer.build_merged(None, Version(OLD)))


def _know_schemas(demo: DemoSite) -> None:
    """Write down what the schemas are, as ``adopt`` does: what changes them otherwise is found."""
    schemas = read_schemas(site_in_process(demo).database_engine, LiveDatabase)
    with Journal.open(demo.state / JOURNAL_FILE) as journal:
        journal.record_event(
            ADOPTED, release=OLD, generation=0,
            fingerprints=dict(schemas.fingerprints), schema_kinds=dict(schemas.kinds),
        )  # fmt: skip


@contextlib.contextmanager
def trial(
    directory: Path,
    server: EmbeddedPostgres | None,
    *,
    prefix: str = "ncen_",
    cases: int = 20,
    kind: Kind = FILES,
) -> Iterator[Trial]:
    """Lay out a site on a server, or on SQLite files where there is none.

    Args:
        directory: Where.
        server: The database server.
        prefix: Of the names of the databases.
        cases: How many the stand-in has.
        kind: What the new release changes.
    """
    feed = TrialFeed(directory)
    moving = "arrange-photos = true\n"
    if kind.packs:
        feed.publish([OLD])
        feed.publish([NEW], packs=True, faults=moving)
    else:
        feed.publish([OLD, NEW], faults=moving, made=kind.made)
    place = (
        PostgresPlace(str(server.host), prefix=prefix, programs=server.binaries.directory)
        if server
        else None
    )
    with serve(feed.directory) as url:
        options = SiteOptions(
            feed_urls=(url,), cases=cases, icomm=False, soak_s=0.2, soak_interval_s=0.1,
            health_timeout_s=60.0, schema_number=1 if kind.made else None,
        )  # fmt: skip
        with DemoSite(directory / "site", place, options) as demo:
            connect(demo, feed)
            demo.configure(demo.own_words())
            _own_words(demo)
            demo.start_app()
            _know_schemas(demo)
            yield Trial(demo, server, Nursery(forks=shared()), kind)
