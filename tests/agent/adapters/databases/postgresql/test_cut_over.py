"""Tests of fence, copy, cut-over and revert, to the last grant and row."""

from __future__ import annotations

import shutil
from dataclasses import replace

import psycopg
import pytest

from ncen_updater.agent.adapters.databases.base import (
    ChangeEvidence,
    ChangeRef,
    DatabaseMarker,
    DatabaseRole,
    LiveDatabase,
)
from ncen_updater.agent.adapters.databases.postgresql import blockers
from ncen_updater.agent.adapters.databases.postgresql import control_database as control
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    DatabaseGrant,
    add_marker,
    candidate_name,
    previous_name,
)
from ncen_updater.agent.adapters.databases.postgresql.control_database import choose_oid
from ncen_updater.agent.model.errors import DatabaseError, DatabaseUnreachableError
from ncen_updater.common.messages import (
    ALREADY_COMMITTED,
    CUT_OVER_FAILED,
    FENCED_BY_OTHER,
    MARKERS_DISAGREE,
)
from ncen_updater.common.progress import SilentProgress
from tests.agent.adapters.databases.postgresql.site import (
    CHANGE,
    NEWEST,
    OWNER,
    Seen,
    Site,
    need_chosen_numbers,
    quoted,
)
from tests.support.errors import refused

NAMES = ("seizure", "suspect")


def test_cut_over_and_back_is_exact(any_site: Site) -> None:
    site, engine = any_site, any_site.engine()
    before = site.snapshot()
    assert engine.read_evidence(CHANGE) == ChangeEvidence(is_cut_over=False, fenced=False)
    assert "t_control" not in str(site.sql("postgres", "SELECT datname FROM pg_database"))

    engine.fence(CHANGE)
    assert engine.read_evidence(CHANGE).fenced
    with pytest.raises(psycopg.OperationalError, match="not currently accepting"):
        site.sql("t_seizure", "SELECT 1")
    plan = engine.plan_copy(CHANGE)
    assert not engine.is_copied(CHANGE, plan)
    engine.copy_databases(CHANGE, plan, SilentProgress())
    assert engine.is_copied(CHANGE, plan)
    assert engine.read_evidence(CHANGE) == ChangeEvidence(False, True, NAMES)
    for logical, physical in site.names.items():
        candidate = candidate_name(physical, CHANGE.id)
        assert engine.compute_table_digests(CHANGE.get_candidate(logical)) == before[physical][4]
        closed = f"SELECT has_database_privilege('public', {lit(candidate)}, 'CONNECT')"
        assert site.sql("postgres", closed) == [(False,)]
        assert engine.run_query(CHANGE.get_candidate(logical), "SELECT count(*) FROM cases") == [
            (500,)
        ]
    engine.cut_over(CHANGE)
    engine.cut_over(CHANGE)
    after = site.snapshot()
    for physical, (attributes, limit, allow, comment, digests) in before.items():
        expected = (attributes, limit, allow, add_marker(comment, CHANGE), digests)
        assert in_any_order(after[physical]) == barred(expected, site.user)
    assert engine.read_evidence(CHANGE) == ChangeEvidence(True, False, (), NAMES)
    assert engine.read_marker() == DatabaseMarker("3.3.0", 2, CHANGE.id)
    with pytest.raises(psycopg.OperationalError, match="not currently accepting"):
        site.sql(previous_name("t_seizure", CHANGE.id), "SELECT 1")

    site.sql("t_seizure", "SET ROLE ncen", "DELETE FROM cases", "CREATE TABLE new (a int)")
    engine.revert_cut_over(CHANGE)
    engine.revert_cut_over(CHANGE)
    assert engine.read_evidence(CHANGE) == ChangeEvidence(False, True, NAMES)
    engine.discard_candidates(CHANGE, plan)
    engine.discard_candidates(CHANGE, plan)
    engine.unfence(CHANGE)
    engine.unfence(CHANGE)
    assert engine.read_evidence(CHANGE) == ChangeEvidence(False, False)
    assert site.snapshot() == before
    assert site.databases() == set(site.names.values())
    assert engine.read_marker() is None


