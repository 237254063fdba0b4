"""Tests that the application's code in its databases runs as its role and never as the agent's.

The attacker has SQL as the application's role, before the agent comes. The agent is no superuser.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.agent.adapters.databases.base import ChangeRef, LiveDatabase
from ncen_updater.agent.adapters.databases.postgresql.connection import Server
from ncen_updater.agent.adapters.databases.postgresql.engine import PostgresEngine
from ncen_updater.agent.adapters.databases.postgresql.roles import (
    LOGIN_UNKNOWN,
    RoleSurvey,
    find_exposures,
)
from ncen_updater.agent.model.errors import (
    DatabaseError,
    DatabaseUnreachableError,
    MigrationFailedError,
)
from ncen_updater.common.findings import Severity
from ncen_updater.common.messages import (
    DATABASE_LOGIN_REFUSED,
    DATABASE_UNREACHABLE,
    ROLE_LOGIN_REFUSED,
)
from ncen_updater.common.progress import SilentProgress
from ncen_updater.formats.data_loss import DataLoss, LossKind
from tests.agent.adapters.databases.postgresql.site import (
    AGENT,
    CHANGE,
    LIMITS,
    NEWEST,
    OWNER,
    Site,
)
from tests.agent.adapters.databases.postgresql.test_crash import own_server, recover
from tests.agent.adapters.databases.postgresql.test_migrate import fenced_copies, release
from tests.support.errors import has_message, refused

__all__ = ["own_server"]

# Takes the password of the user that it runs as, also of one that only took on another role.
STEAL = """
DECLARE whose text := current_user;
BEGIN
  EXECUTE 'SET ROLE NONE';
  EXECUTE format('ALTER ROLE %I PASSWORD ''stolen''', session_user);
  EXECUTE format('SET ROLE %I', whose);
"""
STEALING = (
    f"CREATE FUNCTION steal() RETURNS boolean LANGUAGE plpgsql AS $${STEAL} RETURN true; END $$"
)
CHECK = (STEALING, "ALTER TABLE cases ADD CONSTRAINT planted CHECK (steal())")
TRIGGER = (
    f"CREATE FUNCTION steal() RETURNS trigger LANGUAGE plpgsql AS $${STEAL} RETURN NEW; END $$",
    "CREATE TRIGGER planted BEFORE UPDATE ON cases FOR EACH ROW EXECUTE FUNCTION steal()",
)
CAST = (
    "CREATE FUNCTION told(cases) RETURNS text LANGUAGE plpgsql AS $$ BEGIN"
    f" ASSERT session_user = '{OWNER}'; RETURN 'told'; END $$",
    "CREATE CAST (cases AS text) WITH FUNCTION told(cases)",
)
# Found before the server's own function by who takes the path that the owner set.
SHADOW = (
    "CREATE SCHEMA evil",
    "CREATE FUNCTION evil.pg_stat_get_mod_since_analyze(oid) RETURNS bigint LANGUAGE plpgsql AS"
    f" $${STEAL} RETURN 1; END $$",
    "ALTER DATABASE t_seizure SET search_path = evil, public, pg_catalog",
)


@pytest.fixture
def plain(postgres: EmbeddedPostgres) -> Iterator[Site]:
    site = Site(postgres, user=AGENT)
    site.build()
    yield site
    site.clear()


@pytest.fixture
def closed(own_server: EmbeddedPostgres) -> Iterator[Site]:
    """A site set up for an older agent: only the application logs in as its role."""
    site = Site(own_server, user=AGENT)
    site.build()
    rules = own_server.data / "pg_hba.conf"
    before = rules.read_text()
    _rules(site, f"local all {OWNER} reject\n{before}", lets_in=False)
    yield site
    _rules(site, before, lets_in=True)
    site.clear()


def _rules(site: Site, text: str, *, lets_in: bool, role: str = OWNER) -> None:
    (site.server.data / "pg_hba.conf").write_text(text)
    site.sql("postgres", "SELECT pg_reload_conf()")
    until = time.monotonic() + 30
    while _logs_in(site, role) is not lets_in:
        assert time.monotonic() < until, "the server does not read its rules"


def _logs_in(site: Site, role: str) -> bool:
    try:
        psycopg.connect(site.server.conninfo("t_seizure", role)).close()
    except psycopg.OperationalError:
        return False
    return True


def plant(site: Site, statements: tuple[str, ...]) -> None:
    """Leave it as the application's role, and forget what that stole of itself."""
    site.sql("t_seizure", *statements, user=OWNER)
    site.sql("postgres", f"ALTER ROLE {OWNER} PASSWORD NULL")


