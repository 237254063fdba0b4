"""Tests of the lines of paths and plans, and of withheld releases."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ncen_updater.agent.cli.plan import _list_next_commands
from ncen_updater.agent.reports.command_results import (
    format_path_lines,
    format_step_count,
    format_step_lines,
    merge_retained,
)
from ncen_updater.agent.service.assessment import list_withheld_releases
from ncen_updater.agent.storage.overlay.layer import AreaCount, TranslationCoverage
from ncen_updater.agent.storage.overlay.report_text import describe_overlay
from ncen_updater.agent.storage.service_state import WithheldRelease
from ncen_updater.common.findings import Severity, make_finding
from ncen_updater.feed.upgrade_path import NoUpgradePath, OfferRejection, RejectionReason

NEWEST = "Up to date: ncen 3.2.4"
STAYS = "No other release available; ncen 3.2.4 stays installed"


@pytest.mark.parametrize(
    ("reasons", "said"),
    [
        ([], NEWEST),
        ([RejectionReason.NOT_NEWER], NEWEST),
        ([RejectionReason.OTHER_COUNTRY], NEWEST),
        ([RejectionReason.MARKED_BAD], STAYS),
        ([RejectionReason.OTHER_COUNTRY, RejectionReason.WAVE_NOT_OPEN], STAYS),
    ],
)
def test_failed_newer_release_is_still_reported_as_newer(
    reasons: list[RejectionReason], said: str
) -> None:
    """Seen: "is the newest release for this site", and below it 3.3.1, which had failed."""
    one: Any = SimpleNamespace(
        version="3.3.1", agent="1", channel=SimpleNamespace(value="stable"), countries=("KE",),
        withdrawn=None, halted=None, upgrade_from="",
    )  # fmt: skip
    path = NoUpgradePath(rejected=tuple(OfferRejection(one, reason) for reason in reasons))
    words = [str(line) for line in format_path_lines("ncen", "3.2.4", path)]
    assert words[0] == said
    again = "ncen-updater upgrade 3.3.1 --retry"
    assert any(again in line for line in words) is (RejectionReason.MARKED_BAD in reasons)


@pytest.mark.parametrize(("version", "said"), [("3.2.4", STAYS), ("3.2.3", NEWEST)])
def test_withdrawn_release_is_not_the_newest(version: str, said: str) -> None:
    """Seen: "is the newest release for this site", and below it that it was withdrawn."""
    gone: Any = SimpleNamespace(version=version, withdrawn=SimpleNamespace(reason="bad"))
    path = NoUpgradePath(rejected=(OfferRejection(gone, RejectionReason.NOT_NEWER),))
    assert [str(line) for line in format_path_lines("ncen", "3.2.4", path)] == [said]


def test_release_halted_by_the_signers_is_recognised() -> None:
    """What failed here, or is for others, is no such thing."""
    opens = datetime(2026, 12, 3, 8, tzinfo=UTC)

    def one(version: str, **more: Any) -> Any:
        return SimpleNamespace(**{"version": version, "withdrawn": None, "halted": None, **more})

    rejected = (
        OfferRejection(one("3.3.0", halted=SimpleNamespace(reason="slow")), RejectionReason.HALTED),
        OfferRejection(
            one("3.3.1", withdrawn=SimpleNamespace(reason="bad")), RejectionReason.WITHDRAWN
        ),
        OfferRejection(one("3.3.2"), RejectionReason.WAVE_NOT_OPEN, opens=opens),
        *(
            OfferRejection(one("3.3.3"), reason)
            for reason in (RejectionReason.MARKED_BAD, RejectionReason.OTHER_COUNTRY)
        ),
    )
    assert list_withheld_releases(rejected) == (
        WithheldRelease("3.3.0", "halted", "slow"),
        WithheldRelease("3.3.1", "withdrawn", "bad"),
        WithheldRelease("3.3.2", "wave-not-open", opens=opens),
    )


def test_wave_opening_is_shown_in_site_time() -> None:
    """Seen: in UTC alone, where all else is told in the time of the site as well."""
    one: Any = SimpleNamespace(
        version="3.3.1", agent="1", channel=SimpleNamespace(value="stable"), countries=("KE",),
        withdrawn=None, halted=None, upgrade_from="",
    )  # fmt: skip
    opens = datetime(2026, 12, 1, 20, tzinfo=UTC)
    path = NoUpgradePath(
        rejected=(OfferRejection(one, RejectionReason.WAVE_NOT_OPEN, opens=opens),)
    )
    said = [
        str(line) for line in format_path_lines("ncen", "3.2.4", path, ZoneInfo("Africa/Nairobi"))
    ]
    assert "2026-12-01 23:00:00 EAT" in said[1]


@pytest.mark.parametrize(("upgrades", "said"), [(1, "Steps: 19"), (2, "Steps of each upgrade: 19")])
def test_number_of_steps_counts_one_upgrade(upgrades: int, said: str) -> None:
    """Of a path through a required release: "Steps: 19", for both or for each?"""
    assert str(format_step_count(19, upgrades=upgrades)).startswith(said)


def test_retained_databases_of_several_changes_are_one_finding() -> None:
    """Seen: NU-6318 with its remedy once for each of five changes."""
    found = [
        make_finding(code, Severity.INFO, f"{code} {{change}}", "Wait.", change=change)
        for code, change in (
            ("NU-6330", "x"), ("NU-6318", "aaaa"), ("NU-6318", "bbbb"), ("NU-6317", "y"),
        )
    ]  # fmt: skip
    assert [one.title.render() for one in merge_retained(found)] == [
        "NU-6330 x", "Previous databases retained from changes (2): aaaa, bbbb", "NU-6317 y",
    ]  # fmt: skip
    assert merge_retained(found)[1].remedy.render() == "Wait."
    assert merge_retained(found[:2]) == found[:2]


def test_only_steps_of_the_upgrade_are_numbered() -> None:
    """Seen: "Steps: 19", of which two are not part of the upgrade."""
    kinds = ((True, False), (False, False), (True, True))
    steps = [{"title": "pruning", "runs": runs, "downtime": stops} for runs, stops in kinds]
    shown = [str(line) for line in format_step_lines({"plan": {"steps": steps}}, "en")]
    assert shown[1:] == ["   1   pruning", "     - pruning", "   2 * pruning"]


@pytest.mark.parametrize(
    ("blocked", "rehearsed", "steps", "commands"),
    [
        (False, [], False, ["plan 3.3.0 --steps", "rehearse 3.3.0"]),
        (False, [], True, ["rehearse 3.3.0"]),
        (True, [], True, []),
        (False, [{}], False, ["plan 3.3.0 --steps"]),
    ],
)
def test_plan_names_the_next_command(
    blocked: bool, rehearsed: list[object], steps: bool, commands: list[str]
) -> None:
    plan = {"blocked": blocked, "hops": [{"to": "3.2.5"}, {"to": "3.3.0"}]}
    lines = _list_next_commands({"plan": plan, "rehearsed": rehearsed}, steps=steps)
    assert [line.render().partition(": ncen-updater ")[2] for line in lines] == commands
    assert not [*_list_next_commands({"available": False}, steps=False)]


def test_overlay_lines_say_what_they_count() -> None:
    """Seen: "of these, in 'seizures': 1", which nobody understood at once."""
    coverage = TranslationCoverage(3, 5, 3, 3, 2, (AreaCount("seizures", 1),))
    file = SimpleNamespace(
        coverage=coverage, language="sw", declared=SimpleNamespace(source="en"), problem=None,
        is_settings=False, select=lambda *_: (),
    )  # fmt: skip
    report: Any = SimpleNamespace(files=[file])
    assert [line.render("en") for line in describe_overlay(report)] == [
        "sw: 60 % translated (3 of 5), previously 100 %",
        "  new texts shown in 'en': 2",
        "  1 of them in 'seizures'",
    ]
