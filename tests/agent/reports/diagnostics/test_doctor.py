"""Tests of ``doctor`` and ``verify`` on a real site that was upgraded and then tampered with."""

from __future__ import annotations

import grp
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.application.command import CommandApplication
from ncen_updater.agent.adapters.databases.postgresql.roles import LOGIN_UNKNOWN
from ncen_updater.agent.adapters.databases.sqlite.engine import SqliteEngine
from ncen_updater.agent.engine.lock import hold_change_lock
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.path_selection import find_upgrade_path
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalStore
from ncen_updater.agent.engine.rehearsal.rehearser import Rehearser
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import StepName, StepPhase, new_change_id
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.event_names import CHANGE_LOCK_FILE, JOURNAL_FILE
from ncen_updater.agent.reports.diagnostics.doctor import diagnose
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.progress import ProgressListener, SilentProgress
from ncen_updater.feed.trust_state import TrustStateStore
from ncen_updater.feed.upgrade_path import UpgradePath
from tests.faults.full import prepared
from tests.faults.trial import OLD, Trial
from tests.support.activation import ACTIVATOR, activated
from tests.support.forks import run_agent
from tests.support.sites import site_in_process


@pytest.fixture(scope="module")
def trial() -> Iterator[Trial]:
    with prepared("sqlite") as made:
        made.reset()
        Operations(site_in_process(made.demo), SilentProgress()).upgrade()
        yield made


def codes(trial: Trial) -> set[str]:
    found = {f.code for f in diagnose(trial.demo.config_path, SilentProgress())}
    return found - {"NU-6124", "NU-6146"}


def rehearse(site: Site) -> None:
    operations = Operations(site, SilentProgress())
    path = find_upgrade_path(site)
    assert isinstance(path, UpgradePath)
    with operations.lock_idle_site("rehearse") as journal:
        Rehearser(site, journal, SilentProgress(), new_change_id).rehearse(path)


def with_current(trial: Trial, target: Path | None) -> set[str]:
    link = trial.demo.current
    before = link.readlink()
    link.unlink()
    if target is not None:
        link.symlink_to(target)
    try:
        return codes(trial)
    finally:
        link.unlink(missing_ok=True)
        link.symlink_to(before)


def with_maintenance(trial: Trial) -> set[str]:
    trial.demo.maintenance_file.write_text("x")
    try:
        return codes(trial)
    finally:
        trial.demo.maintenance_file.unlink()


def with_clock(trial: Trial, ahead: timedelta) -> set[str]:
    """Findings with the clock this far ahead of the newest signed metadata."""
    memory = TrustStateStore(trial.demo.state)
    floor = memory.load().clock_floor
    try:
        memory.update(lambda proved: replace(proved, clock_floor=datetime.now(UTC) - ahead))
        return codes(trial)
    finally:
        memory.update(lambda proved: replace(proved, clock_floor=floor))


def while_at_work(trial: Trial) -> set[str]:
    with hold_change_lock(trial.demo.state / CHANGE_LOCK_FILE, "upgrade"):
        return codes(trial)


def with_other_fingerprints(trial: Trial) -> set[str]:
    with Journal.open(trial.demo.state / JOURNAL_FILE) as journal:
        change = journal.list_changes(1)[0].id
        kept = journal.read_facts(change).fingerprints
        odd = dict.fromkeys(kept or {}, "0" * 64)
        journal.store_facts(change, ChangeFacts(fingerprints=odd))
        try:
            return codes(trial)
        finally:
            journal.store_facts(change, ChangeFacts(fingerprints=kept))


def with_stopped_application(trial: Trial) -> set[str]:
    trial.demo.stop_app()
    try:
        return codes(trial)
    finally:
        trial.demo.start_app()


def with_missing_database(trial: Trial) -> set[str]:
    """Findings without the file of a database, while the application fails for lack of it."""
    assert trial.demo.databases.kind == "sqlite"
    file = Path(trial.demo.databases.address("suspects"))
    trial.demo.stop_app()
    kept = file.rename(file.with_suffix(".away"))
    trial.demo.start_app()
    try:
        return codes(trial)
    finally:
        trial.demo.stop_app()
        kept.rename(file)
        trial.demo.start_app()


def with_setting(trial: Trial, old: str, new: str) -> set[str]:
    before = trial.demo.config_path.read_text()
    assert old in before
    trial.demo.config_path.write_text(before.replace(old, new, 1))
    try:
        return codes(trial)
    finally:
        trial.demo.config_path.write_text(before)


