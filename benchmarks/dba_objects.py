"""Effect of an upgrade on objects that a database administrator added to a site's databases.

Each object is tested with a rehearsal, a failing upgrade, an upgrade to a release without a
rollback, and a rollback from it. The agent's role is not a superuser. Nothing is timed: in each
case the site must be consistent afterwards with every record and the object, or the operation is
refused while users work. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from packaging.version import Version

from benchmarks.report import finish, print_line
from demo.databases import PostgresPlace
from demo.embedded_postgres import EmbeddedPostgres, PostgresBinaries
from demo.evidence import database_digests
from demo.site import DemoSite, SiteOptions, version_of
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.path_selection import find_cached_path
from ncen_updater.agent.engine.rehearsal.rehearser import Rehearser
from ncen_updater.agent.model.change import StepName, new_change_id
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.upgrade_path import UpgradePath
from tests.support.postgres import FAST_SETTINGS, available
from tests.support.sites import TrialFeed, connect, serve, site_in_process

OLD, FAILING, ONE_WAY = "3.2.4", "3.3.1", "3.3.9"
DATABASE = "seizures"
ACTS = ("rehearsal", "failing upgrade", "upgrade", "rollback")


@dataclass(frozen=True)
class AdministratorObject:
    """Object that a superuser adds to one of the databases.

    Attributes:
        make: Statements that create it.
        there: Query that returns whether it exists unchanged.
        drop: Statements that remove it.
    """

    name: str
    make: Sequence[str]
    there: str
    drop: Sequence[str]


def list_objects() -> tuple[AdministratorObject, ...]:
    """Return the objects to test; the first is an empty one."""
    return (
        AdministratorObject("nothing", (), "SELECT true", ()),
        AdministratorObject(
            "untrusted extension (pg_stat_statements)",
            ("CREATE EXTENSION pg_stat_statements",),
            "SELECT count(*) = 1 FROM pg_extension WHERE extname = 'pg_stat_statements'",
            ("DROP EXTENSION pg_stat_statements",),
        ),
        AdministratorObject(
            "event trigger",
            ("CREATE FUNCTION noted() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
             "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION noted()"),
            "SELECT count(*) = 1 FROM pg_event_trigger WHERE evtenabled = 'O'",
            ("DROP EVENT TRIGGER watch", "DROP FUNCTION noted()"),
        ),
        AdministratorObject(
            "foreign data wrapper (postgres_fdw, server, mapping)",
            ("CREATE EXTENSION postgres_fdw",
             "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname 'postgres')",
             "CREATE USER MAPPING FOR ncen SERVER far OPTIONS (user 'a', password 'b')"),
            "SELECT umoptions = '{user=a,password=b}' FROM pg_user_mapping",
            ("DROP EXTENSION postgres_fdw CASCADE",),
        ),
        AdministratorObject(
            "publication FOR ALL TABLES",
            ("CREATE PUBLICATION everything FOR ALL TABLES",),
            "SELECT puballtables FROM pg_publication",
            ("DROP PUBLICATION everything",),
        ),
        AdministratorObject(
            "default privileges of postgres",
            ("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO report",),
            "SELECT count(*) = 1 FROM pg_default_acl",
            ("ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE SELECT ON TABLES FROM report",),
        ),
        AdministratorObject(
            "table of another owner",
            ("CREATE TABLE theirs AS SELECT 1 AS a",),
            "SELECT count(*) = 1 FROM theirs",
            ("DROP TABLE theirs",),
        ),
        AdministratorObject(
            "FORCE ROW LEVEL SECURITY",
            ("CREATE TABLE guarded AS SELECT 1 AS a",
             "ALTER TABLE guarded OWNER TO ncen",
             "ALTER TABLE guarded ENABLE ROW LEVEL SECURITY",
             "ALTER TABLE guarded FORCE ROW LEVEL SECURITY",
             "CREATE POLICY none ON guarded USING (a > 1)"),
            "SELECT count(*) = 1 FROM guarded",
            ("DROP TABLE guarded",),
        ),
        AdministratorObject(
            "large object of another owner",
            ("SELECT lo_from_bytea(0, 'abc')",),
            "SELECT lo_get(oid) = 'abc' FROM pg_largeobject_metadata",
            ("SELECT lo_unlink(oid) FROM pg_largeobject_metadata",),
        ),
        AdministratorObject(
            "table in a tablespace of its own",
            ("CREATE TABLE apart (a int) TABLESPACE apart",
             "INSERT INTO apart VALUES (1)",
             "ALTER TABLE apart OWNER TO ncen"),
            "SELECT count(*) = 1 FROM apart, pg_class c JOIN pg_tablespace t"
            " ON t.oid = c.reltablespace WHERE c.oid = 'apart'::regclass AND spcname = 'apart'",
            ("DROP TABLE apart",),
        ),
        AdministratorObject(
            "schema of another owner",
            ("CREATE SCHEMA closed", "CREATE TABLE closed.t AS SELECT 1 AS a",
             "ALTER TABLE closed.t OWNER TO ncen"),
            "SELECT count(*) = 1 FROM closed.t",
            ("DROP SCHEMA closed CASCADE",),
        ),
        AdministratorObject(
            "right on a function of the system",
            ("GRANT EXECUTE ON FUNCTION pg_ls_dir(text) TO report",),
            "SELECT has_function_privilege('report', 'pg_ls_dir(text)', 'EXECUTE')",
            ("REVOKE EXECUTE ON FUNCTION pg_ls_dir(text) FROM report",),
        ),
        AdministratorObject(
            "function that none but a superuser makes, in use",
            ("CREATE FUNCTION quick(int) RETURNS int LANGUAGE sql IMMUTABLE LEAKPROOF"
             " AS 'SELECT $1'",
             "ALTER FUNCTION quick(int) OWNER TO ncen",
             "CREATE TABLE uses (a int DEFAULT quick(1))",
             "ALTER TABLE uses OWNER TO ncen", "INSERT INTO uses DEFAULT VALUES",
             "CREATE VIEW used AS SELECT * FROM uses", "ALTER VIEW used OWNER TO ncen"),
            "SELECT count(*) = 1 FROM used",
            ("DROP VIEW used", "DROP TABLE uses", "DROP FUNCTION quick(int)"),
        ),
        AdministratorObject(
            "trusted extension, in use (btree_gist)",
            ("CREATE EXTENSION btree_gist",
             "CREATE TABLE spans (a int, EXCLUDE USING gist (a WITH =))",
             "ALTER TABLE spans OWNER TO ncen"),
            "SELECT count(*) = 1 FROM pg_constraint WHERE contype = 'x'",
            ("DROP TABLE spans", "DROP EXTENSION btree_gist"),
        ),
        AdministratorObject(
            "subscription",
            ("CREATE SUBSCRIPTION hears CONNECTION 'dbname=nowhere' PUBLICATION p"
             " WITH (connect = false, slot_name = NONE)",),
            "SELECT count(*) = 1 FROM pg_subscription",
            ("DROP SUBSCRIPTION hears",),
        ),
        AdministratorObject(
            "logical replication slot",
            ("SELECT pg_create_logical_replication_slot('told', 'pgoutput')",),
            "SELECT count(*) = 1 FROM pg_replication_slots",
            ("SELECT pg_drop_replication_slot('told')",),
        ),
    )  # fmt: skip


class Trial:
    """One site, on which all objects are tested in turn."""

    def __init__(self, demo: DemoSite, server: EmbeddedPostgres) -> None:
        self.demo, self.server = demo, server
        place = demo.databases
        assert isinstance(place, PostgresPlace)
        self.place = place
        #: As superuser, so that the digests include the rows of the object.
        self.everything = replace(place, owner=place.superuser)

    def sql(self, *statements: str, database: str | None = None) -> list[tuple[object, ...]]:
        """Run statements as the superuser; return the rows of the last one."""
        found: list[tuple[object, ...]] = []
        physical = database or self.place.names[DATABASE]
        conninfo = self.place.conninfo(physical, self.place.superuser)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                found = cursor.fetchall() if cursor.description else []
        return found

    def try_all(self, thing: AdministratorObject) -> Iterator[str]:
        """Yield the result of each operation, in order.

        Raises:
            UnusableSiteError: If the site cannot be used for the next object.
        """
        self.sql(*thing.make)
        digests = database_digests(self.everything)
        acts = self._operations
        yield self._act(thing, digests, self._rehearse)
        yield self._act(thing, digests, lambda: acts().upgrade(Version(FAILING), retry=True))
        said = self._act(thing, None, lambda: acts().upgrade(Version(ONE_WAY), retry=True))
        yield said
        if said == "done":
            yield self._act(thing, digests, lambda: acts().rollback(accept_loss=0))
        else:
            yield "-"
        if version_of(self.demo).whole != OLD:
            raise UnusableSiteError
        self.sql(*thing.drop)

    def _operations(self) -> Operations:
        return Operations(site_in_process(self.demo), SilentProgress())

    def _rehearse(self) -> str:
        site = site_in_process(self.demo)
        operations = Operations(site, SilentProgress())
        with operations.lock_idle_site("rehearse") as journal:
            path = find_cached_path(site, journal, Version(ONE_WAY), retry=True)
            if not isinstance(path, UpgradePath):
                raise UnusableSiteError
            record = Rehearser(site, journal, SilentProgress(), new_change_id).rehearse(path)
        return "done, told" if record.report and record.report.missing_objects else "done"

    def _act(
        self, thing: AdministratorObject, digests: dict[str, str] | None, act: Callable[[], object]
    ) -> str:
        """Run an operation; return its result, in bold if a promise was broken.

        Args:
            thing: The added object.
            digests: Expected digests of the rows afterwards; None if they change.
            act: The operation.
        """
        before = self._times_out()
        try:
            result = act()
            said = result if isinstance(result, str) else "done"
        except UpdaterError as error:
            found = error.values.get("findings")
            codes = ", ".join(map(str, found)) if isinstance(found, list) else error.code
            out = self._times_out() > before
            said = f"undone ({codes})" if out else f"refused ({codes})"
            digests = digests if out else None
        wrong = self._wrong(thing, digests)
        return f"**{wrong}** {said}" if wrong else said

    def _times_out(self) -> int:
        """Return the number of changes that caused downtime."""
        with Journal.open(self.demo.state / JOURNAL_FILE, read_only=True) as journal:
            return sum(StepName.MAINTENANCE_ON in change.steps for change in journal.list_changes())

    def _wrong(self, thing: AdministratorObject, digests: dict[str, str] | None) -> str:
        """Describe the broken promises; empty if there are none."""
        with Journal.open(self.demo.state / JOURNAL_FILE, read_only=True) as journal:
            if journal.find_open_change() is not None:
                return "STUCK"
        if self.demo.maintenance_file.exists():
            return "OFFICERS OUT"
        if version_of(self.demo).whole is None:
            return "MIXTURE"
        try:
            there = self.sql(thing.there)
        except psycopg.Error:
            there = []
        if there != [(True,)]:
            return "OBJECT GONE"
        if digests is not None:
            found = database_digests(self.everything)
            # Ignore further tables: a down migration may park rows.
            if {key: found.get(key) for key in digests} != digests:
                return "ROWS DIFFER"
        return ""


class UnusableSiteError(Exception):
    """Site that cannot be used for the next object."""


@contextmanager
def trial(server: EmbeddedPostgres, feed: TrialFeed, url: str) -> Iterator[Trial]:
    """Lay out a site; remove it completely from the server afterwards."""
    place = PostgresPlace(str(server.host), prefix="dba_", programs=server.binaries.directory)
    options = SiteOptions(feed_urls=(url,), cases=5, icomm=False, soak_s=0.0)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="nu-dba-") as directory,
            DemoSite(Path(directory) / "site", place, options) as demo,
        ):
            connect(demo, feed)
            demo.start_app()
            site_in_process(demo).release_source.refresh()
            yield Trial(demo, server)
    finally:
        _clear(server, place.prefix)


def _clear(server: EmbeddedPostgres, prefix: str) -> None:
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        for name, allowed in admin.execute(
            "SELECT datname, datallowconn FROM pg_database WHERE starts_with(datname, %s)", [prefix]
        ).fetchall():
            if not allowed:
                admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())
            with psycopg.connect(server.conninfo(name), autocommit=True) as inside:
                for (sub,) in inside.execute(
                    "SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid"
                    " WHERE d.datname = current_database()"
                ).fetchall():
                    inside.execute(f'DROP SUBSCRIPTION "{sub}"'.encode())
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def run(binaries: PostgresBinaries, wanted: Sequence[str]) -> dict[str, list[str]]:
    """Test every object on one version of the server; return the cells by object."""
    table: dict[str, list[str]] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nu-dba-")))
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nu-dba-pg-")))
        feed = TrialFeed(directory)
        feed.publish([OLD, FAILING, ONE_WAY])
        url = stack.enter_context(serve(feed.directory))
        server = stack.enter_context(EmbeddedPostgres(binaries, data, FAST_SETTINGS))
        apart = data / "apart"
        apart.mkdir()
        shutil.chown(apart, (data / "data").owner())
        with psycopg.connect(server.conninfo(), autocommit=True) as admin:
            admin.execute("CREATE ROLE report")
            admin.execute(f"CREATE TABLESPACE apart LOCATION '{apart}'".encode())
        left = [t for t in list_objects() if not wanted or any(w in t.name for w in wanted)]
        while left:
            with trial(server, feed, url) as made:
                while left:
                    thing = left.pop(0)
                    cells = table.setdefault(thing.name, [])
                    try:
                        cells += made.try_all(thing)
                        done = True
                    except (UnusableSiteError, psycopg.Error) as error:
                        print_line(f"a new site: {error!r}")
                        done = False
                    print_line(f"{binaries.major}: {thing.name}: {', '.join(cells)}")
                    if not done:
                        break
    return table


def markdown(table: dict[str, list[str]]) -> str:
    """Return the cells as a Markdown table."""
    lines = [f"| object | {' | '.join(ACTS)} |", "|---" * (1 + len(ACTS)) + "|"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in table.items()]
    return "\n".join(lines)


def main() -> int:
    """Test the requested objects; exit status 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--major", type=int, action="append", help="versions; all by default")
    parser.add_argument("--object", action="append", default=[], help="a part of its name")
    options = parser.parse_args()
    broken = 0
    for binaries in available():
        if options.major and binaries.major not in options.major:
            continue
        table = run(binaries, options.object)
        sys.stdout.write(f"\nPostgreSQL {binaries.major}\n\n{markdown(table)}\n\n")
        sys.stdout.flush()
        broken += sum(cell.startswith("**") for cells in table.values() for cell in cells)
    finish("dba_objects", {"broken": broken})
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
