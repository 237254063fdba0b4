"""Sessions and writes that are not the application's: listed, ended, detected, never lost.

The agent is no superuser here unless a test says so: then the server hides from it what others do.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.agent.adapters.databases.base import ChangeEvidence, ChangeRef, LiveDatabase
from ncen_updater.agent.adapters.databases.postgresql import copies as copying
from ncen_updater.agent.adapters.databases.postgresql import cut_over as swap
from ncen_updater.agent.adapters.databases.postgresql import inspection as reading
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    previous_name,
    quarantine_name,
)
from ncen_updater.agent.adapters.databases.postgresql.control_database import find_opened
from ncen_updater.agent.adapters.databases.postgresql.engine import PostgresEngine
from ncen_updater.agent.adapters.databases.postgresql.fence import _SESSIONS
from ncen_updater.agent.config.engines import PostgresSettings
from ncen_updater.agent.model.errors import FenceError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.messages import FENCE_BROKEN
from ncen_updater.common.progress import SilentProgress
from tests.agent.adapters.databases.postgresql.site import AGENT, CHANGE, NEWEST, Site, quoted
from tests.agent.adapters.databases.postgresql.test_crash import recover
from tests.support.errors import refused
from tests.support.forks import DEADLINE_S
from tests.support.postgres import FAST_SETTINGS, available, running

ROW = "INSERT INTO cases VALUES (900, 'a report''s', NULL)"
WRITTEN = "SELECT count(*) FROM cases WHERE id = 900"
KEPT = {name: quarantine_name(name, CHANGE.id) for name in ("t_seizure", 'T"suspect')}


@pytest.fixture
def plain(postgres: EmbeddedPostgres) -> Iterator[Site]:
    """A site whose agent is an ordinary role, and an unrelated role."""
    site = Site(postgres, user=AGENT)
    site.build()
    site.sql("postgres", "CREATE ROLE report LOGIN")
    for physical in site.names.values():
        site.sql(
            "postgres",
            f"GRANT CONNECT ON DATABASE {quoted(physical)} TO report",
        )
        site.sql(physical, "GRANT ALL ON ALL TABLES IN SCHEMA public TO report")
    yield site
    site.clear()


def session(site: Site, role: str, program: str = "import") -> psycopg.Connection[object]:
    return psycopg.connect(
        site.server.conninfo("t_seizure"), user=role, application_name=program, autocommit=True
    )


def look(site: Site, **settings: object) -> dict[str, Finding]:
    found = _engine(site, **settings).find_blockers(CHANGE, application_stopped=False)
    return {finding.code: finding for finding in found}


def _engine(site: Site, **settings: object) -> PostgresEngine:
    engine = site.engine()
    given = engine._settings.model_copy(update=settings)
    return PostgresEngine(given, site.names, timeouts=engine._limits)


def opened_and_closed(site: Site, *statements: str, database: str = "t_seizure") -> None:
    """Act as a database administrator with an urgent correction."""
    name = quoted(database)
    site.sql("postgres", f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    site.sql(database, *statements)
    site.sql("postgres", f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")


# ---- sessions ------------------------------------------------------------------------------------


def test_hidden_foreign_session_is_terminated(plain: Site) -> None:
    plain.sql("postgres", f"REVOKE pg_read_all_stats FROM {AGENT}")
    with contextlib.closing(session(plain, "report")) as report:
        plain.engine().fence(CHANGE)
        with pytest.raises(psycopg.OperationalError):
            report.execute(ROW)


def test_missing_statistics_privilege_is_reported(plain: Site) -> None:
    assert "NU-4150" not in look(plain)
    plain.sql("postgres", f"REVOKE pg_read_all_stats FROM {AGENT}")
    found = look(plain)["NU-4150"]
    assert found.severity is Severity.CRITICAL
    assert f'GRANT pg_read_all_stats TO "{AGENT}";' in str(found.remedy)


def test_foreign_sessions_are_judged_by_role(plain: Site) -> None:
    with contextlib.ExitStack() as stack:
        for role in ("ncen", "report", "postgres"):
            stack.enter_context(contextlib.closing(session(plain, role, f"of-{role}")))
        found = look(plain)
        assert {"NU-4151", "NU-4153"} <= set(found)
        superuser, unknown = found["NU-4151"], found["NU-4153"]
        assert "sessions of postgres in t_seizure: 1 (of-postgres" in str(superuser.title)
        assert unknown.severity is superuser.severity is Severity.CRITICAL
        assert "of-report (1, report)" in str(unknown.title)
        assert not any("of-ncen" in str(finding.title) for finding in found.values())

        # With configured application roles, only the sessions to be ended are reported.
        found = look(plain, application_roles=("ncen",))
        assert "NU-4153" not in found
        assert found["NU-4120"].severity is Severity.WARNING
        assert "of-report" in str(found["NU-4120"].title)
        found = look(plain, application_roles=("ncen", "report", "postgres"))
        assert not {"NU-4120", "NU-4151", "NU-4153"} & set(found)

        plain.sql("postgres", f"REVOKE pg_signal_backend FROM {AGENT}")
        found = look(plain, application_roles=("ncen",))
        assert "of-report" in str(found["NU-4152"].title)
        assert f'GRANT pg_signal_backend TO "{AGENT}";' in str(found["NU-4152"].remedy)


def test_remaining_foreign_session_reverts_the_change(plain: Site) -> None:
    engine, before = plain.engine(), plain.snapshot()
    plan = engine.plan_copy(CHANGE)
    with contextlib.closing(session(plain, "postgres")) as late:
        with pytest.raises(FenceError, match="import of postgres") as caught:
            engine.fence(CHANGE)
        assert caught.value.values["count"] == 1
        late.execute(ROW)
        recover(engine, CHANGE, plan)
        assert plain.sql("t_seizure", WRITTEN) == [(1,)]
        late.execute("DELETE FROM cases WHERE id = 900")
    assert plain.snapshot() == before


def test_autovacuum_is_not_a_foreign_session(request: pytest.FixtureRequest) -> None:
    settings = (
        *FAST_SETTINGS,
        "autovacuum_naptime=1s",
        "autovacuum_vacuum_cost_delay=100ms",
        "autovacuum_vacuum_cost_limit=1",
    )
    for binaries in available():
        with (
            tempfile.TemporaryDirectory(prefix="nu-test-") as directory,
            running(binaries, Path(directory), settings) as server,
        ):
            site = Site(server, user=AGENT)
            site.build()
            site.sql("t_seizure", "UPDATE cases SET what = what || '.'", "DELETE FROM loose")
            deadline = time.monotonic() + DEADLINE_S
            working = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = 't_seizure'"
                " AND backend_type = 'autovacuum worker'"
            )
            while site.sql("postgres", working) == [(0,)]:
                assert time.monotonic() < deadline, "no autovacuum came"
            for stats in ("GRANT pg_read_all_stats TO", "REVOKE pg_read_all_stats FROM"):
                site.sql("postgres", f"{stats} {AGENT}")
                with psycopg.connect(server.conninfo(), user=AGENT) as agent:
                    found = agent.execute(_SESSIONS.encode(), [["t_seizure"]]).fetchall()
                still = site.sql("postgres", working)
                assert still == [(1,)], "the worker went too soon to show anything"
                assert found == []
            site.engine().fence(CHANGE)
            site.clear()


# ---- what was opened -----------------------------------------------------------------------------


def test_database_reopened_in_between_is_not_cut_over(any_site: Site) -> None:
    site, engine = any_site, any_site.engine()
    before = site.snapshot()
    plan = engine.plan_copy(CHANGE)
    engine.fence(CHANGE)
    engine.copy_databases(CHANGE, plan, SilentProgress())
    opened_and_closed(site, ROW)
    with refused(FENCE_BROKEN, match="t_seizure"):
        engine.cut_over(CHANGE)
    recover(engine, CHANGE, plan)
    assert site.sql("t_seizure", WRITTEN) == [(1,)]
    site.sql("t_seizure", "DELETE FROM cases WHERE id = 900")
    assert site.snapshot() == before


@NEWEST
def test_reopened_database_is_detected_after_the_agent_closed_it(site: Site) -> None:
    engine = site.engine()
    plan = engine.plan_copy(CHANGE)
    engine.fence(CHANGE)
    engine.copy_databases(CHANGE, plan, SilentProgress())
    site.sql("postgres", "ALTER DATABASE t_seizure ALLOW_CONNECTIONS true")
    engine.fence(CHANGE)
    with refused(FENCE_BROKEN, match="t_seizure"):
        engine.cut_over(CHANGE)
    recover(engine, CHANGE, plan)


SMALL = "ALTER DATABASE t_seizure"
ALTERED = {
    "opened by its row": [
        "UPDATE pg_database SET datallowconn = true WHERE datname = 't_seizure'",
        "UPDATE pg_database SET datallowconn = false WHERE datname = 't_seizure'",
    ],
    "renamed and back": [f"{SMALL} RENAME TO away", "ALTER DATABASE away RENAME TO t_seizure"],
    "granted": ['GRANT TEMP ON DATABASE t_seizure TO "app ro"'],
    "limited": [f"{SMALL} CONNECTION LIMIT 40"],
    "replaced": [f"{SMALL} RENAME TO away", "CREATE DATABASE t_seizure TEMPLATE away",
                 f"{SMALL} ALLOW_CONNECTIONS false"],
}  # fmt: skip
UNALTERED = {
    "nothing": [],
    "vacuum": ["VACUUM (FULL, FREEZE) pg_database", "VACUUM (FREEZE) pg_database"],
    "a setting": [f"{SMALL} SET work_mem = '5MB'"],
    "a comment": ["COMMENT ON DATABASE t_seizure IS 'mine'"],
    "the server's own bookkeeping": ["VACUUM (FREEZE) pg_class", "CHECKPOINT"],
}


def test_catalogue_change_of_a_database_is_detected(site: Site) -> None:
    engine = site.engine()
    engine.fence(CHANGE)
    with psycopg.connect(site.server.conninfo("t_control"), autocommit=True) as control:
        for what, statements in UNALTERED.items():
            site.sql("postgres", *statements)
            assert find_opened(control, site.names.values()) == (), what
        for what, statements in ALTERED.items():
            engine.unfence(CHANGE)
            engine.fence(CHANGE)
            site.sql("postgres", *statements)
            assert find_opened(control, site.names.values()) == ("t_seizure",), what
    engine.unfence(CHANGE)


# ---- between cut-over and commit -----------------------------------------------------------------


def copy_and_cut_over(site: Site, change: ChangeRef, engine: PostgresEngine) -> None:
    engine.fence(change)
    engine.copy_databases(change, engine.plan_copy(change), SilentProgress())
    engine.cut_over(change)


def test_only_the_application_connects_until_the_commit(any_site: Site) -> None:
    site, engine = any_site, any_site.engine()
    before = site.snapshot()
    copy_and_cut_over(site, CHANGE, engine)
    with contextlib.closing(session(site, "ncen")) as application:
        application.execute("SELECT 1")
    for role in ("app ro", 'Weird"Role'):
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            session(site, role)
    assert engine.run_query(LiveDatabase("seizure"), "SELECT 1") == [(1,)]
    engine.record_commit(CHANGE)
    engine.record_commit(CHANGE)
    after = site.snapshot()
    assert {name: seen[:3] for name, seen in after.items()} == {
        name: seen[:3] for name, seen in before.items()
    }
    with contextlib.closing(session(site, "app ro")) as anybody:
        anybody.execute("SELECT 1")
    assert site.sql("t_control", "SELECT * FROM revoked") == []


@NEWEST
def test_application_with_several_roles_keeps_connecting(site: Site) -> None:
    engine = _engine(site, application_roles=("app ro", "nobody-of-this-name"))
    copy_and_cut_over(site, CHANGE, engine)
    with contextlib.closing(session(site, "app ro")) as application:
        application.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        session(site, "ncen")


@NEWEST
@pytest.mark.parametrize("lost", ["role", "control"])
def test_connect_grants_are_restored_after_any_interruption(any_site: Site, lost: str) -> None:
    site, engine = any_site, any_site.engine()
    before = site.snapshot()
    copy_and_cut_over(site, CHANGE, engine)
    if lost == "role":
        for physical in site.names.values():
            site.sql(physical, 'DROP OWNED BY "app ro"')
        site.sql("postgres", 'DROP OWNED BY "app ro"', 'DROP ROLE "app ro"')
    else:
        site.sql("postgres", "DROP DATABASE t_control WITH (FORCE)")
    engine.record_commit(CHANGE)
    for physical, seen in site.snapshot().items():
        wanted = {g for g in before[physical][0].grants if lost == "control" or
                  g.grantee != "app ro"}  # fmt: skip
        assert set(seen[0].grants) == wanted
    # A second look is no reason to undo what the administrators granted since.
    site.sql("postgres", "GRANT CONNECT ON DATABASE t_seizure TO PUBLIC")
    after = site.snapshot()
    engine.record_commit(CHANGE)
    assert site.snapshot() == after


@NEWEST
def test_connect_grants_of_an_interrupted_change_are_restored_by_the_next(site: Site) -> None:
    """Its agent did not return before the commit, and another one continues."""
    before = site.snapshot()
    copy_and_cut_over(site, CHANGE, site.engine())
    engine = site.engine()
    later = ChangeRef("bbbbbbbb", 3, "3.3.1")
    plan = engine.plan_copy(later)
    copy_and_cut_over(site, later, engine)
    recover(engine, later, plan)
    copy_and_cut_over(site, ChangeRef("cccccccc", 4, "3.3.1"), engine)
    engine.record_commit(ChangeRef("cccccccc", 4, "3.3.1"))
    assert {name: seen[:3] for name, seen in site.snapshot().items()} == {
        name: seen[:3] for name, seen in before.items()
    }


# ---- what is left behind -------------------------------------------------------------------------


def test_rows_written_after_the_cut_over_are_retained(any_site: Site) -> None:
    site, engine = any_site, any_site.engine()
    before = site.snapshot()
    plan = engine.plan_copy(CHANGE)
    copy_and_cut_over(site, CHANGE, engine)
    site.sql("t_seizure", ROW, "UPDATE cases SET what = 'edited' WHERE id = 7")
    recover(engine, CHANGE, plan)
    assert site.snapshot() == before
    (aside,) = engine.list_quarantined()
    assert (aside.code, aside.severity) == ("NU-4155", Severity.WARNING)
    assert aside.figures == {
        "change": CHANGE.id, "path": ", ".join(sorted(KEPT.values())), "rows": "t_seizure: cases 2",
    }  # fmt: skip
    assert f"prune --retained {CHANGE.id}" in str(aside.remedy)
    with pytest.raises(psycopg.OperationalError, match="not currently accepting"):
        site.sql(KEPT["t_seizure"], "SELECT 1")

    # It blocks nothing, and is pruned by command.
    later = ChangeRef("bbbbbbbb", 2, "3.3.1")
    copy_and_cut_over(site, later, engine)
    engine.record_commit(later)
    assert [seen.figures["change"] for seen in engine.list_quarantined()] == [CHANGE.id]
    engine.drop_quarantined(CHANGE.id)
    engine.drop_quarantined(CHANGE.id)
    assert engine.list_quarantined() == ()
    assert site.sql("t_control", "SELECT * FROM set_aside") == []


@NEWEST
def test_uncountable_rows_are_retained(plain: Site) -> None:
    engine = plain.engine()
    plan = engine.plan_copy(CHANGE)
    copy_and_cut_over(plain, CHANGE, engine)
    plain.sql("t_seizure", "CREATE TABLE dba (a int)", "INSERT INTO dba VALUES (1)")
    recover(engine, CHANGE, plan)
    assert "count unknown" in str(engine.list_quarantined()[0].title)


@NEWEST
@pytest.mark.parametrize("why", ["damaged", "large"])
def test_unreadable_database_does_not_block_the_rollback(
    site: Site, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    engine, before = site.engine(), site.snapshot()
    plan = engine.plan_copy(CHANGE)
    copy_and_cut_over(site, CHANGE, engine)
    if why == "damaged":  # as by a sector that cannot be read: there is no session to be had in it
        ((path,),) = site.sql(
            "postgres",
            "SELECT current_setting('data_directory') || '/base/' || oid || '/PG_VERSION'"
            " FROM pg_database WHERE datname = 't_seizure'",
        )
        Path(path).unlink()
    else:
        monkeypatch.setattr(swap, "COUNT_TIMEOUT_S", 0.0)
    recover(engine, CHANGE, plan)
    (aside,) = engine.list_quarantined()
    assert "count unknown" in str(aside.title)
    assert site.snapshot() == before
    if why == "damaged":
        Path(path).write_text(f"{site.server.binaries.major}\n")


@NEWEST
def test_rows_are_counted_in_parallel(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, count = site.engine(), reading.count_newer_rows
    plan = engine.plan_copy(CHANGE)
    copy_and_cut_over(site, CHANGE, engine)
    site.sql("t_seizure", ROW)
    met = threading.Barrier(len(site.names))

    def counted(*given: Any) -> Any:
        met.wait(swap.COUNT_TIMEOUT_S)
        return count(*given)

    monkeypatch.setattr(reading, "count_newer_rows", counted)
    recover(engine, CHANGE, plan)
    (aside,) = engine.list_quarantined()
    assert aside.figures["rows"] == "t_seizure: cases 1"
    assert not met.broken


@NEWEST
def test_session_opened_during_counting_loses_no_rows(
    plain: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, before = plain.engine(), plain.snapshot()
    plan = engine.plan_copy(CHANGE)
    copy_and_cut_over(plain, CHANGE, engine)
    visitor, count = engine._sessions._maintenance, reading.count_newer_rows
    enter = visitor.open_session
    inside: list[psycopg.Connection[object]] = []

    def open_(database: str, **how: Any) -> Any:
        with visitor.keep_open(database, limit_connections=False):
            if database == "t_seizure":
                inside.append(session(plain, "ncen"))
            return enter(database, **how)

    def counted(*given: Any) -> Any:
        found = count(*given)
        if given[0].info.dbname == "t_seizure":
            inside[0].execute(ROW)
        return found

    monkeypatch.setattr(visitor, "open_session", open_)
    monkeypatch.setattr(reading, "count_newer_rows", counted)
    recover(engine, CHANGE, plan)
    inside[0].close()
    assert plain.snapshot() == before
    opened_and_closed(plain, f"DO $$ BEGIN ASSERT ({WRITTEN}) = 1; END $$",
                      database=KEPT["t_seizure"])  # fmt: skip


@NEWEST
def test_nothing_is_retained_without_new_rows(plain: Site) -> None:
    engine, before = plain.engine(), plain.snapshot()
    plan = engine.plan_copy(CHANGE)
    copy_and_cut_over(plain, CHANGE, engine)
    plain.sql("t_seizure", "SELECT * FROM cases", "VACUUM (FULL, FREEZE)", "DELETE FROM loose")
    assert recover(engine, CHANGE, plan) == ChangeEvidence(True, False, (), ("seizure", "suspect"))
    assert engine.list_quarantined() == ()
    assert plain.snapshot() == before
    assert plain.databases() == set(plain.names.values())


@NEWEST
def test_written_previous_database_is_reported(site: Site) -> None:
    engine = site.engine()
    copy_and_cut_over(site, CHANGE, engine)
    engine.record_commit(CHANGE)
    back = ChangeRef("bbbbbbbb", 3, "3.2.4", retained_from=CHANGE.id)
    engine.count_lost_rows(back)
    engine.compute_table_digests(CHANGE.get_previous("seizure"))  # our own visits do not count
    assert "NU-4154" not in {
        finding.code for finding in engine.find_blockers(back, application_stopped=False)
    }
    previous = previous_name("t_seizure", CHANGE.id)
    opened_and_closed(site, ROW, database=previous)
    (told,) = [
        f for f in engine.find_blockers(back, application_stopped=False) if f.code == "NU-4154"
    ]
    assert told.figures == {"database": previous}
    # What was entered there is nowhere else: collecting it does not drop it.
    engine.drop_previous(CHANGE.id)
    engine.drop_previous(CHANGE.id)
    assert site.sql("t_control", "SELECT * FROM versions") == []
    (aside,) = engine.list_quarantined()
    assert aside.figures["path"] == ", ".join(sorted(KEPT.values()))
    assert not engine.list_leftovers()
    opened_and_closed(site, f"DO $$ BEGIN ASSERT ({WRITTEN}) = 1; END $$",
                      database=KEPT["t_seizure"])  # fmt: skip


@NEWEST
@pytest.mark.parametrize("torn", ["about to be dropped", "the first is gone", "a template"])
def test_interrupted_prune_is_not_taken_for_foreign_writes(
    site: Site, monkeypatch: pytest.MonkeyPatch, torn: str
) -> None:
    if torn == "a template":
        site.sql("postgres", "ALTER DATABASE t_seizure IS_TEMPLATE true")
    engine = site.engine()
    copy_and_cut_over(site, CHANGE, engine)
    engine.record_commit(CHANGE)
    if torn == "the first is gone":
        site.sql("postgres", f'DROP DATABASE "{previous_name("t_seizure", CHANGE.id)}"')
    else:

        def stays(*_: object) -> None:
            raise FenceError(count=1, database="t_seizure", detail="a superuser's session")

        with monkeypatch.context() as patched:
            patched.setattr(copying, "terminate_sessions", stays)
            with pytest.raises(FenceError):
                engine.drop_previous(CHANGE.id)
    engine.drop_previous(CHANGE.id)
    assert engine.list_quarantined() == ()
    assert site.databases() == set(site.names.values())
    assert site.sql("t_control", "SELECT * FROM versions") == []
    if torn == "a template":
        site.sql("postgres", "ALTER DATABASE t_seizure IS_TEMPLATE false")


@NEWEST
def test_live_database_written_before_the_commit_is_detected(site: Site) -> None:
    engine = site.engine()
    plan = engine.plan_copy(CHANGE)
    copy_and_cut_over(site, CHANGE, engine)
    engine.check_before_commit(CHANGE)
    opened_and_closed(site, ROW, database=previous_name("t_seizure", CHANGE.id))
    with refused(FENCE_BROKEN, match="t_seizure was opened"):
        engine.check_before_commit(CHANGE)
    recover(engine, CHANGE, plan)
    assert site.sql("t_seizure", WRITTEN) == [(1,)]


def test_connect_roles_are_configurable() -> None:
    assert PostgresSettings(owner="o").connect_roles == ("o",)
    assert PostgresSettings(owner="o", application_roles=("a", "b")).connect_roles == ("a", "b")
