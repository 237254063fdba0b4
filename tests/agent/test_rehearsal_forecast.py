"""Tests of the last rehearsal in ``plan``: the downtime and the round-trip test."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from ncen_updater.agent.adapters.databases.base import RollbackKind
from ncen_updater.agent.adapters.databases.round_trip import ColumnRoundTrip, RoundTripResult
from ncen_updater.agent.engine.rehearsal.report import RehearsalReport, RehearsedHop
from ncen_updater.agent.policy.downtime_prediction import DowntimeRange
from ncen_updater.agent.reports.command_results import (
    _describe_hop_rollback,
    _format_downtime_lines,
    match_rehearsed_hops,
)
from ncen_updater.common.i18n import LazyText

HOP = RehearsedHop(
    from_version="3.2.4",
    to_version="3.3.0",
    copy_s=1.0,
    migrate_s=1.0,
    rollback_path=RollbackKind.KEEPS_RECORDS,
    downtime=DowntimeRange(2.0, 3.0, 9.0),
    round_trip=RoundTripResult(),
)


def report(plan: str) -> RehearsalReport:
    return RehearsalReport(plan=plan, backup_s=1.0, hops=(HOP,))


def test_rehearsal_of_another_plan_is_ignored() -> None:
    made = cast("Any", SimpleNamespace(digest="aa"))
    assert match_rehearsed_hops(made, None) == {}
    assert match_rehearsed_hops(made, report("bb")) == {}
    assert match_rehearsed_hops(made, report("aa")) == {("3.2.4", "3.3.0"): HOP}


def test_rehearsed_downtime_and_round_trip_are_shown() -> None:
    def lines(hop: RehearsedHop) -> list[str]:
        return [
            line.render("en") if isinstance(line, LazyText) else line
            for line in _format_downtime_lines(hop, "en")
        ]

    stop = "  predicted downtime: about 3.0 s (at most 9.0 s)"
    assert lines(replace(HOP, round_trip=None)) == [stop]
    lost = RoundTripResult(failure="the way back stumbled")
    assert lines(replace(HOP, round_trip=lost))[1:] == [
        "  rollback failed with sample values: the way back stumbled"
    ]


def test_plan_includes_round_trip_losses_in_the_rollback() -> None:
    """Seen: "keeps every record.", and three lines below what is lost of it."""
    way = SimpleNamespace(kind=RollbackKind.KEEPS_RECORDS, lost_objects=())
    offer = SimpleNamespace(version="3.3.0")
    hop = cast(
        "Any", SimpleNamespace(rollback_path=way, origin="3.2.4", offer=offer, no_copy=False)
    )
    lost = RoundTripResult((ColumnRoundTrip("seizures.classes.title", lost=8),))
    whole, but = (
        _describe_hop_rollback(hop, shown).render("en")
        for shown in (HOP, replace(HOP, round_trip=lost))
    )
    before = _describe_hop_rollback(hop, None).render("en")
    assert "keeps all records, according to the release" in before, (
        "what its files say, and no more"
    )
    hop.no_copy = True
    assert _describe_hop_rollback(hop, None).render("en") == whole, "no database is touched"
    assert whole == "Rollback from 3.3.0 to 3.2.4 keeps all records."
    assert but.endswith("keeps all records except values entered in seizures.classes.title.")
