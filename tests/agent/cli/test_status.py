"""``status`` is light, needs nothing but the disk, and reports unavailable facts."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.cli.status import (
    _find_next_command,
    _format_approval,
    _show_parts,
    _show_service,
)
from ncen_updater.agent.config import validation_cache as noted_check
from ncen_updater.agent.config.essential_settings import load_essential_settings
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.approvals.rollback_approvals import (
    approve_rollback,
    find_rollback_to_approve,
)
from ncen_updater.agent.engine.lock import hold_change_lock
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalState, RehearsalStore
from ncen_updater.agent.engine.rehearsal.report import RehearsalCopyPlans
from ncen_updater.agent.model.change import Actor, ChangeState, StepName, StepState
from ncen_updater.agent.model.event_names import JOURNAL_FILE, SERVICE_LOCK_FILE
from ncen_updater.agent.reports.status import JournalSnapshot, read_status
from ncen_updater.agent.service.site_report import SITE_REPORT_PARTS, build_site_report
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import FailedReleaseRecord, SiteHistory
from ncen_updater.agent.storage.service_state import (
    SERVICE_STATE_PATH,
    Assessment,
    ServiceState,
    ServiceStateFile,
    WithheldRelease,
)
from ncen_updater.common.i18n import LazyText
from ncen_updater.feed.feed_summary import KnownEmergencyHalt
from ncen_updater.feed.trust_state import TrustState, TrustStateStore
from tests.agent.cli.site import CHANGE, TrialSite, make_site

HEAVY = ("pydantic", "psycopg", "tuf", "tufup", "requests", "jinja2")


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["history"], ["--help"]])
def test_status_imports_nothing_heavy(site: TrialSite, arguments: list[str]) -> None:
    site.run("status")  # which checks the configuration, and notes it
    code = (
        "import sys; from ncen_updater.agent.cli.main import run; rc = run(sys.argv[1:]);"
        f"print([m for m in {HEAVY} if m in sys.modules], rc, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=site.environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == "[] 0\n"


def test_idle_site_is_described(site: TrialSite) -> None:
    done = site.run("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Installed: ncen 3.2.4 (ke-1, KE)",
        "Status: stopped; users cannot work",
        "  Run: true",
        "No metadata yet. Run: ncen-updater check",
    ]


def test_unhealthy_application_is_shown_with_the_next_command(site: TrialSite) -> None:
    text = site.config.read_text("utf-8")
    site.config.write_text(text.replace('["sh", "-c", "exit 3"]', '["true"]'))
    assert site.run("status").stdout.splitlines()[2] == "  Run: ncen-updater doctor"
    site.open_change()
    assert "ncen-updater doctor" not in site.run("status").stdout


@pytest.mark.parametrize("state", ["state", None])
def test_new_site_names_the_next_command(site: TrialSite, state: str | None) -> None:
    """Whether its state directory exists already, or not."""
    (site.root / "current").unlink()
    site.journal.unlink()
    if state is None:
        shutil.rmtree(site.state)
    for command in ("status", "doctor"):
        done = site.run(command)
        assert "Not adopted. Run: sudo ncen-updater adopt VERSION" in done.stdout, done.stderr
        assert "NU-1000" not in done.stdout + done.stderr
        assert "mismatch" not in done.stdout and "Nothing stands" not in done.stdout
    assert site.run("status").returncode == 0
    (site.root / "current").symlink_to("slots/3.2.4")
    assert site.run("status").returncode == 12, "a journal that is lost is another matter"


def test_maintenance_is_reported(site: TrialSite) -> None:
    (site.root / "door").touch()
    assert "Status: maintenance page shown" in site.run("status").stdout
    document = json.loads(site.run("status", "--json").stdout)
    running = document["running"]
    assert (running["version"], running["open_to_users"]) == ("3.2.4", False)
    assert running["availability"]["state"] == "maintenance"


def test_running_operation_of_another_process_is_shown(site: TrialSite) -> None:
    site.open_change(StepName.FETCH, StepName.COPY)
    with hold_change_lock(site.state / "change.lock", "upgrade"):
        done = site.run("status")
        document = json.loads(site.run("status", "--json").stdout)
    assert "Operation in progress: upgrading (process " in done.stdout
    assert "Change abcdefgh: upgrade to 3.3.0, running" in done.stdout
    assert "Last step: copying the databases (done)" in done.stdout
    assert "resume" not in done.stdout
    assert document["journal"]["open_change"]["step"] == "copy"


def test_interrupted_change_names_the_resume_command(site: TrialSite) -> None:
    site.open_change(StepName.FETCH)
    assert "Run: sudo ncen-updater resume" in site.run("status").stdout


@pytest.mark.parametrize(
    ("state", "by_itself"),
    [
        (ChangeState.RUNNING, True),
        (ChangeState.REVERTING, True),
        (ChangeState.COMMITTED, True),
        (ChangeState.STUCK, False),
    ],
)
def test_interrupted_change_of_a_running_service_needs_no_operator(
    site: TrialSite, monkeypatch: pytest.MonkeyPatch, state: ChangeState, by_itself: bool
) -> None:
    """Seen: "run 'ncen-updater resume'", and below it that the service did so just then."""
    site.open_change(StepName.FETCH)
    found = json.loads(site.run("status", "--json").stdout)
    found["journal"]["open_change"]["state"] = state.value
    session, shown = AgentSession("ncen-updater", site.config), list[LazyText]()
    monkeypatch.setattr(session, "add_line", shown.append)
    _show_parts(session, {**found, "service": {"running": None}})
    told = " ".join(str(text) for text in shown)
    sentence = "The service resumes it automatically."
    assert (sentence in told) is by_itself
    remedy = (
        "Run ncen-updater doctor, then contact the Secretariat."
        if state is ChangeState.STUCK
        else "Run: sudo ncen-updater resume"
    )
    assert (remedy in told) is not by_itself
    assert ("ncen-updater resume" in told) is False


def test_service_operation_excludes_the_interrupted_message(
    site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: "nobody works on it", and below it "Now: a rollback"; its command had just begun."""
    site.open_change(StepName.FETCH)
    found = json.loads(site.run("status", "--json").stdout)
    session, shown = AgentSession("ncen-updater", site.config), list[LazyText]()
    monkeypatch.setattr(session, "add_line", shown.append)
    running = {"command": ["resume", "--unattended"], "since": found["at"], "progress": None}
    _show_parts(session, {**found, "service": {"running": running}})
    assert "nobody works on it" not in " ".join(str(text) for text in shown)