def with_a_typo_in_the_port(trial: Trial) -> set[str]:
    line = next(
        line for line in trial.demo.config_path.read_text().splitlines() if "health_url" in line
    )
    return with_setting(trial, line, 'health_url = "http://127.0.0.1:9"')


def automatic_without_windows(trial: Trial) -> set[str]:
    text = trial.demo.config_path.read_text()
    if "[service]" in text:
        return with_setting(trial, "[service]", '[service]\nmode = "automatic"')
    return with_setting(trial, "[site]", '[service]\nmode = "automatic"\n\n[site]')


def with_damaged_slot(trial: Trial) -> set[str]:
    file = trial.demo.slots / OLD / "app" / "release.json"
    mode = file.stat().st_mode
    file.chmod(0o666)
    try:
        return codes(trial)
    finally:
        file.chmod(mode)


def test_every_altered_file_is_named(trial: Trial) -> None:
    """Who is to put them back has to know which they are."""
    slot = trial.demo.slots / OLD
    files = sorted(path for path in (slot / "app").rglob("*") if path.is_file())[:5]
    modes = {path: path.stat().st_mode for path in files}
    for path in files:
        path.chmod(0o666)
    try:
        found = diagnose(trial.demo.config_path, SilentProgress())
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    (finding,) = (finding for finding in found if finding.code == "NU-6104")
    said = finding.title.render("en")
    assert "Restore the released files" in finding.remedy.render("en")
    assert len(files) == 5
    assert all(path.relative_to(slot).as_posix() in said for path in files)


def test_changed_schema_asks_first_who_changed_it(trial: Trial) -> None:
    """An administrator who added an index was only sent to the Secretariat."""
    with Journal.open(trial.demo.state / JOURNAL_FILE) as journal:
        change = journal.list_changes(1)[0].id
        kept = journal.read_facts(change).fingerprints or {}
        name = sorted(kept)[0]
        journal.store_facts(change, ChangeFacts(fingerprints={**kept, name: "0" * 64}))
        try:
            found = diagnose(trial.demo.config_path, SilentProgress())
        finally:
            journal.store_facts(change, ChangeFacts(fingerprints=kept))
    (finding,) = (finding for finding in found if finding.code == "NU-6106")
    remedy = finding.remedy.render("en")
    assert f"Have the change in {name}" in remedy
    assert "two approvers run" in remedy
    assert "ncen-updater adopt --restored 3." in remedy


