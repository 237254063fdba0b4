"""Tests of the approved release: the one with enough approvals, the latest of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from packaging.version import Version

from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.approvals.approved_release import has_passed_since_failure
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalState, RehearsalStore
from ncen_updater.agent.engine.rehearsal.report import RehearsalCopyPlans
from ncen_updater.agent.model.change import Actor
from ncen_updater.agent.policy.automation import WaitReason
from ncen_updater.agent.policy.upgrade_start import StartKind, UpgradeStart, mark_superseded
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory

AMINA, BO, CHEN, ROOT = (
    Actor("amina", 1001), Actor("bo", 1002), Actor("chen", 1003), Actor("root", 0)
)  # fmt: skip
OLD, AGAIN, NEW, BACK = "aa" * 32, "ab" * 32, "bb" * 32, "cc" * 32
VERSIONS = {OLD: "3.3.0", AGAIN: "3.3.0", NEW: "3.4.0", BACK: "back to 3.2.4"}


@dataclass(frozen=True)
class Row:
    what: str
    given: tuple[tuple[str, Actor], ...]
    chosen: tuple[str, ...]
    needed: int = 2
    taken_back: tuple[tuple[str, Actor], ...] = ()


BOTH = ((OLD, AMINA), (OLD, BO))
ROWS = (
    Row("no approvals", (), ()),
    Row("one of two", ((OLD, AMINA),), ()),
    Row("one, where one is enough", ((OLD, AMINA),), ("3.3.0",), needed=1),
    Row("root, where one is enough", ((OLD, ROOT),), ("3.3.0",), needed=1),
    Row("both", BOTH, ("3.3.0",)),
    Row("each another one", ((OLD, AMINA), (NEW, BO)), ()),
    Row("each another rehearsal of the same", ((OLD, AMINA), (AGAIN, BO)), ()),
    Row("both, and one of them the newer, too", (*BOTH, (NEW, BO)), ("3.3.0",)),
    Row("both, then the newer", (*BOTH, (NEW, BO), (NEW, AMINA)), ("3.4.0", "3.3.0")),
    Row(
        "a third yes chooses nothing",
        (*BOTH, (NEW, BO), (NEW, AMINA), (OLD, CHEN)), ("3.4.0", "3.3.0"),
    ),
    Row(
        "the same again after another rehearsal",
        (*BOTH, (NEW, BO), (NEW, AMINA), (AGAIN, AMINA), (AGAIN, BO)), ("3.3.0", "3.4.0"),
    ),
    Row("one took it back", BOTH, (), taken_back=((OLD, BO),)),
    Row(
        "one took the newer back", (*BOTH, (NEW, BO), (NEW, AMINA)), ("3.3.0",),
        taken_back=((NEW, AMINA),),
    ),
    Row("rollback approvals are separate", ((BACK, AMINA), (BACK, BO)), ()),
    Row("what is chosen is below it", (*BOTH, (BACK, AMINA)), ("3.3.0",)),
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_approved_releases_are_listed(tmp_path: Path, row: Row) -> None:
    with Journal.create(tmp_path / "journal.sqlite") as journal:
        store = ApprovalStore(journal)
        assert store.list_approved_releases(row.needed) == ()
        for binding, person in row.given:
            basis: dict[str, object] = {"rollback": "x"} if binding == BACK else {}
            store.add(binding, VERSIONS[binding], basis, person, row.needed)
        for binding, person in row.taken_back:
            store.withdraw(binding, person)
        assert store.list_approved_releases(row.needed) == row.chosen


@pytest.mark.parametrize(
    ("approved", "found", "stays"),
    [
        ((), StartKind.AT, None),
        (("3.3.0",), StartKind.AT, None),
        (("3.3.0", "3.4.0"), StartKind.NOW, None),
        (("3.4.0",), StartKind.AT, WaitReason.SUPERSEDED),
        (("3.4.0", "3.3.0"), StartKind.NOW, WaitReason.SUPERSEDED),
        (("3.4.0",), StartKind.NOT_AUTOMATIC, WaitReason.APPROVAL),
    ],
)
def test_superseded_release_waits(
    approved: tuple[str, ...], found: StartKind, stays: WaitReason | None
) -> None:
    waits = WaitReason.APPROVAL if found is StartKind.NOT_AUTOMATIC else None
    assert mark_superseded(UpgradeStart(found, None, waits), "3.3.0", approved).wait_reason is stays


def test_failed_release_is_retried_after_a_passed_rehearsal(tmp_path: Path) -> None:
    at = [datetime(2026, 11, 27, 6, tzinfo=UTC)]
    with Journal.create(tmp_path / "journal.sqlite", now=lambda: at[0]) as journal:

        def rehearsed(number: str, version: str, state: RehearsalState) -> bool:
            at[0] += timedelta(minutes=1)
            RehearsalStore(journal).record_start(number, "3.2.4", version, RehearsalCopyPlans())
            RehearsalStore(journal).record_end(number, state)
            return has_passed_since_failure(journal, Version("3.3.4"))

        assert not rehearsed("aaaaaaaa", "3.3.4", RehearsalState.PASSED), "nothing failed"
        at[0] += timedelta(minutes=1)
        SiteHistory(journal).mark_bad("ncen", "3.3.4", "NU-6008", None)
        assert not has_passed_since_failure(journal, Version("3.3.4"))
        assert not rehearsed("bbbbbbbb", "3.3.0", RehearsalState.PASSED)
        assert not rehearsed("cccccccc", "3.3.4", RehearsalState.FAILED)
        assert rehearsed("dddddddd", "3.3.4", RehearsalState.PASSED)
        at[0] += timedelta(minutes=1)
        SiteHistory(journal).mark_bad("ncen", "3.3.4", "NU-6008", None)
        assert not has_passed_since_failure(journal, Version("3.3.4")), "it failed once more"
