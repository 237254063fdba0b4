"""Tests of rendering: figures, errors, progress, the site state, and usage mistakes."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import re
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import click
import pytest

from ncen_updater.agent.cli.job_progress import parse_job_result
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.cli.state_text import format_site_state
from ncen_updater.agent.engine.raw_errors import add_raw_error_path
from ncen_updater.agent.engine.recovery import ObservedState
from ncen_updater.agent.model.change import Change, ChangeState, StepName
from ncen_updater.agent.model.errors import ChangeFailedError, JournalPermissionError, SiteBusyError
from ncen_updater.agent.policy.availability import Availability, AvailabilityState
from ncen_updater.agent.reports.status import JournalSnapshot, SiteStatus
from ncen_updater.agent.service.errors import parse_error_document
from ncen_updater.common.cli import progress_display as terminal
from ncen_updater.common.cli import session as cli_session
from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.lazy import CliCommand
from ncen_updater.common.cli.program import run_program, show_error
from ncen_updater.common.cli.progress_display import ProgressDisplay
from ncen_updater.common.cli.render import (
    FAILED_STEP,
    SEVERITY_LABELS,
    format_amount,
    format_bytes,
    format_count,
    format_duration,
    format_error,
    format_findings,
    format_table,
    format_time,
    highlight,
    supports_color,
)
from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.cli.usage import NOTHING_CHANGED
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText, translate
from ncen_updater.common.json_records import to_json_value
from ncen_updater.common.messages import (
    CONFIRMATION_DECLINED,
    DATABASE_UNREACHABLE,
    JOB_INTERRUPTED,
    JOURNAL_UNREADABLE,
    REVERT_FAILED,
)
from ncen_updater.common.progress import REVERTING, Amount, Unit
from tests.agent.cli.site import CHANGE
from tests.support.errors import refused
from tests.support.simulated_site import PLACES

STATE = [LazyText("a."), LazyText("b.")]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (0.04, "< 0.1 s"), (0.06, "0.1 s"), (9.96, "10.0 s"), (59.4, "59 s"),
     (61, "1 min 01 s"), (3660, "1 h 01 min"), (200_000, "2 d 7 h")],
)  # fmt: skip
def test_durations_are_formatted(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_960, "1.0 MB"),
        (10**15, "1000.0 TB"),
    ],
)
def test_sizes_are_formatted(count: int, words: str) -> None:
    assert format_bytes(count) == words


def test_times_are_local() -> None:
    moment = datetime(2026, 1, 1, 23, 30, tzinfo=UTC)
    assert format_time(moment, UTC) == "2026-01-01 23:30:00 UTC"
    zone = timezone(timedelta(hours=3), "EAT")
    assert format_time(moment, zone) == "2026-01-02 02:30:00 EAT"


def test_tables_are_aligned() -> None:
    assert format_table([["a", "bb"], ["ccc", ""]]) == ["a    bb", "ccc"]
    assert format_table([]) == []


def test_control_characters_are_removed() -> None:
    assert strip_control_characters("a\x1b[2Jb\u202ec\nd") == "a [2Jb c\nd"


def test_numbers_use_the_format_of_the_language() -> None:
    values = {
        "a": format_duration(5), "b": format_bytes(26_100_000), "c": format_duration(200_000),
        "d": format_bytes(7), "e": format_time(datetime(2026, 11, 26, tzinfo=UTC)),
    }  # fmt: skip
    text = LazyText("{a}, {b}, {c}, {d}, {e}", values)
    assert text.render() == "5.0 s, 26.1 MB, 2 d 7 h, 7 B, 2026-11-26 00:00:00 UTC"
    assert text.render("fr") == "5,0 s, 26,1 Mo, 2 j 7 h, 7 o, 26/11/2026 à 00:00:00 UTC"
    assert format_count(24_253).render("fr") == "24\u202f253"
    assert format_count(24_253).render("pt") == "24,253"


def test_values_are_converted_to_json() -> None:
    value = {"at": datetime(2026, 1, 1, tzinfo=UTC), "change": CHANGE, "set": frozenset({1}),
             "text": LazyText("x"), "step": StepName.COPY, "other": 1j}  # fmt: skip
    document = json.loads(json.dumps(to_json_value(value)))
    assert document["at"] == "2026-01-01T00:00:00Z"
    assert document["change"]["kind"] == "upgrade"
    assert (document["set"], document["text"], document["step"]) == ([1], "x", "copy")


def test_error_shows_title_state_remedy_and_code() -> None:
    lines = format_error(SiteBusyError(holder="upgrade", detail="one\ntwo"), STATE)
    assert lines[0].startswith("Error:      Another operation")
    assert lines[1:4] == ["Detail:     one", f"{'':12}two", "State:      a. b."]
    assert lines[5] == "Code:       NU-6004"
    assert not any("\x1b" in line for line in lines)
    assert "\x1b[31m" in format_error(SiteBusyError(holder=""), STATE, rich=True)[0]


def test_long_error_is_wrapped_between_words() -> None:
    lines = format_error(SiteBusyError(holder="upgrade", detail="d" * 90), STATE, columns=60)
    assert "d" * 90 in "".join(lines)
    assert max(len(line) for line in lines if "ddd" not in line) < 60
    assert all(line[:12].strip() == "" or line[11] == " " for line in lines)
    assert len(lines) > len(format_error(SiteBusyError(holder="upgrade", detail="d" * 90), STATE))


CALLED = "Secrétariat, +32 2 000 00 00"


@pytest.mark.parametrize(
    ("error", "site", "shown"),
    [(UpdaterError(JOURNAL_UNREADABLE), {"contact": CALLED}, CALLED),
     (ChangeFailedError(cause_code="NU-4006"), {"contact": CALLED}, CALLED),
     (parse_error_document({"code": "NU-6013", "exit_code": 12}), {"contact": CALLED}, CALLED),
     (parse_error_document({"code": "NU-4006", "remedy": "au Secrétariat"}), {"contact": CALLED},
      CALLED),
     (UpdaterError(JOURNAL_UNREADABLE), {}, None),
     (UpdaterError(JOURNAL_UNREADABLE), {"contact": 7}, None),
     (UpdaterError(JOURNAL_UNREADABLE), None, None),
     (SiteBusyError(holder=""), {"contact": CALLED}, None)],
)  # fmt: skip
def test_configured_contact_is_shown(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    error: UpdaterError,
    site: dict[str, object] | None,
    shown: str | None,
) -> None:
    config = tmp_path / "agent.toml"
    lines = [f"{key} = {json.dumps(value)}" for key, value in (site or {}).items()]
    config.write_text("\n".join(["[site]", *lines]) if site is not None else "[site")
    session = AgentSession("ncen-updater", config)
    assert session.get_contact(error) == shown
    show_error(session, error, lambda _: STATE)
    assert (f"Contact:    {shown}" in capsys.readouterr().err) is (shown is not None)
    session.as_json = True
    show_error(session, error, lambda _: STATE)
    assert json.loads(capsys.readouterr().out)["error"].get("contact") == shown


def test_critical_findings_are_listed_first() -> None:
    note = Finding("NU-1", Severity.WARNING, LazyText("n"), LazyText("r"))
    strict = Finding("NU-2", Severity.CRITICAL, LazyText("s"), LazyText(""))
    assert format_findings([note, strict]) == ["[critical] NU-2 s", "[warning] NU-1 n", "    r"]


def test_detail_of_a_finding_is_shown() -> None:
    found = Finding(
        "NU-1", Severity.CRITICAL, LazyText("w"), LazyText("r"), {"detail": "line 1\nline 2"}
    )
    assert format_findings([found]) == [
        "[critical] NU-1 w",
        "    Detail: line 1",
        "    line 2",
        "    r",
    ]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_depend_on_terminal_and_environment() -> None:
    assert supports_color(_Terminal(), {"TERM": "xterm"})
    assert not supports_color(_Terminal(), {"TERM": "xterm", "NO_COLOR": "1"})
    assert not supports_color(_Terminal(), {"TERM": "dumb"})
    assert not supports_color(io.StringIO(), {"TERM": "xterm"})


def test_plain_progress_is_one_line_per_message() -> None:
    out, now = io.StringIO(), [0.0]
    shown = ProgressDisplay(out, rich=False, language="en", monotonic=lambda: now[0])
    shown.report(LazyText("one"))
    shown.report(LazyText("one"), Amount(1, 2))
    shown.report(LazyText("two"))
    shown.report(LazyText("one"))  # shown a moment ago: two alternating parts
    assert out.getvalue() == "one\ntwo\n"
    now[0] = terminal.PLAIN_INTERVAL_S
    shown.report(LazyText("two"))
    shown.report(LazyText("one"))
    assert out.getvalue() == "one\ntwo\ntwo\none\n"


@pytest.mark.parametrize("rich", [False, True])
def test_wait_is_shown_once_in_a_run(monkeypatch: pytest.MonkeyPatch, rich: bool) -> None:
    """Seen: ``schedule`` that waits for the service before and after, and says so twice."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setattr(cli_session, "supports_color", lambda _: rich)
    session = CliSession("ncen-updater")
    for _ in range(2):
        with session.make_progress() as shown:
            shown.report(LazyText("waiting"))
    lasting = [re.sub(r".*\r\x1b\[K", "", line) for line in out.getvalue().split("\n")]
    assert len([line for line in lasting if "waiting" in line]) == 1