def stolen(site: Site) -> set[str]:
    """Whose password was taken."""
    found = site.sql("postgres", "SELECT rolname FROM pg_authid WHERE rolpassword IS NOT NULL")
    return {name for (name,) in found}


def test_planted_check_in_a_rehearsal_runs_as_the_owner(plain: Site) -> None:
    plant(plain, CHECK)
    engine = plain.engine()
    plan = engine.plan_copy(CHANGE)
    assert engine.copy_online(CHANGE, plan, SilentProgress()) == {}
    assert stolen(plain) == {OWNER}  # it ran, and only as this role
    engine.discard_candidates(CHANGE, plan)


@NEWEST
def test_planted_cast_does_not_run_in_digests(plain: Site) -> None:
    plant(plain, CAST)
    plant(plain, ("SET search_path = pg_catalog", "SELECT t::text FROM public.cases t LIMIT 1"))
    assert plain.engine().compute_table_digests(LiveDatabase("seizure"))["cases"].rows == 500


def test_planted_trigger_in_migrations_runs_as_the_owner(plain: Site, tmp_path: Path) -> None:
    plant(plain, TRIGGER)
    engine = plain.engine()
    plan = engine.plan_copy(CHANGE)
    engine.fence(CHANGE)
    engine.copy_databases(CHANGE, plan, SilentProgress())
    engine.migrate(CHANGE, release(tmp_path), None, SilentProgress())
    assert stolen(plain) == {OWNER}
    recover(engine, CHANGE, plan)


@NEWEST
@pytest.mark.parametrize("words", ["RESET ROLE", "SET ROLE NONE", "RESET SESSION AUTHORIZATION"])
def test_migration_cannot_reset_its_role(plain: Site, words: str, tmp_path: Path) -> None:
    engine = plain.engine()
    fenced_copies(engine)
    sql = f"DO $$ BEGIN EXECUTE '{words}'; EXECUTE 'SET ROLE {AGENT}'; END $$;"
    with pytest.raises(MigrationFailedError, match="permission denied"):
        engine.migrate(CHANGE, release(tmp_path, sql), None, SilentProgress())
    sql = f"DO $$ BEGIN EXECUTE '{words}'; ASSERT session_user = '{OWNER}'; END $$;"
    engine.migrate(CHANGE, release(tmp_path, sql), None, SilentProgress())


@NEWEST
def test_planted_function_in_the_search_path_does_not_run(plain: Site) -> None:
    plant(plain, SHADOW)
    plain.engine().refresh_statistics(30)
    assert stolen(plain) == set()


@NEWEST
def test_planted_view_in_place_of_the_ledger_does_not_run_as_the_agent(plain: Site) -> None:
    plant(
        plain,
        (
            STEALING,
            "CREATE SCHEMA ncen_updater",
            "CREATE VIEW ncen_updater.ledger AS SELECT 1 AS seq, 'x' AS id WHERE steal()",
            "CREATE VIEW ncen_updater.state AS SELECT 'x' AS release WHERE steal()",
        ),
    )
    engine = plain.engine()
    with contextlib.suppress(Exception):
        engine.read_ledger(LiveDatabase("seizure"))
    with contextlib.suppress(Exception):
        engine.read_marker()
    assert AGENT not in stolen(plain)


# ---- sites that are not set up for it ------------------------------------------------------------


def codes(site: Site, *, rehearsing: bool = False) -> dict[str, Severity]:
    """Of roles; whether the application itself gets in is another look."""
    found = site.engine().find_exposures(for_rehearsal=rehearsing)
    return {one.code: one.severity for one in found if one.code != LOGIN_UNKNOWN.code}


def test_site_without_owner_login_is_upgraded_but_not_rehearsed(
    closed: Site, tmp_path: Path
) -> None:
    assert codes(closed) == {"NU-4164": Severity.WARNING}
    assert codes(closed, rehearsing=True) == {"NU-4164": Severity.CRITICAL}
    before = closed.snapshot()
    engine = closed.engine()
    plan = engine.plan_copy(CHANGE)
    with refused(ROLE_LOGIN_REFUSED, match=OWNER):
        engine.copy_online(CHANGE, plan, SilentProgress())
    assert closed.databases() == set(closed.names.values())
    fenced_copies(engine)
    engine.migrate(CHANGE, release(tmp_path), None, SilentProgress())
    engine.cut_over(CHANGE)
    assert [row.id for row in engine.read_ledger(LiveDatabase("seizure"))] == ["0001_grade"]
    recover(engine, CHANGE, plan)
    assert closed.snapshot() == before


