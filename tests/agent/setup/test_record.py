"""Tests of kills before every disk change of a setup and its undo."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.application.process import CommandResult
from ncen_updater.agent.engine.lock import hold_change_lock
from ncen_updater.agent.model.errors import SiteBusyError
from ncen_updater.agent.model.event_names import CHANGE_LOCK_FILE, JOURNAL_FILE
from ncen_updater.agent.setup.machine import Machine
from ncen_updater.agent.setup.record import SetupPhase, SetupRecord
from ncen_updater.agent.setup.steps import CommandStep, FileStep, SetupStep
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    SETUP_FILE_CHANGED,
    SETUP_FILE_UNSAFE,
    SETUP_IN_USE,
    SETUP_RECORD_DAMAGED,
    SETUP_RECORD_NEWER,
    SETUP_STEP_FAILED,
    SETUP_UNDO_FAILED,
)
from ncen_updater.common.progress import SilentProgress
from tests.agent.setup.site import facts_of
from tests.support.errors import refused
from tests.support.kill_points import changes_of, killed_at

OLD = "a line\nno end"


class Ground:
    """A machine in a directory, whose programs change files of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "var/lib/ncen-updater"
        self.state.mkdir(parents=True)
        (root / "etc").mkdir()
        self.hba = root / "etc/pg_hba.conf"
        self.hba.write_text(OLD)
        self.hba.chmod(0o640)
        self.broken: tuple[str, ...] = ()
        self.machine = Machine(root, self.run)
        self.before = self.look()

    def run(self, argv: Sequence[str], limit_s: float) -> CommandResult:
        """``member`` and ``loner`` are the programs of this machine."""
        del limit_s
        (word,) = argv
        if word in self.broken:
            return CommandResult(1, f"{word} is broken")
        place = self.root / "etc/member"
        place.touch() if word == "member" else place.unlink(missing_ok=True)
        return CommandResult(0, "")

    def steps(self) -> list[SetupStep]:
        """One of each, and both sides of a reload."""
        return [
            CommandStep(backward=[["loner"]]),
            FileStep(str(self.hba), f"ours\n{OLD}", OLD),
            FileStep(str(self.root / "etc/new/deep/agent.toml"), "new", None, 0o600),
            CommandStep([["member"]], [["loner"]]),
        ]

    def apply(self) -> None:
        """Begin, or go on."""
        record = SetupRecord(self.machine, self.state)
        record.apply(SilentProgress(), self.steps() if record.phase is SetupPhase.NONE else ())

    def undo(self) -> None:
        """Undo it, if there is anything to undo."""
        record = SetupRecord(self.machine, self.state)
        if record.phase is SetupPhase.NONE:
            record.clear()
        else:
            record.undo(SilentProgress())

    def look(self) -> dict[str, object]:
        """Every file."""
        return {str(path): facts_of(path) for path in sorted(self.root.rglob("*"))}

    def is_done(self) -> bool:
        """Whether all of it is there."""
        new = self.root / "etc/new/deep/agent.toml"
        return (
            self.hba.read_text() == f"ours\n{OLD}"
            and self.hba.stat().st_mode & 0o777 == 0o640
            and new.read_text() == "new"
            and (self.root / "etc/member").exists()
            and SetupRecord(self.machine, self.state).phase is SetupPhase.DONE
        )


def test_kill_at_every_instant_of_a_setup_is_recovered(tmp_path: Path) -> None:
    last = changes_of(Ground(tmp_path / "counted").apply)
    assert last > 30
    for instant in range(1, last + 1):
        for on in (True, False):
            ground = Ground(tmp_path / f"{instant}-{on}")
            assert killed_at(instant, ground.apply)
            if on:
                ground.apply()
                assert ground.is_done(), instant
            ground.undo()
            assert ground.look() == ground.before, instant


def test_kill_at_every_instant_of_an_undo_is_recovered(tmp_path: Path) -> None:
    counted = Ground(tmp_path / "counted")
    counted.apply()
    last = changes_of(counted.undo)
    assert last > 15
    for instant in range(1, last + 1):
        ground = Ground(tmp_path / str(instant))
        ground.apply()
        assert killed_at(instant, ground.undo)
        left = {path.name for path in ground.state.rglob("*")}
        assert "lock" in left or "record.json" not in left, instant
        ground.undo()
        assert ground.look() == ground.before, instant