@NEWEST
def test_cut_over_is_repeatable_after_a_revert(site: Site) -> None:
    engine = site.engine()
    engine.fence(CHANGE)
    plan = engine.plan_copy(CHANGE)
    engine.copy_databases(CHANGE, plan, SilentProgress())
    engine.cut_over(CHANGE)
    over = site.snapshot()
    engine.revert_cut_over(CHANGE)
    engine.cut_over(CHANGE)
    assert site.snapshot() == over
    engine.drop_previous(CHANGE.id)
    engine.drop_previous(CHANGE.id)
    assert site.databases() == set(site.names.values())


@pytest.mark.parametrize("forgotten", ["nothing", "control", "comments"])
@NEWEST
def test_committed_change_is_not_reverted(site: Site, forgotten: str) -> None:
    engine = site.engine()
    engine.fence(CHANGE)
    with pytest.raises(DatabaseError):
        engine.record_commit(replace(CHANGE, id="cccccccc"))
    engine.copy_databases(CHANGE, engine.plan_copy(CHANGE), SilentProgress())
    engine.cut_over(CHANGE)
    assert not engine.read_evidence(CHANGE).committed
    engine.record_commit(CHANGE)
    engine.record_commit(CHANGE)
    if forgotten == "control":
        site.sql("t_control", "DELETE FROM cut_overs WHERE direction = 'committed'")
    elif forgotten == "comments":
        for physical in site.names.values():
            site.sql("postgres", f"COMMENT ON DATABASE {quoted(physical)} IS NULL")
    assert engine.read_evidence(CHANGE).committed
    site.sql("t_seizure", "INSERT INTO cases VALUES (501, 'an officer', NULL)")
    before = site.snapshot()
    with refused(ALREADY_COMMITTED):
        engine.revert_cut_over(CHANGE)
    engine.unfence(CHANGE)
    assert site.snapshot() == before


@NEWEST
def test_change_does_not_replace_or_revert_a_later_one(site: Site) -> None:
    first, second = CHANGE, replace(CHANGE, id="bbbbbbbb")
    engine = site.engine()
    engine.fence(first)
    engine.copy_databases(first, engine.plan_copy(first), SilentProgress())
    engine.copy_databases(second, engine.plan_copy(second), SilentProgress())
    engine.cut_over(first)
    with refused(CUT_OVER_FAILED, match=first.id):
        engine.cut_over(second)
    engine.unfence(second)
    later = replace(CHANGE, id="cccccccc", generation=3)
    engine.fence(later)
    engine.copy_databases(later, engine.plan_copy(later), SilentProgress())
    engine.cut_over(later)
    assert engine.read_evidence(first).superseded
    before = site.snapshot()
    with refused(ALREADY_COMMITTED):
        engine.revert_cut_over(first)
    engine.unfence(first)
    assert site.snapshot() == before


