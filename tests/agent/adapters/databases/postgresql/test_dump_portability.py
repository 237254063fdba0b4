"""Tests of the objects that a dump by the agent's role contains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.agent.adapters.databases.postgresql.dump_portability import (
    CatalogueObject,
    DatabaseContents,
    DumpOptions,
    ExcludedObjects,
    PortabilityIssue,
    choose_dump_options,
    filter_restore_list,
    find_dump_obstacles,
    read_database_contents,
)
from ncen_updater.common.messages import ROWS_UNREADABLE
from ncen_updater.common.progress import SilentProgress
from tests.agent.adapters.databases.postgresql.site import AGENT, CHANGE, OWNER, Site
from tests.support.errors import refused
from tests.support.rotation import in_turns

REHEARSAL = replace(CHANGE, id="rehearse")
# What only a superuser puts in: statements, and what the catalogue has to name.
THINGS = {
    "extension": (
        ("CREATE EXTENSION pg_stat_statements",), {"extension pg_stat_statements"},
    ),
    "event trigger": (
        ("CREATE FUNCTION noted() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
         "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION noted()"),
        {"event trigger watch", "function public.noted()"},
    ),
    "foreign data": (
        ("CREATE EXTENSION postgres_fdw",
         "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw",
         "CREATE USER MAPPING FOR ncen SERVER far OPTIONS (user 'a')",
         "CREATE FOREIGN TABLE away (a int) SERVER far",
         "ALTER FOREIGN TABLE away OWNER TO ncen"),
        {"extension postgres_fdw", "server far", "user mapping ncen on server far"},
    ),
    "publication": (
        ("CREATE PUBLICATION everything FOR ALL TABLES",), {"publication everything"},
    ),
    "default privileges": (
        ("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO \"Weird\"\"Role\"",),
        {"default acl for role postgres in schema public on tables"},
    ),
    "other owner": (
        ("CREATE TABLE theirs (id int PRIMARY KEY)",
         "CREATE TABLE ours (id int REFERENCES theirs)", "ALTER TABLE ours OWNER TO ncen",
         "CREATE VIEW seen AS SELECT * FROM theirs", "ALTER VIEW seen OWNER TO ncen",
         "CREATE SEQUENCE counted", "CREATE TYPE mood AS ENUM ('calm')"),
        {"table public.theirs", "sequence public.counted", "type public.mood"},
    ),
    "row security": (
        ("ALTER TABLE cases ENABLE ROW LEVEL SECURITY",
         "ALTER TABLE cases FORCE ROW LEVEL SECURITY",
         "CREATE POLICY few ON cases USING (id < 10)",
         "CREATE TABLE more (id int REFERENCES cases)", "ALTER TABLE more OWNER TO ncen",
         "INSERT INTO more VALUES (400)"),
        {"table public.cases"},
    ),
    "large object": (("SELECT lo_from_bytea(4711, 'abc')",), {"large object 4711"}),
    "schema": (
        ("CREATE SCHEMA \"Shut away\"", "CREATE TABLE \"Shut away\".\"t $1\" (a int)",
         "ALTER TABLE \"Shut away\".\"t $1\" OWNER TO ncen"),
        {'schema "Shut away"', 'table "Shut away"."t $1"'},
    ),
    "system": (
        ("GRANT EXECUTE ON FUNCTION pg_ls_dir(text) TO \"Weird\"\"Role\"",),
        {"function pg_catalog.pg_ls_dir(pg_catalog.text)"},
    ),
    "given on": (
        ("GRANT SELECT ON cases TO \"app ro\" WITH GRANT OPTION", "SET ROLE \"app ro\"",
         "GRANT SELECT ON cases TO \"Weird\"\"Role\""),
        {"table public.cases"},
    ),
    "superuser's function in use": (
        ("CREATE FUNCTION quick(int) RETURNS int LANGUAGE sql IMMUTABLE LEAKPROOF AS 'SELECT $1'",
         "ALTER FUNCTION quick(int) OWNER TO ncen",
         "CREATE TABLE uses (a int DEFAULT quick(1), CHECK (quick(a) > 0), k serial)",
         "ALTER TABLE uses OWNER TO ncen", "INSERT INTO uses DEFAULT VALUES",
         "CREATE DOMAIN small AS int CHECK (quick(VALUE) < 9)", "ALTER DOMAIN small OWNER TO ncen"),
        {"function public.quick(integer)"},
    ),
    "subscription": (
        ("CREATE SUBSCRIPTION hears CONNECTION 'dbname=nowhere' PUBLICATION p"
         " WITH (connect = false, slot_name = NONE)",),
        {"subscription hears"},
    ),
}  # fmt: skip
# What an ordinary role makes again.
CARRIED = (
    "CREATE EXTENSION btree_gist",
    "CREATE TABLE spans (a int, EXCLUDE USING gist (a WITH =))",
    "ALTER TABLE spans OWNER TO ncen",
    "CREATE PUBLICATION chosen FOR TABLE cases",
    "ALTER PUBLICATION chosen OWNER TO ncen",
    "ALTER DEFAULT PRIVILEGES FOR ROLE ncen GRANT SELECT ON TABLES TO \"app ro\"",
    "ALTER TABLE loose ENABLE ROW LEVEL SECURITY",
    "COMMENT ON SCHEMA public IS 'ours'",
    "CREATE TYPE pair AS (a int, b int)",
    "ALTER TYPE pair OWNER TO ncen",
)  # fmt: skip


@pytest.fixture
def agents(postgres: EmbeddedPostgres) -> Iterator[Site]:
    """A site whose agent is no superuser."""
    site = Site(postgres, user=AGENT)
    site.build()
    yield site
    found = site.sql("postgres", "SELECT datname FROM pg_database WHERE datallowconn")
    for (name,) in found:  # a database with one cannot be dropped
        for (sub,) in site.sql(
            name,
            "SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid"
            " WHERE d.datname = current_database()",
        ):
            site.sql(name, f'DROP SUBSCRIPTION "{sub}"')
    site.clear()


def seen_in(site: Site, user: str = AGENT, restorer: str = OWNER) -> set[str]:
    conninfo = site.server.conninfo("t_seizure", user)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        seen = read_database_contents(connection, restorer)
        return {obstacle.item.label for obstacle in find_dump_obstacles(seen)}


@in_turns("thing")
@pytest.mark.parametrize("thing", THINGS)
def test_unportable_object_is_found_and_omitted_from_a_rehearsal(agents: Site, thing: str) -> None:
    statements, named = THINGS[thing]
    site = agents
    assert seen_in(site) == set()
    site.sql("t_seizure", *statements)
    assert seen_in(site) == named
    assert seen_in(site, "postgres", "postgres") == set()

    engine = site.engine()
    plan = engine.plan_copy(REHEARSAL)
    lacking = engine.copy_online(REHEARSAL, plan, SilentProgress())
    assert set(lacking) == {"seizure"}
    # The application's role dumps then, and sees the options of its own mapping.
    assert named - {"user mapping ncen on server far"} <= set(lacking["seizure"])
    candidate = engine.compute_table_digests(REHEARSAL.get_candidate("seizure"))
    live = site.digests("t_seizure")
    differ = {label for label in live if candidate.get(label) != live[label]}
    expected = {
        "other owner": {"theirs"},
        "row security": {"cases"},
        "schema": {"Shut away.t $1"},
        "superuser's function in use": {"uses"},
    }
    assert differ == expected.get(thing, set())
    engine.discard_candidates(REHEARSAL, plan)


def test_objects_of_an_ordinary_role_are_copied_completely(agents: Site) -> None:
    site = agents
    site.sql("t_seizure", *CARRIED)
    assert seen_in(site) == set()
    engine = site.engine()
    plan = engine.plan_copy(REHEARSAL)
    assert engine.copy_online(REHEARSAL, plan, SilentProgress()) == {}
    assert engine.compute_table_digests(REHEARSAL.get_candidate("seizure")) == site.digests(
        "t_seizure"
    )
    engine.discard_candidates(REHEARSAL, plan)


def test_uncountable_rows_are_reported_as_such(agents: Site) -> None:
    site = agents
    site.sql("t_seizure", "CREATE TABLE theirs AS SELECT 1 AS a")
    if site.server.binaries.major >= 16:  # there the agent's role inherits nothing of it
        site.sql("t_seizure", "REVOKE ALL ON theirs FROM PUBLIC")
    engine = site.engine()
    engine.fence(CHANGE)
    plan = engine.plan_copy(CHANGE)
    engine.copy_databases(CHANGE, plan, SilentProgress())
    engine.cut_over(CHANGE)
    engine.record_commit(CHANGE)
    with refused(ROWS_UNREADABLE) as caught:
        engine.count_lost_rows(replace(CHANGE, retained_from=CHANGE.id))
    assert 'GRANT SELECT ON "public"."theirs" TO' in str(caught.value.remedy_text)
    assert engine.count_release_rows(CHANGE) == {}


# ---- the decisions -----------------------------------------------------------------------------


def item(kind: str, *facts: PortabilityIssue, oid: int = 1) -> CatalogueObject:
    return CatalogueObject(kind, "public.it", 7, oid, frozenset(facts))


@pytest.mark.parametrize(
    ("superuser", "facts", "obstacle"),
    [
        (False, (), False),
        (False, (PortabilityIssue.SUPERUSER,), True),
        (False, (PortabilityIssue.OWNER,), True),
        (False, (PortabilityIssue.VERSION,), True),
        (
            True,
            (
                PortabilityIssue.OWNER,
                PortabilityIssue.SUPERUSER,
                PortabilityIssue.ROWS,
                PortabilityIssue.UNREAD,
            ),
            False,
        ),
        (True, (PortabilityIssue.VERSION,), True),
    ],
)
def test_copied_objects_are_classified_by_role(
    superuser: bool, facts: tuple[PortabilityIssue, ...], obstacle: bool
) -> None:
    assert (
        bool(find_dump_obstacles(DatabaseContents(superuser, [item("table", *facts)]))) is obstacle
    )


COMMON = ("--no-comments", "--no-owner", "--no-subscriptions", "--role=ncen")


@pytest.mark.parametrize(
    ("found", "dump", "restore", "left", "rowless"),
    [
        (item("extension", PortabilityIssue.SUPERUSER), (), ("--no-privileges",), True, False),
        (item("event trigger", PortabilityIssue.SUPERUSER), (), (), True, False),
        (item("extension", PortabilityIssue.VERSION), (), (), False, False),
        (item("table", PortabilityIssue.OWNER), (), ("--no-privileges",), False, False),
        (item("table", PortabilityIssue.OWNER, PortabilityIssue.UNREAD),
         ("--exclude-table=public.it",), ("--no-privileges",), True, False),
        (item("table", PortabilityIssue.ROWS),
         ("--exclude-table-data=public.it",), (), False, True),
        (item("table", PortabilityIssue.TABLESPACE), (), ("--no-tablespaces",), False, False),
        (item("table", PortabilityIssue.GRANTS), (), ("--no-privileges",), False, False),
        (item("function", PortabilityIssue.LABEL), (), ("--no-security-labels",), False, False),
        (item("large object", PortabilityIssue.OWNER, PortabilityIssue.UNREAD),
         ("--no-blobs",), ("--no-privileges",), False, False),
        (item("default acl", PortabilityIssue.OWNER), (), ("--no-privileges",), True, False),
    ],
)  # fmt: skip
def test_dump_options_cover_the_remaining_objects(
    found: CatalogueObject,
    dump: tuple[str, ...],
    restore: tuple[str, ...],
    left: bool,
    rowless: bool,
) -> None:
    how = choose_dump_options(find_dump_obstacles(DatabaseContents(False, [found])), "ncen")
    assert set(how.dump_arguments) == {"--no-subscriptions", *dump}
    assert set(how.restore_arguments) == {*COMMON, *restore}
    assert how.excluded_objects == (frozenset({(7, 1)}) if left else frozenset())
    assert how.tables_without_rows == (frozenset({1}) if rowless else frozenset())


def test_unobstructed_dump_has_default_options() -> None:
    assert choose_dump_options((), "ncen") == DumpOptions()


def test_list_of_contents_is_filtered() -> None:
    listed = """;