def test_progress_line_is_redrawn_on_a_terminal() -> None:
    out = io.StringIO()
    shown = ProgressDisplay(out, rich=True, language="en", monotonic=lambda: 0.0)
    shown.report(LazyText("one"))
    shown.report(LazyText("two"), Amount(5, 10))
    assert out.getvalue().startswith("\r\x1b[Kone")
    assert "5 of 10  50 %" in out.getvalue()


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (Amount(1_500_000, 3_000_000, Unit.BYTES), "1,5 Mo sur 3,0 Mo"),
        (Amount(1_500_000, 3_000_000), "1\u202f500\u202f000 sur 3\u202f000\u202f000"),
        (Amount(1_500_000, None, Unit.BYTES), "1,5 Mo"),
        (Amount(0, 0), "0"),
    ],
)  # fmt: skip
def test_amount_is_shown_in_its_unit(amount: Amount, shown: str) -> None:
    assert format_amount(amount).render("fr") == shown


def test_step_before_a_revert_is_in_red() -> None:
    out = io.StringIO()
    shown = ProgressDisplay(out, rich=True, language="en", monotonic=lambda: 0.0)
    for text in ("one", "two"):
        shown.report(LazyText(text))
    for step in ("two", "one"):
        shown.report(LazyText(REVERTING, {"step": step}))
    assert re.findall(r"\x1b\[31m(.*?)\x1b\[0m", out.getvalue()) == ["two"]


