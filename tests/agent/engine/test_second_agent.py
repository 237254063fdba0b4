"""Tests of two agents with a journal each on one application: users are never locked out."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from packaging.version import Version

from demo.site import DemoSite
from ncen_updater.agent.adapters.application.maintenance import MaintenanceNote
from ncen_updater.agent.engine.lock import hold_application_lock, hold_change_lock
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import StepName, StepPhase
from ncen_updater.agent.model.errors import ChangeFailedError, SiteBusyError
from ncen_updater.agent.reports.diagnostics.doctor import diagnose
from ncen_updater.common.messages import PREFLIGHT_BLOCKED
from ncen_updater.common.progress import SilentProgress
from tests.agent.engine.site_views import Killed
from tests.support.errors import refused
from tests.support.rotation import either_engine, in_turns

pytestmark = either_engine("demo")

OLD, NEW = Version("3.2.4"), Version("3.3.0")


def second(site: Site, tmp_path: Path) -> Site:
    """Another agent on the same application and databases, with a state directory of its own."""
    state = tmp_path / "second"
    shutil.copytree(site.state_directory, state)
    return dataclasses.replace(site, state_directory=state)


def test_second_agent_is_refused_while_the_first_works(site: Site, tmp_path: Path) -> None:
    other = second(site, tmp_path)
    with (
        Operations(site, SilentProgress()).lock_site("first"),
        pytest.raises(SiteBusyError, match="first"),
        Operations(other, SilentProgress()).lock_site("second"),
    ):
        raise AssertionError("both are at work")


@in_turns("step")
@pytest.mark.parametrize("step", [StepName.STOP, StepName.COPY, StepName.START])
def test_second_agent_does_not_start_while_the_first_is_interrupted(
    demo: DemoSite, site: Site, tmp_path: Path, step: StepName
) -> None:
    """Seen: the second took the first one's maintenance page for an operator's, and left it on."""
    other = second(site, tmp_path)

    def strike(name: StepName, phase: StepPhase) -> None:
        if (name, phase) == (step, StepPhase.AFTER_EFFECT):
            raise Killed

    with pytest.raises(Killed):
        Operations(site, SilentProgress(), checkpoint=strike).upgrade(NEW)
    assert site.application.is_in_maintenance()
    with pytest.raises(Exception) as refused:
        Operations(other, SilentProgress()).upgrade(NEW)
    assert not isinstance(refused.value, ChangeFailedError), "officers were kept out once more"
    Operations(site, SilentProgress()).resume(by_operator=True)
    assert not site.application.is_in_maintenance()
    assert site.slots.read_current() == OLD
    assert Operations(other, SilentProgress()).upgrade(NEW).outcomes[0].change.to_version == str(
        NEW
    )
    assert not site.application.is_in_maintenance()


def test_maintenance_of_an_unknown_change_blocks(demo: DemoSite, site: Site) -> None:
    door = site.config.application.maintenance_file
    door.write_text('{"change": "zzzzzzzz", "since": "2026-01-01"}\n')
    assert site.application.read_maintenance_change() == "zzzzzzzz"
    with refused(PREFLIGHT_BLOCKED) as blocked:
        Operations(site, SilentProgress()).upgrade(NEW)
    assert "NU-6336" in str(blocked.value)
    assert "NU-6336" in {finding.code for finding in diagnose(demo.config_path, SilentProgress())}
    door.write_text(f'{{"reason": "{MaintenanceNote().reason}"}}\n')  # people closed this one
    assert site.application.read_maintenance_change() == ""
    Operations(site, SilentProgress()).upgrade(NEW)
    assert site.application.is_in_maintenance(), "it stays as people wanted it"


def test_application_lock_creates_its_directory(tmp_path: Path) -> None:
    """What lies below /run is gone after each start of the machine."""
    with (
        hold_change_lock(tmp_path / "change.lock", "state"),
        hold_application_lock(tmp_path / "door", "door"),
    ):
        assert (tmp_path / "door.lock").exists()
    with hold_application_lock(tmp_path / "nowhere" / "door", "door"):
        assert (tmp_path / "nowhere" / "door.lock").exists()


def test_unavailable_application_lock_does_not_block_a_resume(tmp_path: Path) -> None:
    """On a full disk a resume has to be possible: a directory in its place stands for that."""
    (tmp_path / "door.lock").mkdir()
    with hold_application_lock(tmp_path / "door", "resume"):
        pass