def test_operation_of_the_service_is_shown_once(
    site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: "Operation in progress: rehearsing a release", and at the end "Operation: ..."."""
    found = json.loads(site.run("status", "--json").stdout)
    found["journal"]["lock_holder"] = "rehearse, process 7"
    running = {"command": ["rehearse"], "since": found["at"], "progress": None}
    for service, shown_here in ({"running": None}, True), ({"running": running}, False):
        session, shown = AgentSession("ncen-updater", site.config), list[LazyText]()
        monkeypatch.setattr(session, "add_line", shown.append)
        _show_parts(session, {**found, "service": service})
        told = " ".join(str(text) for text in shown)
        assert ("Operation in progress: rehearsing" in told) is shown_here


def test_wrong_clock_has_a_remedy(site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen: that the clock is behind, and not how to set it."""
    found = json.loads(site.run("status", "--json").stdout)
    session, shown = AgentSession("ncen-updater", site.config), list[LazyText]()
    monkeypatch.setattr(session, "add_line", shown.append)
    clock = {"signed_at": "2099-01-01T00:00:00+00:00"}
    _show_parts(session, {**found, "service": {"running": None}, "clock": clock})
    assert "  Set the clock: timedatectl set-ntp true" in [str(text) for text in shown]


def test_consumed_approvals_and_confirmations_are_reported(
    site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = json.loads(site.run("status", "--json").stdout)
    assert (found["journal"]["consumed_approvals"], found["journal"]["confirmed_by"]) == ([], None)
    session, shown = AgentSession("ncen-updater", site.config), list[LazyText]()
    monkeypatch.setattr(session, "add_line", shown.append)
    found["journal"] |= {"consumed_approvals": ["amina", "bo"], "confirmed_by": "chan"}
    _show_parts(session, found)
    told = " ".join(str(text) for text in shown)
    assert "confirmed by chan" in told
    assert "A retry requires new approvals. Approved by: amina, bo" in told


@pytest.mark.parametrize("served", [True, False])
def test_confirmation_without_a_service_names_the_resume_command(
    site: TrialSite, *, served: bool
) -> None:
    site.open_change(StepName.FETCH, StepName.COMMIT)
    with Journal.open(site.journal) as journal:
        journal.commit_change(CHANGE.id)
    (site.state / SERVICE_LOCK_FILE).parent.mkdir(exist_ok=True)
    with (
        hold_change_lock(site.state / SERVICE_LOCK_FILE, "service", lock_directory=False)
        if served
        else nullcontext()
    ):
        said = site.run("confirm").stdout
    assert "Confirmed: " in said
    assert ("The service completes the change automatically." in said) is served
    assert ("run: sudo ncen-updater resume" in said) is not served


def _write_view(site: TrialSite, expires: datetime) -> None:
    path = site.state / "feed" / "ncen.json"
    path.parent.mkdir(exist_ok=True)
    view = {
        "schema": 1, "checked_at": "2026-01-01T00:00:00+00:00", "expires_at": expires.isoformat(),
        "version": 3, "versions": ["3.2.4", "3.3.0"], "withdrawn": [], "offers": [],
    }  # fmt: skip
    path.write_text(json.dumps(view))


def test_full_disk_is_named_as_the_cause(site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen: the recovery on a full disk said that a database cannot be reached, and no more."""
    assert "full_disk" not in json.loads(site.run("status", "--json").stdout)["running"]
    looked = read_status(load_essential_settings(site.config), datetime.now(UTC), SITE_REPORT_PARTS)
    document, _ = build_site_report(dataclasses.replace(looked, full_disk=(site.state, 4096)), "en")
    shown: list[LazyText] = []
    session = AgentSession("ncen-updater", site.config)
    monkeypatch.setattr(session, "add_line", shown.append)
    _show_parts(session, document)
    said = [text.render("en") for text in shown]
    assert f"Disk full: {site.state}, 4.1 kB free" in said
    assert "Free at least 16.8 MB there." in said


def test_newer_release_without_an_assessment_names_plan(site: TrialSite) -> None:
    """``check`` said that a release was available, and ``status`` after it did not."""
    _write_view(site, datetime(2027, 1, 8, tzinfo=UTC))
    said = site.run("status").stdout
    assert "Newest release in the feed: 3.3.0" in said and "Available" not in said
    assert "To see the upgrade plan, run: ncen-updater plan" in said


@pytest.mark.parametrize(
    ("current", "bad", "shown"),
    [("3.2.4", (), ["3.3.0"]), ("3.3.0", (), []), ("3.2.4", ("3.3.0",), [])],
)
def test_path_that_was_found_last_is_shown_until_the_next_assessment(
    site: TrialSite, current: str, bad: tuple[str, ...], shown: list[str]
) -> None:
    """It was missing for some seconds after each check of the feed."""
    _write_view(site, datetime(2027, 1, 8, tzinfo=UTC))
    places = load_essential_settings(site.config)
    looked = read_status(places, datetime.now(UTC), SITE_REPORT_PARTS)
    found = Assessment(last_event=0, current="3.2.4", target="3.3.0")
    records = tuple(FailedReleaseRecord("ncen", one, "NU-4006", 1, looked.now) for one in bad)
    journal = JournalSnapshot(last_event=7, bad_releases=records)
    looked = dataclasses.replace(
        looked, current=current, journal=journal, service_state=ServiceState(assessment=found)
    )
    feed = build_site_report(looked, "en")[0]["feed"]
    assert isinstance(feed, dict)
    assert (feed["hops"], feed["next_release"]) == (shown, None)


def test_expired_metadata_is_reported(site: TrialSite) -> None:
    _write_view(site, datetime(2026, 1, 8, tzinfo=UTC))
    done = site.run("status", TZ="Africa/Nairobi")
    assert done.returncode == 0
    assert "Newest release in the feed: 3.3.0 (checked 2026-01-01 03:00:00 EAT)" in done.stdout
    assert "Metadata expired 2026-01-08" in done.stdout
    assert json.loads(site.run("status", "--json").stdout)["feed"]["stale"] is True


def test_bare_program_name_shows_the_help(site: TrialSite) -> None:
    """Seen: the whole help within "The command line cannot be understood"."""
    done = site.run()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: ncen-updater")
    assert "NU-1101" not in done.stderr


def test_fresh_metadata_is_reported(site: TrialSite) -> None:
    _write_view(site, datetime.now(UTC) + timedelta(days=1))
    assert "expired" not in site.run("status").stdout
    feed = json.loads(site.run("status", "--json").stdout)["feed"]
    assert (feed["stale"], feed["checked_at"]) == (False, "2026-01-01T00:00:00Z")


def test_offered_release_is_named_before_it_is_prepared(site: TrialSite) -> None:
    """The metadata covers every country: the service selects the releases of this site."""
    _write_view(site, datetime.now(UTC) + timedelta(days=1))
    assert "Available" not in site.run("status").stdout
    with Journal.open(site.state / JOURNAL_FILE, read_only=True) as journal:
        event = journal.read_last_event_number()
    (site.state / "service").mkdir(exist_ok=True)
    keeper = ServiceStateFile(site.state / SERVICE_STATE_PATH)
    keeper.save(ServiceState(Assessment(event, current="3.2.4", target="3.3.0")))
    assert "Available: 3.3.0" in site.run("status").stdout
    feed = json.loads(site.run("status", "--json").stdout)["feed"]
    assert feed["next_release"] == "3.3.0"
    keeper.save(ServiceState(Assessment(event, "3.2.4", "3.4.0", before_target=("3.3.10",))))
    assert "Available: 3.3.10, then 3.4.0" in site.run("status").stdout
    keeper.save(ServiceState(Assessment(event - 1, current="3.2.3", target="3.2.4")))
    assert "Available" not in site.run("status").stdout


def test_release_halted_by_the_signers_is_shown_to_viewers(site: TrialSite) -> None:
    """Seen: "On the signed list: up to 3.3.1" and no more, of a release halted for good."""
    _write_view(site, datetime.now(UTC) + timedelta(days=1))
    (site.state / "service").mkdir(exist_ok=True)
    keeper = ServiceStateFile(site.state / SERVICE_STATE_PATH)
    opens = datetime(2026, 12, 3, 8, 0, tzinfo=UTC)
    barred = (
        WithheldRelease("3.2.4", "withdrawn", "runs here: told elsewhere"),
        WithheldRelease("3.3.0", "halted", "loses cases"),
        WithheldRelease("3.3.1", "withdrawn", "fails"),
        WithheldRelease("3.4.0", "wave-not-open", opens=opens),
        WithheldRelease("3.5.0", "wave-not-open"),
        WithheldRelease("3.6.0", "halted", "slow [amina, -> 2026-11-30 08:31 UTC]"),
    )
    keeper.save(ServiceState(Assessment(0, current="3.2.4", withheld=barred)))
    now = datetime.now(UTC).replace(microsecond=0)
    brake = KnownEmergencyHalt("ncen", "3.6.0", now, now + timedelta(hours=5), "slow", "amina")
    TrustStateStore(site.state).update(
        lambda _: TrustState(emergency_halts={"key/ncen/3.6.0": brake})
    )
    said = site.run("status").stdout
    for line in (
        "3.3.0 (halted by the Secretariat: loses cases",
        "3.3.1 (withdrawn by the Secretariat: fails",
        "3.4.0 (staged rollout: open for this site on 2026-12-03",
        "3.5.0 (staged rollout: date for this site not set",
    ):
        assert f"Not available for this site: {line}" in said
    # An emergency halt is described once, and the running release separately.
    assert said.count("3.6.0") == 1
    assert said.count("Not available for this site") == 4
    feed = json.loads(site.run("status", "--json").stdout)["feed"]
    assert feed["withheld"][0] == {
        "version": "3.3.0", "reason": "halted", "explanation": "loses cases", "opens": None,
    }  # fmt: skip


def test_advice_for_a_withdrawn_release_is_shown(site: TrialSite) -> None:
    _write_view(site, datetime.now(UTC) + timedelta(days=1))
    path = site.state / "feed" / "ncen.json"
    view = json.loads(path.read_bytes())
    notice = {"reason": "loses\x1b[2J cases", "advice": "go back to 3.2.3"}
    path.write_text(json.dumps({**view, "notices": {"3.3.0": notice}}))
    assert "WITHDRAWN" not in site.run("status").stdout
    path.write_text(json.dumps({**view, "notices": {"3.2.4": notice}}))
    said = site.run("status").stdout
    assert "WITHDRAWN by the Secretariat: ncen 3.2.4 (installed). Reason: loses" in said
    assert "What to do: go back to 3.2.3" in said
    assert "\x1b" not in said
    feed = json.loads(site.run("status", "--json").stdout)["feed"]
    assert feed["running_withdrawn"]["advice"] == "go back to 3.2.3"
    path.write_text(json.dumps({**view, "notices": {"3.2.4": "x"}}))
    assert "NU-2017" in site.run("status").stderr


def test_emergency_halt_is_shown_until_it_expires(site: TrialSite) -> None:
    """From verified metadata, and not from the files of the feed reader."""
    _write_view(site, datetime.now(UTC) + timedelta(days=1))
    now = datetime.now(UTC).replace(microsecond=0)
    memory = TrustStateStore(site.state)

    def seen(ends: datetime, *, stands: bool = True) -> None:
        brake = KnownEmergencyHalt(
            "ncen", "3.3.0", now, ends, "loses\x1b[2J cases", "amina", stands
        )
        memory.update(lambda _: TrustState(emergency_halts={"key/ncen/3.3.0": brake}))

    seen(now + timedelta(hours=5))
    said = site.run("status").stdout
    assert "3.3.0 by amina until" in said
    assert "\x1b" not in said
    (row,) = json.loads(site.run("status", "--json").stdout)["feed"]["emergency_halts"]
    assert (row["version"], row["owner"]) == ("3.3.0", "amina")
    _write_view(site, datetime(2026, 11, 30, tzinfo=UTC))
    assert "Metadata expired 2026-11-30" in site.run("status").stdout
    seen(now - timedelta(hours=1))
    assert "Emergency halt" not in site.run("status").stdout
    seen(now + timedelta(hours=5), stands=False)
    assert json.loads(site.run("status", "--json").stdout)["feed"]["emergency_halts"] == []


@pytest.mark.parametrize(
    ("damage", "code"),
    [(b"not a journal at all" * 100, "NU-6002"), (b"", "NU-6002"), (None, "NU-6001")],
)
def test_unreadable_journal_does_not_hide_the_rest(
    site: TrialSite, damage: bytes | None, code: str
) -> None:
    site.journal.unlink()
    if damage is not None:
        site.journal.write_bytes(damage)
    done = site.run("status")
    assert done.returncode == 12
    assert "Installed: ncen 3.2.4" in done.stdout
    assert "No metadata yet" in done.stdout
    assert code in done.stderr
    document = json.loads(site.run("status", "--json").stdout)
    assert document["error"]["code"] == document["journal"]["error"]["code"] == code
    assert document["running"]["version"] == "3.2.4"


def test_damaged_metadata_does_not_hide_the_rest(site: TrialSite) -> None:
    _write_view(site, datetime(2026, 1, 8, tzinfo=UTC))
    (site.state / "feed" / "ncen.json").write_text("{")
    done = site.run("status")
    assert done.returncode == 1
    assert "NU-2017" in done.stderr
    assert "Installed: ncen 3.2.4" in done.stdout


def test_dangling_current_link_is_reported(site: TrialSite) -> None:
    (site.root / "current").unlink()
    (site.root / "current").symlink_to("/elsewhere/3.3.0")
    done = site.run("status")
    assert done.returncode != 0
    assert "State partly unknown" in done.stderr


@pytest.mark.parametrize(
    ("before", "after", "code", "words"),
    [
        ("urls =", "url =", "NU-1005", "Did you mean urls?"),
        (
            'engine = "sqlite"',
            'engine = "postgres"',
            "NU-1005",
            "Use one of: 'postgresql', 'sqlite'",
        ),
        ("[application]", "[aplication]", "NU-1005", "Did you mean application?"),
        ('"KE"', '"Kenya"', "NU-1005", "code in capitals"),
        ('maintenance_file = "door"', 'maintenance_file = "no/door"', "NU-1005", "not found"),
    ],
)
def test_configuration_mistake_does_not_hide_the_rest(
    site: TrialSite, before: str, after: str, code: str, words: str
) -> None:
    site.run("status")  # found without a mistake, and noted
    good = site.config.read_text()
    site.config.write_text(good.replace(before, after))
    for _ in range(2):
        done = site.run("status")
        assert done.returncode == 1
        assert "Installed: ncen 3.2.4" in done.stdout
        assert "No metadata yet" in done.stdout
        assert code in done.stderr and words in " ".join(done.stderr.split())
    document = json.loads(site.run("status", "--json").stdout)
    assert document["error"]["code"] == document["configuration"]["error"]["code"] == code
    assert document["running"]["version"] == "3.2.4"
    site.config.write_text(good)
    assert site.run("status").returncode == 0


def test_unreadable_paths_are_not_reported_as_missing(
    site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member of the group gets no report of missing files that only root can see."""
    text = site.config.read_text("utf-8")
    site.config.write_text(
        text.replace('maintenance_file = "door"', 'maintenance_file = "no/door"')
    )
    assert noted_check.check_config(site.config, site.state) is not None
    monkeypatch.setattr("os.access", lambda *_: False)
    assert noted_check.check_config(site.config, site.state) is None


def test_missing_configuration_is_reported(tmp_path: Path) -> None:
    site = make_site(tmp_path / "s")
    site.config.unlink()
    done = site.run("status")
    assert (done.returncode, done.stdout) == (1, "")
    assert "NU-1011" in done.stderr
    # Seen on a new site: no word of setup, and a detail that repeated the title.
    assert "On a new site, run: sudo ncen-updater setup" in " ".join(done.stderr.split())
    assert "Detail:" not in done.stderr
    assert "Nothing was changed." in done.stderr
    assert "Set NCEN_CONFIG_FILE to the file" in " ".join(done.stderr.split())
    named = site.run("--config", f"{site.root}/other.toml", "status")
    assert "Set --config to the file" in " ".join(named.stderr.split())


def test_holds_and_bad_releases_are_shown(site: TrialSite) -> None:
    with Journal.open(site.journal) as journal:
        SiteHistory(journal).add_hold("fair next week", "wanjiru", None)
        SiteHistory(journal).mark_bad("ncen", "3.3.1", "NU-6007", None)
    out = site.run("status").stdout
    assert "by wanjiru: fair next week" in out
    assert "Marked bad: 3.3.1, 1 failure" in out
    document = json.loads(site.run("status", "--json").stdout)
    assert document["journal"]["holds"][0]["actor"] == "wanjiru"


def test_hold_shows_its_end_and_no_start_time(
    site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: no word of the end, and below the hold "waits for the window: 2026-11-28 22:00"."""
    with Journal.open(site.journal) as journal:
        SiteHistory(journal).add_hold("fair", "dana", datetime(2127, 1, 31, tzinfo=UTC))
    out = site.run("status").stdout
    assert " until 2127-01-31 00:00 UTC by dana: fair" in out
    found = json.loads(site.run("status", "--json").stdout)
    assert found["journal"]["holds"]
    session, shown = AgentSession("ncen-updater", site.config), list[LazyText]()
    monkeypatch.setattr(session, "add_line", shown.append)
    resting = {"running": None, "reason": "release 3.3.0 waits for the window: 22:00"}
    _show_service(session, resting, held=True)
    _show_service(session, resting, busy=True)  # which is reported separately
    assert shown == []
    _show_service(session, resting)
    assert [str(text) for text in shown] == ["Release 3.3.0 waits for the window: 22:00."]
    working = {"running": {"command": ["check"], "progress": None}}
    _show_service(session, working, held=True)
    assert len(shown) == 2


def test_failure_is_hidden_after_a_later_success(site: TrialSite) -> None:
    site.open_change(StepName.FETCH)
    with Journal.open(site.journal) as journal:
        change = journal.find_open_change()
        assert change is not None
        SiteHistory(journal).mark_bad("ncen", change.to_version, "NU-6007", None)
    assert f"Marked bad: {change.to_version}" in site.run("status").stdout
    with Journal.open(site.journal) as journal:
        journal.set_change_state(change.id, ChangeState.FINISHED)
    assert "Marked bad" not in site.run("status").stdout


def test_control_characters_do_not_reach_the_terminal(site: TrialSite) -> None:
    with Journal.open(site.journal) as journal:
        SiteHistory(journal).add_hold("a\x1b[2Jb", "x", None)
    assert "\x1b" not in site.run("status").stdout


def test_last_step_is_omitted_before_the_first_step(site: TrialSite) -> None:
    """Seen: "last step: - (-)"."""
    site.open_change()
    said = site.run("status").stdout
    assert "Change abcdefgh: upgrade to 3.3.0" in said
    assert "Last step" not in said


def test_interrupted_step_is_described(site: TrialSite) -> None:
    site.open_change(StepName.FETCH)
    with Journal.open(site.journal) as journal:
        journal.record_step("abcdefgh", StepName.COPY, StepState.INTENDED)
    said = site.run("status").stdout
    assert "Change abcdefgh: upgrade to 3.3.0, interrupted" in said
    assert "Last step: copying the databases (not finished)" in said


APPROVED = {
    "version": "3.3.0",
    "approvers": ["amina", "bo"],
    "missing": 0,
    "next": True,
    "unavailable": False,
}


@pytest.mark.parametrize(
    ("row", "first", "words"),
    [
        (
            {"approvers": ["amina"], "missing": 1, "next": False},
            None,
            "approval of 3.3.0: 1 missing",
        ),
        ({}, "3.3.0", "Approved: 3.3.0, by amina, bo; next upgrade"),
        # Seen: "it comes next", of what was at work, and of what was no longer what they saw.
        ({"valid": None}, "3.3.0", "Approved: 3.3.0, by amina, bo"),
        # Seen: "yet to approve: 1", of what a new rehearsal had made another plan.
        ({"missing": 1, "valid": False}, "3.3.0", "is outdated"),
        ({"missing": 1, "unavailable": True}, None, "no longer available"),
        ({"valid": False}, "3.3.0", "Run: ncen-updater approve 3.3.0 --dry-run"),
        ({"next": False}, "3.4.0", "Approved: 3.3.0, by amina, bo; 3.4.0 is installed first"),
        ({"next": False, "unavailable": True}, "3.4.0", "no longer available"),
        ({"next": False, "unavailable": True, "valid": False}, None, "no longer available"),
    ],
)
def test_approval_state_is_described(row: dict[str, object], first: str | None, words: str) -> None:
    document = {**APPROVED, "valid": True, **row}
    assert words in _format_approval(document, {"version": first} if first else None).render("en")


def test_adoption_of_restored_databases_names_the_second_approver_command() -> None:
    """Seen: "restored 3.3.10 was approved by ada; people who have yet to approve: 1"."""
    row = {"version": "restored 3.3.10", "approvers": ["ada"], "missing": 1}
    assert _format_approval(row, None).render("en") == (
        "Waiting for approval of the restored databases: 1 missing; approved by ada. "
        "Run: sudo ncen-updater adopt --restored 3.3.10 --reason TEXT"
    )


def test_schedule_is_shown_with_and_without_the_service(
    site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: with the service, status did not show the schedule of a release without approval."""
    with Journal.open(site.journal) as journal:
        ApprovalStore(journal).set_schedule(
            "ab" * 32, "3.3.0", datetime(2030, 1, 2, 22, tzinfo=UTC), Actor("amina", 1001)
        )
    found = json.loads(site.run("status", "--json").stdout)
    (chosen,) = found["journal"]["schedules"]
    assert (chosen["version"], chosen["actor"]) == ("3.3.0", "amina")
    session, shown = AgentSession("ncen-updater", site.config), list[LazyText]()
    monkeypatch.setattr(session, "add_line", shown.append)
    for more in {}, {"service": {"running": None}}:
        shown.clear()
        _show_parts(session, {**found, **more})
        assert [text.values["by"] for text in shown if "at" in text.values] == ["amina"]


def test_approved_rollback_is_shown_until_the_next_event(site: TrialSite) -> None:
    """Seen: after the last yes status knew of nothing, and the next step stood in a scroll."""
    site.open_change(StepName.FETCH)
    site.use("3.3.0")
    with Journal.open(site.journal) as journal:
        journal.commit_change(CHANGE.id)
        journal.set_change_state(CHANGE.id, ChangeState.FINISHED)
    with site.config.open("a") as config:
        config.write("[service]\nrequired_approvals = 2\n")
    assert "Rollback" not in site.run("status").stdout
    for who, uid, loss, words in (
        ("root", 0, 3, "-"),
        ("amina", 1001, 7, "1 missing; approved by amina. Run: ncen-updater approve --rollback "
         "--accept-loss 7"),
        ("bo", 1002, 5, "by amina, bo. Run: ncen-updater rollback --accept-loss 5"),
        ("bo", 1002, 0, "by amina, bo. Run: ncen-updater rollback"),
    ):  # fmt: skip
        with Journal.open(site.journal) as journal:
            found = find_rollback_to_approve(journal, "3.3.0", 1 if uid == 0 else 2)
            approve_rollback(journal, found, Actor(who, uid), accept_loss=loss)
        out = " ".join(site.run("status").stdout.split())
        assert (words in out) if uid else ("Rollback" not in out), who
        assert "Valid until the next change." in out or not uid
    told = json.loads(site.run("status", "--json").stdout)["journal"]["rollback_approved"]
    assert told == {
        "from": "3.3.0", "version": "3.2.4", "approvers": ["amina", "bo"], "missing": 0,
        "accept_loss": 0,
    }  # fmt: skip
    site.use("3.2.4")  # a release that is not in use is not gone back from
    assert "Rollback" not in site.run("status").stdout


def test_rollback_approval_does_not_apply_to_the_next_upgrade(site: TrialSite) -> None:
    site.use("3.3.0")
    for number, change in enumerate((CHANGE, dataclasses.replace(CHANGE, id="bcdefghi"))):
        with Journal.open(site.journal) as journal:
            journal.begin_change(change)
            journal.record_step(change.id, StepName.COMMIT, StepState.INTENDED)
            journal.commit_change(change.id)
            journal.set_change_state(change.id, ChangeState.FINISHED)
            if number == 0:
                found = find_rollback_to_approve(journal, "3.3.0", 1)
                approve_rollback(journal, found, Actor("amina", 1001))
        assert ("Approved: rollback to 3.2.4" in site.run("status").stdout) is (number == 0)


IDLE: dict[str, object] = {
    "open_change": None, "pending_rollback": None, "lock_holder": None, "holds": [],
    "approvals": [], "bad_releases": [], "rehearsed": "3.3.0",
}  # fmt: skip


@pytest.mark.parametrize(
    ("journal", "command"),
    [
        ({}, "approve 3.3.0"),
        ({"rehearsed": None}, None),
        ({"bad_releases": [{"version": "3.3.0"}]}, None),
        ({"approvals": [{**APPROVED, "valid": None}]}, "upgrade 3.3.0"),
        (
            {"approvals": [{**APPROVED, "valid": None, "next": False, "missing": 1}]},
            "approve 3.3.0",
        ),
        ({"approvals": [{**APPROVED, "valid": False}]}, None),
        ({"approvals": [{**APPROVED, "valid": True}], "holds": [{}]}, None),
        ({"open_change": {"id": "x"}}, None),
    ],
)
def test_next_command_is_named_without_the_service(
    journal: dict[str, object], command: str | None
) -> None:
    """Seen: nothing after a rehearsal or an approval, but "To see the upgrade plan"."""
    document = {"journal": {**IDLE, **journal}}
    assert _find_next_command(document) == (command and f"ncen-updater {command}")
    assert _find_next_command({**document, "service": {}}) is None


def test_rehearsed_release_is_shown_with_the_command_to_approve_it(site: TrialSite) -> None:
    _write_view(site, datetime(2027, 1, 8, tzinfo=UTC))
    with Journal.open(site.journal) as journal:
        store = RehearsalStore(journal)
        store.record_start("rrrrrrrr", "3.2.4", "3.3.0", RehearsalCopyPlans())
        assert "Rehearsed" not in site.run("status").stdout
        store.record_end("rrrrrrrr", RehearsalState.PASSED)
    lines = site.run("status").stdout.splitlines()
    assert lines[lines.index("Rehearsed: 3.3.0") + 1] == "  Run: ncen-updater approve 3.3.0"
    assert "upgrade path" not in lines[-1]
    site.use("3.3.0")
    assert "Rehearsed" not in site.run("status").stdout


def test_one_cause_is_reported_once(site: TrialSite) -> None:
    """Seen: NU-6001 for the journal, and again for the feed."""
    _write_view(site, datetime(2027, 1, 8, tzinfo=UTC))
    site.journal.unlink()
    assert site.run("status").stderr.count("NU-6001") == 1


def test_reverted_change_is_described_once(site: TrialSite) -> None:
    """Seen: "reverted 2026-12-01 ..." and below it "reverted; no data loss"."""
    site.open_change()
    with Journal.open(site.journal) as journal:
        journal.set_change_state(CHANGE.id, ChangeState.REVERTED)
    said = site.run("status").stdout
    assert said.count("reverted") == 1
    assert "\n  no data loss\n" in said


def test_interrupted_soak_period_says_what_resume_does(site: TrialSite) -> None:
    site.open_change(StepName.FETCH, StepName.COMMIT)
    with Journal.open(site.journal) as journal:
        journal.commit_change(CHANGE.id)
    said = site.run("status").stdout
    assert "  To complete the change, run: sudo ncen-updater resume" in said


def test_failed_rehearsal_names_history(site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen: "Run: journalctl", where ``history`` has the release and the cause."""
    session, shown = AgentSession("ncen-updater", site.config), list[LazyText]()
    monkeypatch.setattr(session, "add_line", shown.append)
    failed = {"failures": 1, "code": "NU-4006", "at": "2026-01-01T00:00:00+00:00"}
    failures = [{**failed, "action": action} for action in ("rehearse", "prepare")]
    _show_service(session, {"running": None, "failures": failures})
    commands = [text.render().partition("Run: ")[2] for text in shown]
    assert commands == ["ncen-updater history", "journalctl -u ncen-updater"]