@pytest.mark.parametrize("language", ["en", "fr"])
def test_only_line_starts_are_coloured(language: str) -> None:
    """Only at the beginning of a line of ours: no value of a site is coloured."""
    marks = [translate(SEVERITY_LABELS[one], language) for one in Severity]
    failed = LazyText(FAILED_STEP, {"at": "1", "step": "copy", "error": "NU-1"}).render(language)
    lines = [*(f"[{mark}] NU-1 x" for mark in marks), failed, f"    [{marks[0]}]"]
    found = highlight("\n".join(lines), language).splitlines()
    assert [re.findall(r"\x1b\[(\d+)m", line) for line in found] == [
        ["31", "0"], ["33", "0"], ["2", "0"], ["31", "0"], [],
    ]  # fmt: skip


def test_closed_terminal_does_not_interrupt_the_operation() -> None:
    out = io.StringIO()
    out.close()
    with ProgressDisplay(out, rich=False, language="en") as shown:
        shown.report(LazyText("one"))


SITE = SiteStatus(
    CHANGE.created_at, PLACES, current="3.2.4", journal=JournalSnapshot(),
    availability=Availability(AvailabilityState.AVAILABLE, process_runs=True),
)  # fmt: skip
ERROR = OSError("x")


def site(**parts: Any) -> SiteStatus:
    return dataclasses.replace(SITE, **parts)


def with_change(change: Change) -> SiteStatus:
    return site(journal=JournalSnapshot(open_change=change, last_change=change))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (SITE, "ncen 3.2.4 is running."),
        (site(current=None), "Not adopted: no release of ncen installed."),
        (site(availability=ERROR), "State partly unknown: x"),
        (site(journal=ERROR), "Cannot read the journal; automatic operations are stopped."),
        (site(observed_state=ObservedState(None, database_missing=True)),
         "At least one database is missing."),
        (site(journal=JournalPermissionError(path="j")),
         "For changes in progress, run: ncen-updater status"),
    ],
)  # fmt: skip
def test_site_state_is_described(status: SiteStatus, words: str) -> None:
    assert words in [str(text) for text in format_site_state(status, None)]


