"""Tests of one snapshot of a site: read once, each part a value or its error."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.cli.state_text import format_availability
from ncen_updater.agent.config.essential_settings import load_essential_settings
from ncen_updater.agent.engine.approvals.approval import describe_consumed_approvals
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.pending_rollback import (
    MAX_ATTEMPTS,
    MAX_FAILURES,
    find_rolled_back_releases,
)
from ncen_updater.agent.model.change import Actor, Change, ChangeKind, ChangeState, DatabaseMode
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.errors import JournalUnreadableError, JournalUnwritableError
from ncen_updater.agent.policy.availability import Availability, AvailabilityState, HealthAnswer
from ncen_updater.agent.reports import status
from ncen_updater.agent.reports.status import (
    ALL_PARTS,
    MAX_REREADS,
    NOT_READ,
    FileCache,
    JournalSnapshot,
    _compute_free_percent,
    read_journal_snapshot,
    read_status,
    require_part,
)
from ncen_updater.agent.storage.journal import journal_file as file
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.agent.storage.service_state import (
    SERVICE_STATE_PATH,
    Assessment,
    ServiceState,
    ServiceStateFile,
)
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import INTERRUPTED
from tests.agent.cli.site import make_site

NOW = datetime(2026, 11, 24, tzinfo=UTC)
UPGRADE = Change(
    id="aaaaaaaa", kind=ChangeKind.UPGRADE, mode=DatabaseMode.MIGRATE, state=ChangeState.RUNNING,
    product="ncen", from_version="3.2.4", to_version="3.3.0", generation=1,
    created_at=NOW,
)  # fmt: skip
AMINA, BO = Actor("amina", 1001), Actor("bo", 1002)
BACK = dataclasses.replace(
    UPGRADE, kind=ChangeKind.ROLLBACK, from_version="3.3.0", to_version="3.2.4"
)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.create(tmp_path / "journal.sqlite", now=lambda: NOW) as made:
        yield made


def facts(journal: Journal) -> JournalSnapshot:
    return read_journal_snapshot(journal, NOW)


def is_rollback_pending(journal: Journal) -> bool:
    found = facts(journal).pending_rollback
    return found is not None and found.is_automatic


def upgraded(journal: Journal, **facts: Any) -> None:
    journal.begin_change(UPGRADE, ChangeFacts(**facts))
    journal.commit_change(UPGRADE.id)
    journal.set_change_state(UPGRADE.id, ChangeState.FINISHED)


def record_rollback(
    journal: Journal, number: int, state: ChangeState, code: str | None = None, **facts: Any
) -> None:
    change = dataclasses.replace(BACK, id=f"bbbbbbb{'abcdefgh'[number]}")
    journal.begin_change(change, ChangeFacts(**facts))
    if state is ChangeState.FINISHED:
        journal.commit_change(change.id)
    journal.set_change_state(change.id, state, error_code=code)


def test_every_part_is_read_and_the_journal_opened_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = make_site(tmp_path)
    session = AgentSession("ncen-updater", trial.config)
    site = session.open_site()
    opened: list[Path] = []
    real = Journal.open.__func__  # type: ignore[attr-defined]

    def counted(cls: type[Journal], /, path: Path, **how: bool) -> Journal:
        opened.append(path)
        return real(cls, path, **how)  # type: ignore[no-any-return]

    monkeypatch.setattr(Journal, "open", classmethod(counted))
    found = read_status(load_essential_settings(trial.config), NOW, config=site.config, site=site)
    assert [name for name in ALL_PARTS if getattr(found, name) is NOT_READ] == []
    assert found.errors == ()
    assert opened == [trial.journal]
    for part in ALL_PARTS:
        alone = read_status(
            load_essential_settings(trial.config), NOW, {part}, config=site.config, site=site
        )
        read = {name for name in ALL_PARTS if getattr(alone, name) is not NOT_READ}
        assert read - {"journal"} == {part} - {"journal"}


def test_concurrent_writes_are_not_read_partially(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "BUSY_TIMEOUT_S", 0.0)
    with Journal.open(tmp_path / "journal.sqlite", read_only=True) as reading:
        with Journal.open(tmp_path / "journal.sqlite") as writing, reading.read_transaction():
            assert facts(reading) == JournalSnapshot()
            with pytest.raises(JournalUnwritableError):
                SiteHistory(writing).add_hold("fair", "amina", None)
            assert facts(reading) == JournalSnapshot()
        SiteHistory(journal).add_hold("fair", "amina", None)
        assert facts(reading).last_event == 1


@pytest.mark.parametrize("opened", [True, False])
def test_availability_and_maintenance_are_of_one_moment(tmp_path: Path, *, opened: bool) -> None:
    """Seen: "Users see the maintenance page", seconds after they were let in."""
    site = make_site(tmp_path / "site")
    door = site.root / "door"
    if opened:
        door.touch()
    asked: list[bool] = []

    def ask() -> Availability:
        asked.append(door.exists())
        seen = AvailabilityState.MAINTENANCE if door.exists() else AvailabilityState.NOT_RUNNING
        if len(asked) == 1:  # the page is turned on or off before the answer arrives
            door.unlink() if opened else door.touch()
        return Availability(seen)

    looked = read_status(
        load_essential_settings(site.config), NOW, {"maintenance_on", "availability"}, probe=ask
    )
    assert require_part(looked.maintenance_on) is not opened
    expected = AvailabilityState.NOT_RUNNING if opened else AvailabilityState.MAINTENANCE
    assert require_part(looked.availability).state is expected
    assert asked == [opened, not opened]


def test_unstable_state_is_reported_as_last_seen(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site")
    asked: list[int] = []

    def ask() -> Availability:
        asked.append(1)
        return Availability(AvailabilityState.MAINTENANCE)

    looked = read_status(
        load_essential_settings(site.config), NOW, {"maintenance_on", "availability"}, probe=ask
    )
    assert looked.is_inconsistent
    assert len(asked) == 1 + MAX_REREADS


def test_damaged_journal_part_makes_the_journal_unreadable(
    tmp_path: Path, journal: Journal
) -> None:
    with journal.transaction() as connection:
        connection.execute("INSERT INTO jobs VALUES (1, 'x', 'y', 'z', 0, '', NULL, NULL, NULL)")
    found = read_status(
        load_essential_settings(make_site(tmp_path / "site").config), NOW, {"journal"}
    )
    assert found.errors == ()
    places = dataclasses.replace(found.paths, state=tmp_path)
    found = read_status(places, NOW, {"journal", "rehearsals", "lock_holder"})
    assert isinstance(found.journal, JournalUnreadableError)
    assert found.errors == (found.journal,)
    with pytest.raises(JournalUnreadableError):
        require_part(found.rehearsals)


def test_internal_error_is_logged_with_its_location(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(status, "read_lock_holder", lambda path: 1 + path)
    found = read_status(
        load_essential_settings(make_site(tmp_path).config), NOW, {"lock_holder", "current"}
    )
    assert (found.current, [type(error) for error in found.errors]) == ("3.2.4", [TypeError])
    assert "unsupported operand" in caplog.text


def test_unknown_disk_size_is_neither_full_nor_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trial = make_site(tmp_path)
    config = AgentSession("ncen-updater", trial.config).open_site().config
    monkeypatch.setattr("os.statvfs", lambda _: SimpleNamespace(f_blocks=0, f_bavail=0))
    found = read_status(load_essential_settings(trial.config), NOW, {"free_percent"}, config=config)
    assert all(
        isinstance(percent, OSError) for percent in require_part(found.free_percent).values()
    )
    assert caplog.records == []


@pytest.mark.parametrize(
    ("full", "works"), [("state", True), ("slots", True), ("databases", False), (None, True)]
)
def test_full_disk_is_named_and_full_database_disk_means_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str | None, works: bool
) -> None:
    """Seen: users got 503 for 35 s while 'status' said that they can work."""
    trial = make_site(tmp_path)
    places = load_essential_settings(trial.config)
    disks = {"state": places.state, "slots": places.slots, "databases": tmp_path / "databases"}
    found = ServiceState(Assessment(1, disks=(str(disks["databases"]),)))
    (places.state / SERVICE_STATE_PATH).parent.mkdir()
    ServiceStateFile(places.state / SERVICE_STATE_PATH).save(found)

    def statvfs(place: Path) -> SimpleNamespace:
        free = 3 if place == disks.get(full or "") else 1 << 30
        return SimpleNamespace(f_bavail=free, f_frsize=4096)

    monkeypatch.setattr("os.statvfs", statvfs)
    answers = Availability(AvailabilityState.AVAILABLE, answer=HealthAnswer.HEALTHY)
    parts = {"full_disk", "availability"}
    status = read_status(places, NOW, parts, probe=lambda: answers)
    assert status.full_disk == (None if full is None else (disks[full], 12_288))
    seen = require_part(status.availability)
    assert (seen.state is AvailabilityState.AVAILABLE) is works
    if not works:
        (said,) = format_availability(seen, "3.3.0")
        assert str(said).endswith(f"(disk full: {disks['databases']})")


def test_large_files_are_reread_only_when_changed(tmp_path: Path) -> None:
    trial, cache = make_site(tmp_path), FileCache()
    path = trial.state / "metadata" / "timestamp.json"
    path.parent.mkdir()

    def expiry() -> object:
        found = read_status(load_essential_settings(trial.config), NOW, {"expiries"}, cache=cache)
        return require_part(found.expiries)["timestamp"]

    path.write_text('{"signed": {"expires": "2026-12-01T00:00:00Z"}}')
    assert expiry() is expiry()
    path.write_text("{")
    assert isinstance(expiry(), ValueError)


def test_hold_without_an_end_is_longer_than_others(journal: Journal) -> None:
    hours = [NOW + timedelta(hours=hour) for hour in (1, 3, 2)]
    for end in hours:
        SiteHistory(journal).add_hold("fair", "amina", end)
    assert [facts(journal).longest_hold] == [h for h in facts(journal).holds if h.until == hours[1]]
    SiteHistory(journal).add_hold("audit", "bo", None)
    hold = facts(journal).longest_hold
    assert hold is not None and (hold.reason, hold.until) == ("audit", None)


def test_rollback_is_pending_until_done_or_tried_too_often(journal: Journal) -> None:
    upgraded(journal, soak_error=LazyText("status 503"))
    assert not is_rollback_pending(journal), "none was begun: that is the site's own setting"
    for number in range(MAX_ATTEMPTS):
        record_rollback(journal, number, ChangeState.REVERTED, failed_soak_upgrade=UPGRADE.id)
        assert is_rollback_pending(journal) is (number < MAX_ATTEMPTS - 1)
    record_rollback(journal, MAX_ATTEMPTS, ChangeState.FINISHED, failed_soak_upgrade=UPGRADE.id)
    assert not is_rollback_pending(journal)
    assert find_rolled_back_releases(journal) == frozenset()


def test_failed_rollback_is_tried_once_more(journal: Journal) -> None:
    upgraded(journal, soak_error=LazyText("status 503"))
    for number, by_itself in enumerate((True, False)):
        record_rollback(
            journal, number, ChangeState.REVERTED, "NU-6005", failed_soak_upgrade=UPGRADE.id
        )
        assert is_rollback_pending(journal) is by_itself


def test_terminated_rollback_has_not_failed(journal: Journal) -> None:
    upgraded(journal, soak_error=LazyText("status 503"))
    for number in range(MAX_FAILURES + 1):
        record_rollback(
            journal, number, ChangeState.REVERTED, INTERRUPTED.code, failed_soak_upgrade=UPGRADE.id
        )
        assert is_rollback_pending(journal)


def test_confirmed_or_completed_rollback_is_not_pending(journal: Journal) -> None:
    upgraded(journal, soak_error=LazyText("status 503"), confirmed_by="amina")
    record_rollback(journal, 0, ChangeState.REVERTED, failed_soak_upgrade=UPGRADE.id)
    assert not is_rollback_pending(journal)
    record_rollback(journal, 1, ChangeState.FINISHED)
    assert find_rolled_back_releases(journal) == {"3.3.0"}


def test_reverted_upgrade_needs_new_approvals(journal: Journal) -> None:
    """Seen: two people waited for a second try that waited for them."""
    consent = ApprovalStore(journal)
    for who in (AMINA, BO):
        consent.add("ab" * 32, "3.3.0", {}, who, needed=2)
    journal.begin_change(UPGRADE, ChangeFacts(binding="ab" * 32))
    consent.consume_all(UPGRADE.id)
    assert facts(journal).consumed_approvals == (), (
        "it is at work, and may yet come well to its end"
    )
    journal.set_change_state(UPGRADE.id, ChangeState.REVERTED)
    assert facts(journal).consumed_approvals == ("amina", "bo")
    assert "Approved by: amina, bo" in str(
        describe_consumed_approvals(facts(journal).consumed_approvals)
    )
    consent.add("cd" * 32, "3.3.0", {}, BO, needed=2)
    assert facts(journal).consumed_approvals == ("amina",)
    consent.add("cd" * 32, "3.3.0", {}, AMINA, needed=2)
    assert facts(journal).consumed_approvals == ()


def test_upgrade_without_required_approvals_consumes_none(journal: Journal) -> None:
    journal.begin_change(UPGRADE, ChangeFacts())
    journal.set_change_state(UPGRADE.id, ChangeState.REVERTED)
    assert facts(journal).consumed_approvals == ()


def test_file_system_without_a_size_is_reported_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot determine the size of the file system of /proc"):
        _compute_free_percent(Path("/proc"))
    assert 0 <= _compute_free_percent(tmp_path) <= 100