def test_failed_step_undoes_all(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.broken = ("member",)
    with refused(SETUP_STEP_FAILED) as caught:
        ground.apply()
    assert caught.value.values["cause"] == "NU-1214"
    assert "member is broken" in (caught.value.detail or "")
    assert ground.look() == ground.before


def test_failed_undo_is_reported_and_resumable(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.apply()
    ground.broken = ("loner",)
    with refused(SETUP_UNDO_FAILED):
        ground.undo()
    assert SetupRecord(ground.machine, ground.state).phase is SetupPhase.UNDOING
    ground.broken = ()
    ground.undo()
    assert ground.look() == ground.before


def test_file_changed_since_is_not_overwritten(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.apply()
    ground.hba.write_text("theirs")
    before = ground.look()
    with refused(SETUP_FILE_CHANGED):
        ground.undo()
    assert ground.look().keys() - before.keys() <= {str(ground.state / "setup/lock")}
    assert ground.hba.read_text() == "theirs"


def test_undo_after_a_manual_adoption_changes_nothing(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.apply()
    journal = ground.state / JOURNAL_FILE
    Journal.create(journal, first_event=("adopted", {})).close()
    with refused(SETUP_IN_USE):
        ground.undo()
    assert ground.is_done()


def test_unwritable_file_is_not_written_by_the_undo(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text(OLD)
    step, written = FileStep(str(file), "new", OLD), file.stat().st_ino
    step.undo(Machine(tmp_path), step.capture(Machine(tmp_path)))
    assert (file.read_text(), file.stat().st_ino) == (OLD, written)


def test_file_changed_after_planning_is_preserved(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    record = SetupRecord(ground.machine, ground.state)
    ground.hba.write_text("theirs")
    with refused(SETUP_STEP_FAILED) as caught:
        record.apply(SilentProgress(), ground.steps())
    assert caught.value.values["cause"] == SETUP_FILE_CHANGED.code
    assert ground.hba.read_text() == "theirs"


def test_previous_files_are_stored_beside_the_record(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.apply()
    kept = ground.state / "setup/01-pg_hba.conf.before"
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == (OLD, 0o600)


def test_concurrent_setup_is_refused(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    early = SetupRecord(ground.machine, ground.state)
    ground.apply()
    with pytest.raises(SiteBusyError):
        early.apply(SilentProgress(), ground.steps())
    with hold_change_lock(ground.state / "setup/lock", "test"), pytest.raises(SiteBusyError):
        ground.undo()
    ground.undo()
    assert ground.look() == ground.before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"phase": "doing", "steps": [{}]}'])
def test_damaged_record_is_refused(tmp_path: Path, content: bytes) -> None:
    ground = Ground(tmp_path)
    ground.apply()
    (ground.state / "setup/record.json").write_bytes(content)
    with refused(SETUP_RECORD_DAMAGED):
        SetupRecord(ground.machine, ground.state)


def test_file_in_place_of_the_state_directory_is_named(tmp_path: Path) -> None:
    """Seen: the Secretariat was to get a record that cannot exist."""
    ground = Ground(tmp_path)
    place = tmp_path / "state"
    place.write_bytes(b"")
    with pytest.raises(UpdaterError) as caught:
        SetupRecord(ground.machine, place)
    assert caught.value.code == SETUP_FILE_UNSAFE.code
    assert caught.value.values["path"] == place


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("schema", "1"),
        ("schema", None),
        ("schema", 0),
        ("phase", "asleep"),
        ("steps", [{"step": {"kind": "reboot"}, "state": None, "before": None}]),
        ("steps", [{"step": {"kind": "command", "of": 1}, "state": None, "before": None}]),
        ("steps", [{"step": {"kind": "", "config": "c", "version": "1"}, "state": None}]),
        ("steps", [{"step": {"kind": "command"}, "state": "begun", "before": None}]),
        ("steps", [{"step": {"kind": "command"}, "state": "ended", "before": {}}]),
        ("steps", [{"step": {"kind": "command"}}]),
        ("steps", 3),
        ("missing", [1]),
        ("by_hand", [{"text": "x"}]),
        ("by_hand", ["x"]),
        ("config", 1),
    ],
)
def test_record_of_another_site_is_refused_and_preserved(
    tmp_path: Path, name: str, value: object
) -> None:
    ground = Ground(tmp_path)
    ground.apply()
    record = ground.state / "setup/record.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), name: value}))
    there = ground.look()
    with refused(SETUP_RECORD_DAMAGED):
        ground.undo()
    assert ground.look() == there


def test_record_of_a_newer_agent_is_refused_and_preserved(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.apply()
    record = ground.state / "setup/record.json"
    record.write_text(json.dumps({"schema": 2, "all else": "is new"}))
    there = ground.look()
    with refused(SETUP_RECORD_NEWER):
        ground.undo()
    assert ground.look() == there


def test_setup_and_undo_are_refused_during_a_change(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.broken = ("member",)
    with refused(SETUP_STEP_FAILED):
        ground.apply()
    ground.broken = ()
    assert killed_at(changes_of(Ground(tmp_path / "counted").apply) // 2, ground.apply)
    journal = ground.state / JOURNAL_FILE
    Journal.create(journal, first_event=("adopted", {})).close()
    there = {path: facts_of(path) for path in (ground.root / "etc").rglob("*")}
    with hold_change_lock(ground.state / CHANGE_LOCK_FILE, "test"):
        for act in (ground.apply, ground.undo):
            with pytest.raises(SiteBusyError):
                act()
    assert {path: facts_of(path) for path in (ground.root / "etc").rglob("*")} == there


@pytest.mark.parametrize("how", ["mode", "name", "link"])
def test_file_controlled_by_others_is_refused(tmp_path: Path, how: str) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    if how == "mode":
        file.chmod(0o666)
    elif how == "name":
        os.link(file, tmp_path / "second")
    else:
        file.rename(tmp_path / "second")
        file.symlink_to("second")
    with refused(SETUP_FILE_UNSAFE):
        FileStep(str(file), "y").read()


def test_secrets_are_masked() -> None:
    shown = FileStep("/x", 'password = "very secret"\n', hidden=["very secret"]).preview()
    assert '+password = "***"' in shown