@pytest.mark.parametrize("language", ["en", "fr"])
def test_each_command_of_a_remedy_ends_its_line(language: str) -> None:
    """Seen: "systemctl status postgresql The complete error may quote records. To read it, ..."."""
    asked = LazyText(DATABASE_UNREACHABLE.remedy)
    remedy = add_raw_error_path(asked, Path("/failures/x.txt"))
    error = UpdaterError(REVERT_FAILED, step_label="x", cause="x", cause_remedy=remedy)
    lines = format_error(error, (), language)
    ends = ("systemctl status postgresql", "sudo cat /failures/x.txt", "sudo ncen-updater resume")
    assert [line.endswith(end) for line, end in zip(lines[2:5], ends, strict=True)] == [True] * 3


def test_operator_is_not_shown_files_that_only_root_reads() -> None:
    """Seen: "run: ncen-updater status State partly unknown: [Errno 13] Permission denied: ..."."""
    denied = PermissionError(13, "Permission denied", "/var/lib/ncen-updater/service/state.json")
    status = site(journal=JournalPermissionError(path="j"), availability=denied)
    said = [str(text) for text in format_site_state(status, None)]
    assert said[-1] == "For changes in progress, run: ncen-updater status"


@pytest.mark.parametrize("runs", [True, False, None])
@pytest.mark.parametrize("state", [*AvailabilityState, None])
def test_unknown_facts_are_not_claimed(runs: bool | None, state: AvailabilityState | None) -> None:
    seen = ERROR if state is None else Availability(state, process_runs=runs)
    words = str(format_site_state(site(availability=seen), None)[0])
    behind = state is AvailabilityState.MAINTENANCE and runs is True
    assert ("is running" in words) is (state is AvailabilityState.AVAILABLE or behind)
    assert ("is unhealthy" in words) is (state is AvailabilityState.UNHEALTHY)


@pytest.mark.parametrize("state", list(ChangeState))
def test_every_change_state_is_described_in_both_languages(state: ChangeState) -> None:
    said = format_site_state(with_change(dataclasses.replace(CHANGE, state=state)), SITE)
    assert "abcdefgh" in str(said[-1])
    assert said[-1].render("fr") != str(said[-1])


def test_earlier_open_change_is_not_attributed_to_this_command() -> None:
    now = with_change(CHANGE)
    assert str(format_site_state(now, now)[-1]).startswith("Nothing was changed. Change abcdefgh")
    # Seen: "Change abcdefgh is not finished" as the error, and again as the state.
    assert format_site_state(now, now, change_named=True)[-1] == NOTHING_CHANGED


@click.group()
def _group() -> None: ...


@_group.command("fail", cls=CliCommand)
def _fail() -> None:
    raise RuntimeError("a mistake")


@_group.command("decline", cls=CliCommand)
def _decline() -> None:
    raise UpdaterError(CONFIRMATION_DECLINED, state=LazyText(N_("Nothing was changed.")))


@pytest.mark.parametrize("verbose", [False, True])
def test_internal_error_shows_its_location_and_a_code(
    verbose: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    words = ["fail", "--json", *(["--verbose"] if verbose else [])]
    assert run_program(_group, CliSession("x"), words, lambda _: STATE) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["state"]) == ("NU-1000", "a. b.")
    assert "test_rendering.py" in (error["detail"] or "") + error["title"]
    assert ("Traceback" in (error["detail"] or "")) is verbose


def test_unavailable_state_does_not_hide_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_: object) -> list[LazyText]:
        raise OSError("gone")

    assert run_program(_group, CliSession("x"), ["fail"], broken) == 1
    err = capsys.readouterr().err
    assert "NU-1000" in err and "OSError: gone" in err


def test_exit_code_is_that_of_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_program(_group, CliSession("x"), ["decline"], lambda _: []) == 4
    assert "NU-1103" in capsys.readouterr().err


@pytest.mark.parametrize(
    "result",
    [None, {"exit_code": None, "document": {}}, {"exit_code": 126, "document": {}},
     {"exit_code": 137, "document": None}],
)  # fmt: skip
def test_killed_job_process_is_reported_as_such(result: object) -> None:
    """Seen: "The service no longer answers: order 5 ended with 126", by a service that answered."""
    with refused(JOB_INTERRUPTED):
        parse_job_result(5, result)


def test_unknown_state_names_the_code_and_no_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen in a setup: "State of the site unknown: ConfigError: NU-1011: ..."."""

    def fail(_: UpdaterError) -> list[LazyText]:
        raise UpdaterError(JOB_INTERRUPTED)

    show_error(AgentSession("x", tmp_path / "none"), UpdaterError(JOURNAL_UNREADABLE), fail)
    assert f"State of the site unknown: {JOB_INTERRUPTED.code}: " in capsys.readouterr().err