; Archive created at 2026-01-01
215; 1259 16385 TABLE public cases ncen
216; 1259 16390 TABLE public theirs postgres
217; 1259 16395 TABLE public guarded ncen
3300; 0 16385 TABLE DATA public cases ncen
3301; 0 16390 TABLE DATA public theirs postgres
3302; 0 16395 TABLE DATA public guarded ncen
3303; 0 16395 ROW SECURITY public guarded ncen
3304; 0 0 SEQUENCE SET public theirs_id_seq postgres
3305; 0 0 SEQUENCE SET public cases_id_seq ncen
3306; 3256 16400 POLICY public guarded few ncen
3307; 3079 16401 EXTENSION - far 
3308; 0 0 ACL public TABLE cases ncen
3309; 0 0 USER MAPPING - USER MAPPING ncen SERVER far postgres
"""  # noqa: W291 - as pg_restore writes it
    left = ExcludedObjects(
        frozenset({(1259, 16390), (3256, 16400), (3079, 16401)}),
        frozenset({("public", "theirs"), ("public", "theirs_id_seq")}),
    )
    kept = filter_restore_list(listed, DumpOptions(tables_without_rows=frozenset({16395})), left)
    assert [int(line.split(";")[0]) for line in kept.splitlines()] == [
        215, 217, 3300, 3302, 3305, 3308,
    ]  # fmt: skip