@pytest.mark.parametrize("seen", [True, False])
@NEWEST
def test_leftover_control_database_of_a_killed_server_is_replaced(
    site: Site, seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory without a row: what the server leaves when it is killed in CREATE DATABASE."""
    need_chosen_numbers(site)
    number = choose_oid("control", "t_control", ())
    left = site.server.data / "base" / str(number)
    left.mkdir()
    (left / "left").write_bytes(b"left")
    shutil.chown(left, (site.server.data / "base").stat().st_uid)
    if not seen:
        monkeypatch.setattr(control, "find_data_directory", lambda *_: None)
    try:
        site.engine().fence(CHANGE)
        ((found,),) = site.sql("t_control", "SELECT oid::int8 FROM pg_database WHERE datname ="
                               " 't_control'")  # fmt: skip
        assert found == (number if seen else number + 1)
        assert (left / "left").exists() is not seen
    finally:
        site.engine().unfence(CHANGE)
        if not seen:
            shutil.rmtree(left)


@NEWEST
def test_leftover_directory_of_an_interrupted_copy_is_reported(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_chosen_numbers(site)
    engine = site.engine()
    plan = engine.plan_copy(CHANGE)
    numbers = {str(item["source"]): item["oid"] for item in plan.copies.values()}
    assert engine.find_orphans(plan) == ()
    left = site.server.data / "base" / str(numbers["t_seizure"])
    left.mkdir()
    try:
        (found,) = engine.find_orphans(plan)
        assert (found.code, found.figures) == (
            "NU-4138", {"database": "t_seizure", "oid": numbers["t_seizure"]},
        )  # fmt: skip
    finally:
        left.rmdir()
    monkeypatch.setattr(blockers, "find_data_directory", lambda *_: None)
    unseen = engine.find_orphans(plan)
    assert {found.code for found in unseen} == {"NU-4139"}
    assert {found.figures["database"]: found.figures["oid"] for found in unseen} == numbers
    engine.fence(CHANGE)
    engine.copy_databases(CHANGE, plan, SilentProgress())
    assert engine.find_orphans(plan) == ()


@NEWEST
def test_previous_databases_are_restored(site: Site) -> None:
    engine = site.engine()
    before = site.snapshot()
    engine.fence(CHANGE)
    engine.copy_databases(CHANGE, engine.plan_copy(CHANGE), SilentProgress())
    engine.cut_over(CHANGE)
    site.sql(
        "t_seizure",
        "INSERT INTO cases SELECT i, 'n', NULL FROM generate_series(501, 507) i",
        "DELETE FROM cases WHERE id = 1",
        "UPDATE cases SET what = 'edited' WHERE id IN (2, 3, 505)",
        "INSERT INTO loose VALUES ('y')",
        "SET ROLE ncen",
        "CREATE TABLE later (a int)",
        "INSERT INTO later VALUES (1), (2)",
    )
    back = ChangeRef("bbbbbbbb", 3, "3.2.4", retained_from=CHANGE.id)
    assert engine.count_lost_rows(back) == {"seizure": {"cases": 9, "loose": 1, "later": 2}}
    # VACUUM changes no record; a number that cannot be right is not believed, and keys are asked.
    site.sql("t_seizure", "VACUUM (FULL, FREEZE)")
    assert engine.count_lost_rows(back) == {"seizure": {"cases": 9, "loose": 1, "later": 2}}
    for spoil in ("UPDATE moments SET transaction = '99999999999'", "DROP TABLE moments"):
        site.sql("t_control", spoil)
        assert engine.count_lost_rows(back) == {"seizure": {"cases": 7, "loose": 1, "later": 2}}
    engine.fence(back)
    engine.copy_databases(back, engine.plan_copy(back), SilentProgress())
    engine.cut_over(back)
    engine.record_commit(back)
    after = site.snapshot()
    assert {name: seen[4] for name, seen in after.items()} == {
        name: seen[4] for name, seen in before.items()
    }
    assert {name: seen[:3] for name, seen in after.items()} == {
        name: seen[:3] for name, seen in before.items()
    }
    assert engine.read_marker() == DatabaseMarker("3.2.4", 3, "bbbbbbbb")
    assert engine.list_leftovers() == (
        ("abcdefgh", DatabaseRole.PREVIOUS, "seizure"),
        ("abcdefgh", DatabaseRole.PREVIOUS, "suspect"),
        ("bbbbbbbb", DatabaseRole.PREVIOUS, "seizure"),
        ("bbbbbbbb", DatabaseRole.PREVIOUS, "suspect"),
    )


@NEWEST
def test_incomplete_set_is_detected(site: Site) -> None:
    marked = lit(add_marker(None, CHANGE))
    site.sql("postgres", f"COMMENT ON DATABASE t_seizure IS {marked}")
    with refused(MARKERS_DISAGREE):
        site.engine().read_marker()
    site.sql("postgres", "ALTER DATABASE t_seizure RENAME TO away")
    with refused(MARKERS_DISAGREE, match="seizure not found"):
        site.engine().read_marker()
    assert site.engine().read_evidence(CHANGE).missing == ("t_seizure",)


@NEWEST
def test_fence_terminates_sessions_and_keeps_the_live_database_closed(site: Site) -> None:
    engine = site.engine()
    with psycopg.connect(site.server.conninfo("t_seizure"), autocommit=True) as officer:
        officer.execute("SELECT 1")
        engine.fence(CHANGE)
        with pytest.raises(psycopg.OperationalError):
            officer.execute("SELECT 1")
    with pytest.raises(DatabaseUnreachableError):
        engine.run_query(LiveDatabase("seizure"), "SELECT 1")
    other = ChangeRef("cccccccc", 3, "3.3.1")
    closed = site.sql("t_control", "SELECT * FROM fences ORDER BY 1")
    for act in (engine.fence, engine.unfence, engine.cut_over):
        with refused(FENCED_BY_OTHER, match=CHANGE.id):
            act(other)
    assert site.sql("t_control", "SELECT * FROM fences ORDER BY 1") == closed
    assert engine.read_evidence(CHANGE).fenced
    site.engine().unfence(CHANGE)
    assert site.sql("t_seizure", "SELECT datconnlimit FROM pg_database WHERE datname ="
                    " 't_seizure'") == [(40,)]  # fmt: skip


def in_catalogue(site: Site) -> list[tuple[object, ...]]:
    return site.sql(
        "postgres",
        "SELECT datname, datacl::text, (SELECT json_agg(setconfig ORDER BY setrole)"
        " FROM pg_db_role_setting WHERE setdatabase = d.oid) FROM pg_database d"
        " WHERE datname LIKE 't%' AND datname NOT LIKE '%\\_\\_%' AND datname <> 'template1'"
        " AND datname <> 'template0' ORDER BY 1",
    )


@pytest.mark.parametrize("back", [True, False])
def test_grants_and_settings_keep_their_order(any_site: Site, back: bool) -> None:
    site, engine = any_site, any_site.engine()
    engine.prepare_control_storage()
    before = in_catalogue(site)
    engine.fence(CHANGE)
    engine.copy_databases(CHANGE, engine.plan_copy(CHANGE), SilentProgress())
    engine.cut_over(CHANGE)
    if back:
        engine.revert_cut_over(CHANGE)
        engine.unfence(CHANGE)
    else:
        engine.record_commit(CHANGE)
    assert in_catalogue(site) == before


def test_refused_rollback_revokes_no_privileges(any_site: Site) -> None:
    site, engine = any_site, any_site.engine()
    engine.fence(CHANGE)
    engine.copy_databases(CHANGE, engine.plan_copy(CHANGE), SilentProgress())
    engine.cut_over(CHANGE)
    engine.record_commit(CHANGE)
    engine.unfence(CHANGE)
    site.sql("t_seizure", "INSERT INTO cases VALUES (501, 'an officer', NULL)")
    before = site.snapshot()
    with refused(ALREADY_COMMITTED):
        engine.revert_cut_over(CHANGE)
    engine.unfence(CHANGE)
    assert site.snapshot() == before


def barred(seen: Seen, agent: str) -> Seen:
    """The same between cut-over and commit: only the application and the agent connect."""
    others = tuple(g for g in seen[0].grants if g.privilege != "CONNECT")
    ours = {DatabaseGrant(OWNER, "CONNECT", False), DatabaseGrant(agent, "CONNECT", False)}
    return in_any_order((replace(seen[0], grants=(*{*others, *ours},)), *seen[1:]))


def in_any_order(seen: Seen) -> Seen:
    return (replace(seen[0], grants=tuple(sorted(seen[0].grants))), *seen[1:])


def lit(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