def test_refused_owner_login_names_the_ident_map(closed: Site) -> None:
    """Debian's own rules let a system user in as the role of the same name alone."""
    rules = (closed.server.data / "pg_hba.conf").read_text()
    _rules(closed, f"local all {AGENT} peer\n{rules}", lets_in=False, role=AGENT)
    with refused(DATABASE_LOGIN_REFUSED) as caught:
        closed.engine().run_query(LiveDatabase("seizure"), "SELECT 1")
    assert "Peer authentication failed" in str(caught.value.detail_text)
    assert "pg_hba.conf" in str(caught.value.remedy_text)
    lines = f"ncen /^.+$ {AGENT}\nncen /^.+$ {OWNER}\n"  # any user of the system
    (closed.server.data / "pg_ident.conf").write_text(lines)
    _rules(closed, f"local all {AGENT},{OWNER} peer map=ncen\n{rules}", lets_in=True)
    assert codes(closed) == {}


def test_login_removed_later_does_not_fall_back_to_the_agent_role(closed: Site) -> None:
    rules = (closed.server.data / "pg_hba.conf").read_text()
    _rules(closed, rules.split("\n", 1)[1], lets_in=True)
    assert codes(closed) == {}
    engine = closed.engine()
    engine.find_exposures()
    engine.fence(CHANGE)
    engine.unfence(CHANGE)
    _rules(closed, rules, lets_in=False)
    # By the process that logged in, and by those that never did.
    for ask in (
        lambda: engine.run_query(LiveDatabase("seizure"), "SELECT 1"),
        lambda: closed.engine().run_query(LiveDatabase("seizure"), "SELECT 1"),
        lambda: closed.engine().find_exposures(),
    ):
        with pytest.raises(DatabaseUnreachableError) as caught:
            ask()
        assert has_message(caught.value, ROLE_LOGIN_REFUSED)
        assert OWNER in str(caught.value)


def test_stopped_server_is_not_taken_for_a_refused_login(closed: Site) -> None:
    """Seen: it was said to run, by a process that had logged in before."""
    rules = (closed.server.data / "pg_hba.conf").read_text()
    _rules(closed, rules.split("\n", 1)[1], lets_in=True)
    server = Server(closed.engine()._settings, LIMITS)
    server.open_session("t_seizure", as_owner=True).close()
    closed.server.stop()
    try:
        with pytest.raises(DatabaseUnreachableError) as caught:
            server.open_session("t_seizure", as_owner=True)
        assert has_message(caught.value, DATABASE_UNREACHABLE)
    finally:
        closed.server.start()


def test_exhausted_owner_connections_do_not_fall_back_to_the_agent_role(closed: Site) -> None:
    rules = (closed.server.data / "pg_hba.conf").read_text()
    _rules(closed, rules.split("\n", 1)[1], lets_in=True)
    closed.sql("postgres", f"ALTER ROLE {OWNER} CONNECTION LIMIT 1")
    with (
        psycopg.connect(closed.server.conninfo("t_seizure", OWNER)),
        pytest.raises(DatabaseUnreachableError, match="too many connections"),
    ):
        closed.engine().run_query(LiveDatabase("seizure"), "SELECT 1")
    _rules(closed, rules, lets_in=False)


# ---- roles ---------------------------------------------------------------------------------------


@NEWEST
def test_role_privileges_are_reported(plain: Site) -> None:
    plain.engine()._control.create_if_missing()
    assert codes(plain) == {}
    assert codes(Site(plain.server, user="postgres")) == {"NU-4163": Severity.CRITICAL}
    plain.sql("postgres", "GRANT CONNECT ON DATABASE t_control TO PUBLIC")
    assert codes(plain) == {"NU-4165": Severity.CRITICAL}
    plain.sql("postgres", "REVOKE CONNECT ON DATABASE t_control FROM PUBLIC")
    plain.sql("postgres", f"ALTER ROLE {OWNER} CONNECTION LIMIT 3")
    assert codes(plain) == {"NU-4166": Severity.CRITICAL}
    plain.sql("postgres", f"ALTER ROLE {OWNER} SUPERUSER CONNECTION LIMIT -1")
    told = codes(plain)
    plain.sql("postgres", f"ALTER ROLE {OWNER} NOSUPERUSER")
    assert told == {"NU-4165": Severity.WARNING}