def test_full_disk_blocks_an_upgrade(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncen_updater.common.disk_space.MARGIN_BYTES", 1 << 60)
    assert "NU-6127" in codes(trial)


def test_import_directory_writable_by_others_is_reported(trial: Trial) -> None:
    inbox = trial.demo.state / "inbox"
    assert "NU-9333" not in codes(trial), "nobody but who works here needs one"
    inbox.mkdir()
    try:
        inbox.chmod(0o1777)
        assert "NU-9333" in codes(trial)
        inbox.chmod(0o1770)
        assert "NU-9333" not in codes(trial)
    finally:
        inbox.rmdir()


def test_import_directory_of_another_group_is_reported(trial: Trial) -> None:
    """Operators could not use their own copies, and 'doctor' reported nothing."""
    config, inbox = trial.demo.config_path, trial.demo.state / "inbox"
    before = config.read_text("utf-8")
    its_group = grp.getgrgid(os.getegid()).gr_name
    inbox.mkdir()
    inbox.chmod(0o1770)
    try:
        for group, told in ((its_group, False), ("nobody-has-it", True), ("sys", True)):
            config.write_text(operated_by(before, group), "utf-8")
            assert bool(codes(trial) & {"NU-6138", "NU-6141"}) is told, group
    finally:
        config.write_text(before, "utf-8")
        inbox.rmdir()


def operated_by(text: str, group: str) -> str:
    line = f'operator_group = "{group}"'
    if "[service]" in text:
        return text.replace("[service]", f"[service]\n{line}", 1)
    return f"{text}\n[service]\n{line}\n"


def test_open_change_is_listed_first_and_suppresses_its_consequences(trial: Trial) -> None:
    from tests.faults.cells import Fault, Strike

    cut = Strike(StepName.MIGRATE, StepPhase.AFTER_EFFECT, Fault.SIGKILL)
    trial.reset(OLD)
    trial.operate("upgrade", (cut,))
    try:
        found = diagnose(trial.demo.config_path, SilentProgress())
    finally:
        trial.settle()
        Operations(site_in_process(trial.demo), SilentProgress()).upgrade()
    assert (found[0].code, found[0].severity) == ("NU-6103", Severity.CRITICAL)
    rest = {finding.code for finding in found[1:]}
    assert not rest & {"NU-6103", "NU-6125", "NU-4002", "NU-6124", "NU-6128"}
    assert "Start it" not in " ".join(finding.remedy.render("en") for finding in found)


def test_rehearsal_copies_are_not_foreign(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen: "If you know where it comes from and nobody needs it, drop it", while it rehearsed."""
    trial.reset(OLD)
    site = site_in_process(trial.demo)
    seen: list[set[str]] = []

    def interrupt(self: Rehearser, *_: object) -> None:
        seen.append(codes(trial))
        raise KeyboardInterrupt

    try:
        with monkeypatch.context() as cut:
            cut.setattr(Rehearser, "_rehearse_upgrade", interrupt)
            cut.setattr(Rehearser, "_drop_copies", lambda *_: None)
            cut.setattr(RehearsalStore, "record_end", lambda *_, **__: None)
            with pytest.raises(KeyboardInterrupt):
                rehearse(site)
        left = [
            f for f in diagnose(trial.demo.config_path, SilentProgress()) if f.code == "NU-6123"
        ]
        Operations(site, SilentProgress()).resume(by_operator=True)
        after = codes(trial)
    finally:
        Operations(site_in_process(trial.demo), SilentProgress()).upgrade()
    assert seen == [{"NU-6121"}], "that somebody is at work, and nothing of what they do"
    assert left and all("ncen-updater resume" in str(finding.remedy) for finding in left)
    assert "NU-6123" not in after


def test_denied_probe_does_not_claim_that_the_application_is_down(trial: Trial) -> None:
    line = '[application]\nhealth_token_file = "/no/such/token"'
    found = with_setting(trial, "[application]", line)
    assert "NU-5090" in found and not found & {"NU-6310", "NU-6128"}


def test_failing_application_blocks_an_upgrade(trial: Trial) -> None:
    """Seen: users got 503 and "Nothing stands in the way of an upgrade."."""
    config = trial.demo.config_path
    before = config.read_text("utf-8")
    other = '[application]\nhealth_path = "/no/such"'
    config.write_text(before.replace("[application]", other, 1), "utf-8")
    try:
        found = {f.code: f for f in diagnose(config, SilentProgress())}
    finally:
        config.write_text(before, "utf-8")
    assert found["NU-6310"].severity is Severity.CRITICAL
    assert "404" in found["NU-6310"].title.render("en"), "with the reason of the health check"
    # Seen after an upgrade: "Repair the application before the upgrade", and nothing of a rollback.
    assert "run: ncen-updater rollback --dry-run" in found["NU-6310"].remedy.render("en")


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        (codes, {}),
        (with_maintenance, {"NU-6122": Severity.WARNING}),
        (lambda trial: with_clock(trial, timedelta(days=-2)), {"NU-6311": Severity.CRITICAL}),
        (lambda trial: with_clock(trial, timedelta(days=500)), {"NU-6312": Severity.WARNING}),
        (while_at_work, {"NU-6121": Severity.INFO}),
        (with_other_fingerprints, {"NU-6106": Severity.CRITICAL}),
        (with_stopped_application, {"NU-6125": Severity.CRITICAL}),
        (with_damaged_slot, {"NU-6104": Severity.WARNING}),
        (with_a_typo_in_the_port, {"NU-6128": Severity.CRITICAL}),
        (automatic_without_windows, {"NU-6129": Severity.CRITICAL}),
        (lambda trial: with_current(trial, None), {"NU-6101": Severity.CRITICAL}),
        (
            lambda trial: with_current(trial, trial.demo.slots / OLD),
            {"NU-6102": Severity.CRITICAL},
        ),
    ],
)
def test_tampering_is_found(
    trial: Trial,
    look: Callable[[Trial], set[str]],
    expected: Mapping[str, Severity],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    severities: dict[str, Severity] = {}
    original = diagnose

    def record(config: Path, progress: ProgressListener) -> tuple[Finding, ...]:
        found = original(config, progress)
        severities.update({finding.code: finding.severity for finding in found})
        return found

    monkeypatch.setitem(globals(), "diagnose", record)
    # Only root sees open files of other users; others are told about that limit.
    found = look(trial) - (set() if os.geteuid() == 0 else {"NU-4250"})
    assert set(expected) <= found if expected else not found
    assert {code: severities[code] for code in expected} == expected


def test_missing_database_is_reported_once(trial: Trial) -> None:
    """Seen: three remedies, one of them a rollback that was refused."""
    assert with_missing_database(trial) - {"NU-4250"} == {"NU-4221"}


def test_deliberately_stopped_application_does_not_block_an_upgrade(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a planned maintenance; only systemd can tell that, not the demo's commands."""
    monkeypatch.setattr(CommandApplication, "was_stopped_on_request", lambda _: True)
    trial.demo.stop_app()
    try:
        found = {f.code: f.severity for f in diagnose(trial.demo.config_path, SilentProgress())}
    finally:
        trial.demo.start_app()
    assert found["NU-6125"] is Severity.WARNING
    assert Severity.CRITICAL not in found.values()


@pytest.mark.parametrize("works", [True, False])
def test_refused_login_blocks_an_upgrade_where_the_application_is_down(
    trial: Trial, works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubt = LOGIN_UNKNOWN.make_finding(role="ncen", reason="Peer authentication failed")
    monkeypatch.setattr(CommandApplication, "was_stopped_on_request", lambda _: True)
    monkeypatch.setattr(SqliteEngine, "find_exposures", lambda _: (doubt,))
    if not works:
        trial.demo.stop_app()
    try:
        found = {f.code: f.severity for f in diagnose(trial.demo.config_path, SilentProgress())}
    finally:
        if not works:
            trial.demo.start_app()
    assert found["NU-4171"] is (Severity.WARNING if works else Severity.CRITICAL)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root closes a directory to a process")
@pytest.mark.skipif(ACTIVATOR is None, reason="systemd-socket-activate is not installed")
def test_root_learns_what_the_unit_may_write(trial: Trial, tmp_path: Path) -> None:
    """Root may write everywhere; the unit that does the work may not, and is asked."""
    demo, socket = trial.demo, tmp_path / "apply.sock"
    config, closed, before = demo.config_path, demo.slots, demo.options.settings or {}
    service = {**before.get("service", {}), "runner": "systemd", "apply_socket": str(socket)}
    demo.configure({**before, "service": service})
    limits = f"mount --bind {closed} {closed} && mount -o remount,bind,ro {closed}"
    work = f"{sys.executable} -m ncen_updater.agent.cli.worker {config}"
    unit = ("unshare", "--mount", "sh", "-c", f"{limits} && exec {work}")
    words = ("--config", str(config), "doctor")
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    try:
        with activated(socket, unit, tmp_path / "unit.log"):
            done = run_agent(*words, environment=environment)
        assert f"NU-6346 {closed} is outside" in done.stdout, done.stderr
        assert done.returncode == 3
        socket.unlink(missing_ok=True)
        alone = run_agent(*words, environment=environment)
        assert "NU-6346" not in alone.stdout, "where no unit waits, this process looks"
    finally:
        demo.configure(before)


def test_unit_of_another_installation_is_named(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: "No problem blocks an upgrade" of a site that had been adopted by hand."""
    outside = {"ncen.service": "/srv/ncen"}
    monkeypatch.setattr(CommandApplication, "find_outside_installations", lambda _: outside)
    assert "NU-6145" in codes(trial)


@pytest.mark.parametrize(
    ("condition", "copied", "title"),
    [
        (
            "Optional: x",
            True,
            r"Cloned copies would save \S+ [kM]?B and .+ s of downtime per upgrade",
        ),
        ("Optional: x", False, r"Cloned copies would save \S+ [kM]?B per upgrade"),
        ("", True, r"Database copies are clones: \S+ [kM]?B saved per upgrade"),
        (None, True, None),
    ],
)
def test_doctor_says_what_clones_save(
    trial: Trial,
    monkeypatch: pytest.MonkeyPatch,
    condition: str | None,
    copied: bool,
    title: str | None,
) -> None:
    text = None if condition is None else LazyText(condition)
    monkeypatch.setattr(SqliteEngine, "describe_clone_condition", lambda _: text)
    if not copied:
        monkeypatch.setattr(Journal, "list_changes", lambda *_: ())
    found = [f for f in diagnose(trial.demo.config_path, SilentProgress()) if f.code == "NU-6146"]
    assert len(found) == (title is not None)
    for finding in found:
        assert finding.severity is Severity.INFO and str(finding.remedy) == condition
        assert re.fullmatch(str(title), str(finding.title)), finding.title
