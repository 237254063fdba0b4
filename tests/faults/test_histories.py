"""The judge of the random histories finds what it is there for. See ``benchmarks/histories``."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter

import pytest

from benchmarks.histories.foreign_sessions import KINDS, instants_of
from benchmarks.histories.judge import (
    Attempt,
    Kind,
    Loss,
    Record,
    Seen,
    collect_keys,
    find_named_sets,
    judge,
    list_unusual_values,
)
from benchmarks.histories.plans import FAULTS, OPERATIONS, choose_plan, parse_plan
from benchmarks.histories.report_check import (
    AS_BEFORE,
    SiteReport,
    Truth,
    find_false_statements,
)

DATABASES = ("seizures", "suspects", "companies")
CASES = "seizures.cases"


def site(version: str = "3.3.0", *, keys: tuple[str, ...] = ("A", "B")) -> Seen:
    return Seen(
        code=version,
        schemas=dict.fromkeys(DATABASES, version),
        reported=version,
        live={CASES: dict.fromkeys(keys, 0)},
    )


def record(key: str, by: str = "an officer", at: float = 10.0, value: int = 0) -> Record:
    return Record(CASES, key, by, at - 0.1, at, value)


UPGRADE = Attempt("upgrade", before="3.2.4", wanted="3.3.0", downtime_began=True)
FAILED = dataclasses.replace(UPGRADE, exit_code=11)
BEFORE = site("3.2.4")


def test_successful_upgrade_is_accepted() -> None:
    verdict = judge(UPGRADE, site(), [record("A"), record("B", "importer")])
    assert verdict.kind is Kind.OK, verdict


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        pytest.param(site(keys=("A",)), "now nowhere", id="a lost record"),
        pytest.param(
            dataclasses.replace(site(keys=("A",)), retained={"set 1": {CASES: frozenset("B")}}),
            "retained in set 1 and not reported",
            id="a record that is retained but not reported",
        ),
        pytest.param(
            dataclasses.replace(site(), schemas={**site().schemas, "suspects": "3.2.4"}),
            "a mixture",
            id="a mixture",
        ),
        pytest.param(
            dataclasses.replace(site(), reported=None), "nothing that runs", id="it does not run"
        ),
        pytest.param(site("3.4.0"), "nobody asked for", id="another release"),
        pytest.param(
            dataclasses.replace(site(), different=("seizures.cases",)), "not as release", id="rows"
        ),
        pytest.param(
            dataclasses.replace(site(), maintenance_off=False),
            "kept out",
            id="the maintenance page",
        ),
        pytest.param(
            dataclasses.replace(site(), user_can_work=False), "no officer", id="cases not taken"
        ),
        pytest.param(dataclasses.replace(site(), left=("a copy",)), "left behind", id="a copy"),
        pytest.param(dataclasses.replace(site(), verify=("NU-6106",)), "verify", id="verify"),
        pytest.param(dataclasses.replace(site(), attributes=("x",)), "owner", id="attributes"),
    ],
)
def test_inconsistent_site_is_detected_despite_a_fault(seen: Seen, words: str) -> None:
    records = [record("A"), record("B", "importer")]
    for tried in (UPGRADE, dataclasses.replace(UPGRADE, fault="SIGKILL")):
        verdict = judge(tried, seen, records)
        assert verdict.kind is Kind.WRONG
        assert words in " ".join(verdict.reasons)


def test_retained_and_reported_record_is_accepted() -> None:
    seen = dataclasses.replace(
        site(keys=("A",)),
        retained={"set 1": {CASES: frozenset("B")}},
        reported_sets=frozenset({"set 1"}),
    )
    verdict = judge(UPGRADE, seen, [record("A"), record("B")])
    assert verdict.kind is Kind.OK
    assert [r.key for r in verdict.set_aside] == ["B"]


def test_only_unusual_sets_are_named() -> None:
    ordinary = collect_keys({"changes": [{"id": "x", "facts": {"downtime_s": 1}}]})
    said = {
        "changes": [{"id": "abc", "facts": {"downtime_s": "prev_abc", "younger": "in prev_abd"}}]
    }
    text = " ".join(list_unusual_values(said, ordinary))
    assert find_named_sets({"prev_abc", "prev_abd", "base"}, f"{text}, the databases") == {
        "prev_abd"
    }


def test_lost_edit_is_detected() -> None:
    verdict = judge(UPGRADE, site(), [record("A", "importer", value=2)])
    assert "older edit" in " ".join(verdict.reasons)


def test_accepted_loss_must_match_its_time_range() -> None:
    tried = Attempt("rollback", "3.3.9", "3.2.4", loss=Loss(since=20.0, until=30.0, accepted=2))
    within = judge(tried, site("3.2.4", keys=()), [record("A", at=25.0), record("B", at=30.05)])
    assert within.kind is Kind.OK
    assert len(within.agreed) == 2
    for outside in (15.0, 31.0):
        assert judge(tried, site("3.2.4", keys=()), [record("A", at=outside)]).kind is Kind.WRONG
    many = [record(f"{n}", at=25.0) for n in range(3)]
    assert "agreed to" in " ".join(judge(tried, site("3.2.4", keys=()), many).reasons)
    # It was agreed to for a rollback that did not come to pass.
    stays = dataclasses.replace(tried, exit_code=11, fault="SIGKILL")
    assert judge(stays, site("3.3.9", keys=()), [record("A", at=25.0)]).kind is Kind.WRONG


def test_undisturbed_failure_is_wrong_for_any_site() -> None:
    verdict = judge(FAILED, BEFORE, [])
    assert verdict.kind is Kind.WRONG
    assert "undisturbed upgrade failed after users were kept out" in verdict.reasons[0]
    assert judge(dataclasses.replace(FAILED, fault="SIGKILL"), BEFORE, []).kind is Kind.OK
    needed = dataclasses.replace(UPGRADE, resumes=1)
    assert judge(needed, site(), []).kind is Kind.WRONG
    rested = dataclasses.replace(UPGRADE, fault="SIGKILL", at_rest=False)
    assert judge(rested, site(), []).kind is Kind.WRONG


def test_foreign_session_is_excused_only_before_the_downtime() -> None:
    beside = dataclasses.replace(
        FAILED, stranger="importer idle", may_block=True, names=("importer",), output="importer"
    )
    early = dataclasses.replace(beside, downtime_began=False)
    assert judge(early, BEFORE, []).kind is Kind.REFUSED
    nameless = judge(dataclasses.replace(early, output="somebody"), BEFORE, [])
    assert "does not name" in " ".join(nameless.reasons)
    assert judge(beside, BEFORE, []).kind is Kind.WRONG
    # A session during the downtime is an excuse, also for a rollback.
    assert judge(dataclasses.replace(beside, excuses=True), BEFORE, []).kind is Kind.OK


def test_bad_releases_fail_and_holds_block() -> None:
    bad = dataclasses.replace(FAILED, wanted="3.2.4", fails=True)
    assert judge(bad, BEFORE, []).kind is Kind.OK
    assert judge(dataclasses.replace(bad, exit_code=0), BEFORE, []).kind is Kind.WRONG
    held = dataclasses.replace(FAILED, wanted="3.2.4", refusal=True, downtime_began=False)
    assert judge(held, BEFORE, []).kind is Kind.REFUSED
    assert judge(dataclasses.replace(held, downtime_began=True), BEFORE, []).kind is Kind.WRONG


@pytest.mark.parametrize("engine", ["postgresql", "sqlite"])
def test_plans_cover_every_kind_and_are_serialisable(engine: str) -> None:
    tried: Counter[str] = Counter()
    possible = [name for name in OPERATIONS if not OPERATIONS[name].refusal]
    plans = [choose_plan(random.Random(n), tried, engine, possible) for n in range(600)]
    plain = sum(plan.fault is None for plan in plans)
    assert 170 <= plain <= 260
    faults = Counter(plan.fault.kind for plan in plans if plan.fault)
    strangers = Counter(plan.stranger for plan in plans)
    assert set(strangers) == {n for n, k in KINDS.items() if k.engine in (engine, "both")}
    if engine == "postgresql":
        assert set(faults) == set(FAULTS)
    assert set(possible) == {plan.operation for plan in plans}
    assert all(parse_plan(plan.to_json()) == plan for plan in plans)


LIVE = {"ncen_seizures": True, "ncen_suspects": True}
MISSING, CLOSED = {**LIVE, "ncen_seizures": None}, {**LIVE, "ncen_seizures": False}
NAMED = ({"code": "NU-4102", "title": "Database ncen_seizures is missing or incomplete"},)
SHUT = ({"code": "NU-4016", "title": "Database ncen_seizures does not accept connections"},)
STRICT = ({"code": "NU-6102", "title": "Contradiction", "severity": "critical"},)
WORKS = {"running": {"availability": {"state": "available"}}}
BLAMED = {"journal": {"bad_releases": [{"version": "3.3.0", "code": "NU-6008"}]}}


@pytest.mark.parametrize(
    ("said", "truth", "words"),
    [
        (SiteReport(), Truth(LIVE, user_can_work=True), ""),
        (SiteReport(doctor=NAMED), Truth(MISSING, user_can_work=False), ""),
        (SiteReport(), Truth(MISSING, user_can_work=False), "says nothing of ncen_seizures"),
        (SiteReport(doctor=NAMED), Truth(LIVE, user_can_work=True), "is missing"),
        (SiteReport(doctor=SHUT), Truth(CLOSED, user_can_work=False), ""),
        (SiteReport(doctor=SHUT), Truth(LIVE, user_can_work=True), "is closed"),
        (SiteReport(), Truth(CLOSED, user_can_work=False), "which is closed"),
        (SiteReport(), Truth(CLOSED, user_can_work=False, open_change=True), ""),
        (SiteReport(doctor=STRICT), Truth(LIVE, user_can_work=True), ""),
        (SiteReport(doctor=STRICT), Truth(LIVE, user_can_work=True, final=True), "put right"),
        (SiteReport(document=WORKS), Truth(LIVE, user_can_work=False), "none can"),
        (SiteReport(document=BLAMED), Truth(LIVE, user_can_work=True), "called bad"),
        (
            SiteReport(document=BLAMED),
            Truth(LIVE, user_can_work=True, bad=frozenset({"3.3.0"})),
            "",
        ),
        (
            SiteReport(status=AS_BEFORE),
            Truth(LIVE, user_can_work=True, replaced=("ncen_seizures",), undone=True),
            "replaced databases",
        ),
        (
            SiteReport(status=f"{AS_BEFORE}; replaced: ncen_seizures"),
            Truth(LIVE, user_can_work=True, replaced=("ncen_seizures",), undone=True),
            "",
        ),
    ],
)
def test_false_statement_is_detected(said: SiteReport, truth: Truth, words: str) -> None:
    found = find_false_statements(said, truth)
    assert words in " ".join(found) if words else found == []


def test_administrator_acts_at_every_kind_of_instant() -> None:
    kinds = [kind for kind in KINDS if kind.startswith("administrator")]
    for kind in kinds:
        found = [instants_of(kind, random.Random(n), fails=n % 2 == 0) for n in range(300)]
        assert {len(instants) for instants in found} == {1, 2}
        backwards = {n % 2 for n, instants in enumerate(found) if "undo" in instants[0][1]}
        assert backwards == {0}
    plans = [
        choose_plan(random.Random(n), Counter(), "postgresql", list(OPERATIONS), "administrator")
        for n in range(20)
    ]
    assert {plan.stranger for plan in plans} <= set(kinds)