@pytest.mark.parametrize(
    ("seen", "rehearsing", "found"),
    [
        (RoleSurvey(), False, {}),
        (RoleSurvey(superuser=True), False, {"NU-4163": Severity.CRITICAL}),
        (RoleSurvey(can_log_in=False), False, {"NU-4164": Severity.WARNING}),
        (RoleSurvey(can_log_in=False), True, {"NU-4164": Severity.CRITICAL}),
        (RoleSurvey(control_database_roles=["ncen"]), False, {"NU-4165": Severity.CRITICAL}),
        (
            RoleSurvey(control_database_roles=["ncen"], application_is_superuser=True),
            False,
            {"NU-4165": Severity.WARNING},
        ),
        (RoleSurvey(connection_limit=5), False, {"NU-4166": Severity.CRITICAL}),
        (RoleSurvey(connection_limit=6), False, {}),
        (RoleSurvey(connection_limit=0, can_log_in=False), False, {"NU-4164": Severity.WARNING}),
    ],
)
def test_login_rules_are_reported(
    seen: RoleSurvey, rehearsing: bool, found: dict[str, Severity]
) -> None:
    names = {"role": "agent", "owner": "ncen", "control": "c"}
    told = find_exposures(seen, databases=3, rehearsing=rehearsing, **names)
    assert {finding.code: finding.severity for finding in told} == found


# ---- our own sessions look like the application's ------------------------------------------------


def versions(site: Site) -> set[str]:
    found = site.sql("t_control", "SELECT database FROM versions WHERE version = 'opened'")
    return {name for (name,) in found}


@NEWEST
def test_sessions_of_a_dead_agent_are_not_foreign(plain: Site) -> None:
    engine = plain.engine()
    plan = engine.plan_copy(CHANGE)
    engine.fence(CHANGE)
    engine.copy_databases(CHANGE, plan, SilentProgress())
    engine.cut_over(CHANGE)
    # As it counts before a change reverts.
    engine.fence(CHANGE)
    left = engine._sessions.open_session(LiveDatabase("seizure"), fenced=True)
    left.execute("SET application_name = 'something else'")
    plain.engine().fence(CHANGE)
    with pytest.raises(psycopg.OperationalError):
        left.execute("SELECT 1")
    assert versions(plain) == set()
    recover(engine, CHANGE, plan)
    assert engine.list_quarantined() == ()
    assert plain.sql("t_control", "SELECT * FROM visits") == []


@NEWEST
def test_connection_limit_excludes_the_application_beside_the_maintenance_session(
    plain: Site,
) -> None:
    engine = plain.engine()
    engine.fence(CHANGE)
    visitor = engine._sessions._maintenance
    conninfo = plain.server.conninfo("t_seizure", OWNER)
    with (
        visitor.keep_open("t_seizure", limit_connections=True, other_role=True),
        psycopg.connect(conninfo),
        pytest.raises(psycopg.OperationalError, match="too many connections"),
    ):
        psycopg.connect(conninfo)
    engine.unfence(CHANGE)


