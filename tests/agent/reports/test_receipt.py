"""Tests of receipts of a real site after each change, and of consent."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.model.change import ChangeKind, ChangeState, StepName, StepState
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports import receipt as receipts
from ncen_updater.agent.reports.receipt import KEY_FILE, choose_fault, classify_outcome
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.cli.render import encode_as_words
from ncen_updater.common.i18n import LazyText
from ncen_updater.formats.receipt import (
    FIELDS,
    Fault,
    Outcome,
    Receipt,
    ReceiptLevel,
    read_receipt,
)
from ncen_updater.publisher.cli.main import run as publisher_run
from tests.agent.cli.site import CHANGE
from tests.agent.cli.terminal_run import run_on_terminal
from tests.support.forks import run_agent
from tests.support.sites import TrialFeed, connect, serve, site_in_process

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> TrialFeed:
    made = TrialFeed(tmp_path_factory.mktemp("feed"))
    made.publish(("3.2.4", "3.3.0"))
    return made


@pytest.fixture(scope="module")
def demo(feed: TrialFeed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoSite]:
    with serve(feed.directory) as url:
        options = SiteOptions(
            feed_urls=(url,), cases=10, icomm=False, soak_s=0.2, soak_interval_s=0.1
        )
        with DemoSite(tmp_path_factory.mktemp("place") / "site", None, options) as site:
            connect(site, feed)
            site.start_app()
            yield site


@pytest.fixture(scope="module")
def run(demo: DemoSite) -> Run:
    environment = {
        "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "NCEN_CONFIG_FILE": str(demo.config_path),
    }  # fmt: skip

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return run_agent(*words, environment=environment)

    return call


def ask(run: Run, *words: str) -> dict[str, Any]:
    done = run("--json", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write(run: Run, medium: Path) -> Receipt:
    found = ask(run, "receipt", "--to", str(medium))
    return read_receipt(Path(found["destination"]).read_bytes()).receipt


def test_receipts_cover_the_history_of_a_site(demo: DemoSite, run: Run, tmp_path: Path) -> None:
    # Without consent it is shown, and none is written.
    shown = ask(run, "receipt")
    assert (shown["level"], shown["receipt"]["level"]) == ("none", "version")
    refused = json.loads(run("--json", "receipt", "--to", str(tmp_path)).stdout)
    assert refused["error"]["code"] == "NU-9803"
    assert refused["error"]["state"] == "Nothing was written or sent."
    assert [*tmp_path.iterdir()] == []

    # Without a terminal and without --yes there is no consent.
    assert run("receipt", "--level", "outcome").returncode != 0
    assert ask(run, "receipt")["level"] == "none"
    allowed = run("receipt", "--level", "outcome", "--yes")
    # It shows each field of the level, also those without a value yet, and what follows.
    assert "Last change, error code: -" in allowed.stdout
    assert "Nothing is sent: the Secretariat has published no address" in allowed.stdout
    assert ask(run, "receipt")["level"] == "outcome"

    first = write(run, tmp_path)
    assert (first.number, first.previous, first.outcome) == (1, None, None)
    assert (first.running, first.country) == ("3.2.4", "MU")
    assert stat.S_IMODE((demo.state / KEY_FILE).stat().st_mode) == 0o600

    assert run("upgrade", "3.3.0", "--yes").returncode == 0
    second = write(run, tmp_path)
    assert (second.number, second.epoch, second.key) == (2, first.epoch, first.key)
    (before,) = tmp_path.glob("*-1.json")
    assert second.previous == read_receipt(before.read_bytes()).digest
    assert (second.running, second.change) == ("3.3.0", ("3.2.4", "3.3.0"))
    assert (second.outcome, second.fault, second.soaked) == (Outcome.UPGRADED, None, True)
    assert second.downtime is None

    assert run("rollback", "--yes").returncode == 0
    assert ask(run, "receipt", "--level", "figures", "--yes")["level"] == "figures"
    third = write(run, tmp_path)
    assert (third.outcome, third.running) == (Outcome.ROLLED_BACK, "3.2.4")
    assert third.downtime is not None

    levels = ask(run, "receipt", "--all-levels")["levels"]
    assert [one["level"] for one in levels] == ["version", "outcome", "figures"]
    assert json.loads(levels[2]["statement"])["predicate"]["downtime"] == [*third.downtime]
    assert "downtime" not in levels[1]["statement"] and "sig" not in levels[2]["statement"]
    # A director reads one sentence a field, then exactly what is signed.
    shown = ask(run, "receipt")
    lines = run("receipt").stdout.splitlines()
    told = 2 + len(FIELDS) + 1  # after what the site sends at present, and the level
    assert lines[told + 1] + "\n" == shown["statement"]
    # Then what left before, and who allowed it.
    assert [event["kind"] for event in shown["events"]] == [
        "receipt-level", "receipt-written", "receipt-written", "receipt-level", "receipt-written",
    ]  # fmt: skip
    assert len(lines[told + 3 :]) == 5
    assert all("by " in line for line in lines[told + 3 :])

    # Only what the site may send is announced as sent.
    ask(run, "receipt", "--level", "outcome")
    assert run("receipt", "--all-levels").stdout.count("A receipt is this text in base64") == 3
    assert "Level of receipts: outcome" in run("receipt", "--level", "outcome").stdout

    # Less is at once, without a question; and what is shown next is the next number.
    assert ask(run, "receipt", "--level", "version")["level"] == "version"
    assert ask(run, "receipt")["receipt"]["number"] == 4
    assert "this site sends nothing" in run("receipt", "--level", "none").stdout

    # Nothing that left before is left out.
    with Journal.open(demo.state / JOURNAL_FILE) as journal:
        for number in range(30):
            journal.record_event(
                "receipt-sent", number=number, digest="", method="https", level="version",
                outcome_id="", by="amina", scheduled=True,
            )  # fmt: skip
    assert len(ask(run, "receipt")["events"]) > 30
    assert run("receipt").stdout.count("by amina") == 30


def test_small_terminal_gets_no_qr_code_and_uses_no_number(demo: DemoSite, run: Run) -> None:
    ask(run, "receipt", "--level", "version", "--yes")
    before = ask(run, "receipt")["receipt"]["number"]
    command = [sys.executable, "-m", "ncen_updater.agent.cli.main", "receipt", "--qr"]
    environment = {**os.environ, "NCEN_CONFIG_FILE": str(demo.config_path), "LANG": "C.UTF-8"}
    for columns, lines in (("80", "24"), ("116", "59"), ("117", "58")):
        size = {"COLUMNS": columns, "LINES": lines}
        code, shown = run_on_terminal(command, {**environment, **size})
        assert (code, "NU-9821" in shown) == (2, True), shown
    assert ask(run, "receipt")["receipt"]["number"] == before
    code, shown = run_on_terminal(command, {**environment, "COLUMNS": "117", "LINES": "59"})
    assert (code, "▀" in shown) == (0, True), shown


@pytest.mark.parametrize(
    "options",
    [
        ("--to", "stick", "--send"),
        ("--qr", "--mail"),
        ("--send", "--mail"),
        ("--to", "stick", "--scheduled"),
        ("--all-levels", "--send"),
        ("--all-levels", "--send"),
        ("--all-levels", "--level", "version"),
        ("--all-levels", "--level", "version"),
    ],
)
def test_receipt_refuses_options_of_which_it_would_ignore_one(options: tuple[str, ...]) -> None:
    shown = run_agent("receipt", *options, environment={"PATH": os.environ["PATH"], "LANG": "C"})
    assert shown.returncode == 2, shown.stderr


def test_receipt_contains_no_person_and_no_time_of_day(
    demo: DemoSite, run: Run, tmp_path: Path
) -> None:
    ask(run, "receipt", "--level", "figures", "--yes")
    found = ask(run, "receipt", "--to", str(tmp_path))
    text = " ".join(str(value) for value in found["receipt"].values())
    names = {os.uname().nodename, os.environ.get("USER", "root"), str(demo.state), "127.0.0.1"}
    # As words: the signature may contain any short name.
    words = (rf"(?<![\w+/=]){re.escape(name)}(?![\w+/=])" for name in names)
    assert not [word for word in words if re.search(word, text)]
    days = [found["receipt"][name] for name in ("day", "ended") if name in found["receipt"]]
    assert {len(day) for day in days} == {len("2026-11-30")}


def test_publisher_imports_the_receipt_and_writes_the_board(
    feed: TrialFeed, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both programs, with the feed that signed the release and a stick between them."""
    ask(run, "receipt", "--level", "outcome", "--yes")
    written = ask(run, "receipt", "--to", str(tmp_path))
    record, board = str(tmp_path / "fleet.sqlite"), tmp_path / "board"
    stick = tmp_path / "stick"
    stick.mkdir()
    Path(written["destination"]).rename(stick / "receipt.json")

    def desk(*words: str) -> dict[str, Any]:
        assert publisher_run(["--json", "fleet", *words, "--record", record]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    taken = desk("import", str(stick), "--feed", str(feed.directory))
    assert (taken["stored"], taken["refused"]) == (1, 0)
    assert [*stick.iterdir()] == []
    site = written["receipt"]["site"]
    assert desk("confirm", site, "--yes")["fingerprint"] == written["fingerprint"]
    assert desk("board", str(board))["sites"] == 1
    assert site in (board / "index.html").read_text("utf-8")
    assert desk("forget", site, "--yes")["count"] == 1
    assert desk("board", str(board))["sites"] == 0
    assert publisher_run(["--json", "fleet", "confirm", site, "--record", record]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "NU-9812"


def test_full_medium_uses_no_receipt_number(run: Run, tmp_path: Path) -> None:
    ask(run, "receipt", "--level", "version", "--yes")
    before = ask(run, "receipt")["receipt"]["number"]
    failed = json.loads(run("--json", "receipt", "--to", "/proc").stdout)
    assert failed["error"]["code"] == "NU-9804"
    assert ask(run, "receipt")["receipt"]["number"] == before


def test_concurrent_commands_use_different_receipt_numbers(
    demo: DemoSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, level = site_in_process(demo), ReceiptLevel.VERSION
    prepare = receipts.prepare_receipt
    with Journal.open(demo.state / JOURNAL_FILE) as journal:

        def slow(*of: Any) -> tuple[Receipt, str]:
            found = prepare(*of)
            with monkeypatch.context() as usual:
                usual.setattr(receipts, "prepare_receipt", prepare)
                receipts.write_receipt(site, journal, level, tmp_path, "amina")
            return found

        with monkeypatch.context() as patch:
            patch.setattr(receipts, "prepare_receipt", slow)
            with pytest.raises(OSError, match="busy"):
                receipts.write_receipt(site, journal, level, tmp_path, "bo")
    assert len([*tmp_path.iterdir()]) == 1


def test_blame_is_the_last_valid_code(tmp_path: Path) -> None:
    with Journal.create(tmp_path / JOURNAL_FILE) as journal:
        journal.begin_change(CHANGE)
        history = SiteHistory(journal)
        assert receipts.find_blame(journal, CHANGE.id) is None
        history.mark_bad("ncen", "3.3.0", "NU-6011", CHANGE.id)
        blame = receipts.find_blame(journal, CHANGE.id)
        assert blame is not None and blame["code"] == "NU-6011"
        history.withdraw_bad(CHANGE.id)
        assert receipts.find_blame(journal, CHANGE.id) is None


@pytest.mark.parametrize("confirmed_by", [None, "amina"])
def test_manually_ended_soak_is_not_completed(tmp_path: Path, confirmed_by: str | None) -> None:
    with Journal.create(tmp_path / JOURNAL_FILE) as journal:
        journal.begin_change(CHANGE)
        journal.commit_change(CHANGE.id)
        journal.store_facts(CHANGE.id, ChangeFacts(confirmed_by=confirmed_by))
        journal.set_change_state(CHANGE.id, ChangeState.FINISHED)
        last = receipts.find_last_change(journal)
    found = last.facts if last else {}
    assert (found["outcome"], found["fault"]) == (Outcome.UPGRADED, None)
    assert found["soaked"] is (confirmed_by is None)


def test_every_written_receipt_shows_the_words_of_the_key(
    demo: DemoSite, run: Run, tmp_path: Path
) -> None:
    ask(run, "receipt", "--level", "version", "--yes")
    key = demo.state / KEY_FILE
    run("receipt", "--to", str(tmp_path))
    kept = key.read_bytes()
    try:
        key.unlink()  # a new key continues the numbers of the old one
        for options in (("--to", str(tmp_path)), ("--qr",)):
            shown = run("receipt", *options)
            words = encode_as_words(ask(run, "receipt", *options)["fingerprint"])
            assert f"by telephone, unless it is confirmed: {words}" in shown.stdout
    finally:
        key.write_bytes(kept)


def test_invalid_key_is_an_error_and_preserved(demo: DemoSite, run: Run, tmp_path: Path) -> None:
    key = demo.state / KEY_FILE
    ask(run, "receipt", "--level", "version", "--yes")
    kept = key.read_bytes()
    try:
        for spoilt in (b"", b"x" * 31, b"x" * 33):
            key.write_bytes(spoilt)
            found = json.loads(run("--json", "receipt", "--to", str(tmp_path)).stdout)
            assert found["error"]["code"] == "NU-9802"
            assert key.read_bytes() == spoilt
    finally:
        key.write_bytes(kept)


UPGRADE = replace(CHANGE, state=ChangeState.FINISHED)
TURNED_BAD = ChangeFacts(soak_error=LazyText("status 500"))
BACK = replace(UPGRADE, kind=ChangeKind.ROLLBACK)


@pytest.mark.parametrize(
    ("change", "facts", "outcome"),
    [
        (UPGRADE, NO_FACTS, Outcome.UPGRADED),
        (UPGRADE, TURNED_BAD, Outcome.SOAK_FAILED),
        (UPGRADE, replace(TURNED_BAD, confirmed_by="amina"), Outcome.UPGRADED),
        (replace(UPGRADE, state=ChangeState.REVERTED), NO_FACTS, Outcome.REVERTED),
        (BACK, NO_FACTS, Outcome.ROLLED_BACK),
        (BACK, ChangeFacts(failed_soak_upgrade="abcdefgh"), Outcome.SOAK_ROLLBACK),
        (replace(BACK, state=ChangeState.REVERTED), NO_FACTS, Outcome.REVERTED),
    ],
)
def test_outcomes_are_classified(change: Any, facts: ChangeFacts, outcome: Outcome) -> None:
    assert classify_outcome(change, facts) is outcome


@pytest.mark.parametrize(
    ("outcome", "code", "blamed", "fault"),
    [
        (Outcome.UPGRADED, None, False, None),
        (Outcome.ROLLED_BACK, "NU-6009", True, None),
        (Outcome.SOAK_FAILED, "NU-6009", True, Fault.RELEASE),
        (Outcome.SOAK_ROLLBACK, "NU-6009", True, Fault.RELEASE),
        (Outcome.SOAK_ROLLBACK, "NU-6009", False, Fault.SITE),  # the release before it is not well
        (Outcome.REVERTED, "NU-4006", True, Fault.RELEASE),
        (Outcome.REVERTED, "NU-5003", False, Fault.SITE),
        (Outcome.REVERTED, "NU-9999", False, Fault.SITE),  # of an agent that is newer
        (Outcome.REVERTED, None, False, Fault.INTERRUPTED),  # a power cut
        (Outcome.REVERTED, "NU-6010", False, Fault.INTERRUPTED),  # Ctrl+C
        (Outcome.REVERTED, "NU-6022", False, Fault.INTERRUPTED),  # the window closed
        (Outcome.REVERTED, "NU-4002", False, Fault.INTERRUPTED),  # no database server
        (Outcome.REVERTED, "NU-3110", False, Fault.INTERRUPTED),  # the disk is full
        (Outcome.SOAK_FAILED, "NU-6067", False, Fault.INTERRUPTED),
    ],
)
def test_faults_are_chosen(
    outcome: Outcome, code: str | None, blamed: bool, fault: Fault | None
) -> None:
    assert choose_fault(outcome, code, blamed=blamed) is fault


def test_open_change_has_an_outcome_after_a_failed_soak(tmp_path: Path) -> None:
    with Journal.create(tmp_path / JOURNAL_FILE) as journal:
        journal.begin_change(CHANGE)
        assert receipts.find_last_change(journal) is None
        journal.commit_change(CHANGE.id)
        journal.record_step(CHANGE.id, StepName.MAINTENANCE_OFF, StepState.DONE)
        assert receipts.find_last_change(journal) is None
        journal.store_facts(CHANGE.id, TURNED_BAD)
        SiteHistory(journal).mark_bad("ncen", "3.3.0", "NU-6009", CHANGE.id)
        last = receipts.find_last_change(journal)
        assert last is not None
        found = last.facts
        assert (found["outcome"], found["fault"], found["code"]) == (
            Outcome.SOAK_FAILED, Fault.RELEASE, "NU-6009",
        )  # fmt: skip