@NEWEST
def test_session_opened_beside_the_maintenance_session_is_detected(
    plain: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that takes the only place is seen, since the agent then has none."""
    engine = plain.engine()
    engine.fence(CHANGE)
    opening = Server.open_session
    with contextlib.ExitStack() as stack:

        def late(server: Server, database: str, **more: object) -> object:
            if more.get("as_owner"):
                conninfo = plain.server.conninfo("t_seizure", OWNER)
                stack.enter_context(psycopg.connect(conninfo))
            return opening(server, database, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(Server, "open_session", late)
        with pytest.raises(DatabaseUnreachableError, match="too many connections"):
            engine._sessions.open_session(LiveDatabase("seizure"), fenced=True)
    monkeypatch.undo()
    assert versions(plain) == {"t_seizure"}
    engine.unfence(CHANGE)


@NEWEST
def test_application_with_other_roles_is_checked_after_the_cut_over(plain: Site) -> None:
    """The owner has no CONNECT then, and gets it for that moment only."""
    settings = plain.engine()._settings.model_copy(update={"application_roles": ("app ro",)})
    engine = type(plain.engine())(settings, plain.names)
    fenced_copies(engine)
    engine.cut_over(CHANGE)
    assert engine.run_query(LiveDatabase("seizure"), "SELECT session_user::text") == [(OWNER,)]
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(plain.server.conninfo("t_seizure", OWNER))
    engine.record_commit(CHANGE)


# ---- what is counted -----------------------------------------------------------------------------

#: Writes down as whom it runs; a read-only transaction lets it notify, and tell by an error, alone.
TELLS = (
    "CREATE FUNCTION tells() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
    " RAISE LOG 'planted ran as %, %', session_user, current_user; RETURN true; END $$"
)
ENUM = (
    TELLS,
    "CREATE TYPE mood AS ENUM ('x', 'y')",
    "CREATE FUNCTION as_text(mood) RETURNS text LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM tells(); RETURN 'y'; END $$",
    "CREATE FUNCTION of_text(text) RETURNS mood LANGUAGE sql AS $$ SELECT 'x'::mood $$",
    "CREATE CAST (mood AS text) WITH FUNCTION as_text(mood) AS IMPLICIT",
    "CREATE CAST (text AS mood) WITH FUNCTION of_text(text) AS IMPLICIT",
    "ALTER TABLE cases ADD COLUMN how mood DEFAULT 'x'::text",
    "UPDATE cases SET how = 'y' WHERE id < 5",
)


@dataclass
class UpgradedSite:
    """A site after an upgrade, which may go back."""

    site: Site
    engine: PostgresEngine
    change: ChangeRef
    heard: int

    def ran_as(self) -> set[str]:
        """As whom what was planted ran, from the server's log."""
        log = self.site.server.log.read_bytes()[self.heard :].decode("utf-8", "replace")
        return set(re.findall(r"planted ran as (\S+), ", log))


@pytest.fixture
def upgraded(plain: Site) -> UpgradedSite:
    engine = plain.engine()
    engine.fence(CHANGE)
    engine.copy_databases(CHANGE, engine.plan_copy(CHANGE), SilentProgress())
    engine.mark_candidates(CHANGE)
    engine.cut_over(CHANGE)
    engine.check_before_commit(CHANGE)
    engine.record_commit(CHANGE)
    engine.unfence(CHANGE)
    change = ChangeRef("bbbbbbbb", 3, "3.2.4", retained_from=CHANGE.id)
    return UpgradedSite(plain, engine, change, plain.server.log.stat().st_size)


def test_default_of_an_application_type_is_not_evaluated(
    upgraded: UpgradedSite,
) -> None:
    """Its implicit cast ran as the agent's role."""
    upgraded.site.sql("t_seizure", *ENUM, user=OWNER)
    losses = {"seizure": (DataLoss("cases", "how", LossKind.COLUMN),)}
    # Those that were written since; which of them hold the default is not asked.
    assert upgraded.engine.count_entered_rows(upgraded.change, losses) == {
        "seizure": {"cases.how": 4}
    }
    assert upgraded.ran_as() == set()


@pytest.mark.parametrize("what", ["lost", "entered", "aside"])
def test_view_in_place_of_a_table_runs_nothing_as_the_agent(
    upgraded: UpgradedSite, what: str
) -> None:
    """The lock holds the agent between its list of the tables and the count of the second."""
    site, engine, change = upgraded.site, upgraded.engine, upgraded.change
    site.sql("t_seizure", TELLS, "CREATE TABLE aaa (a int)", "CREATE TABLE bbb (a int)", user=OWNER)
    losses = {"seizure": (DataLoss("aaa", None, LossKind.DEPENDENTS),)}
    moment = site.sql("t_control", "SELECT transaction::text::bigint FROM moments LIMIT 1")[0][0]
    acts: dict[str, Callable[[], object]] = {
        "lost": lambda: engine.count_lost_rows(change),
        "entered": lambda: engine.count_entered_rows(change, losses),
        "aside": lambda: engine._swap._try_count(
            "seizure", "t_seizure", moment, time.monotonic() + 60
        ),
    }
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation IS NOT NULL"
    with (
        psycopg.connect(site.server.conninfo("t_seizure", OWNER)) as holder,
        ThreadPoolExecutor(1) as beside,
    ):
        holder.execute("LOCK TABLE aaa IN ACCESS EXCLUSIVE MODE")
        asked = beside.submit(acts[what])
        while site.sql("t_seizure", waits) == [(0,)]:
            assert not asked.done(), asked.exception()
        holder.execute("DROP TABLE bbb")
        holder.execute("CREATE VIEW bbb AS SELECT CASE WHEN tells() THEN '9'::xid END AS xmin")
        holder.commit()
        with contextlib.suppress(DatabaseError):
            asked.result(60)
    # Where the server can be told, the view is not read at all.
    forbids = "SELECT current_setting('restrict_nonsystem_relation_kind', true) IS NOT NULL"
    assert upgraded.ran_as() == (set() if site.sql("postgres", forbids) == [(True,)] else {OWNER})
