"""Two agents with a journal each on one application: none of them leaves officers out."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from packaging.version import Version

from demo.site import DemoSite
from ncen_updater.agent.adapters.application.door import DoorNote
from ncen_updater.agent.engine.lock import change_lock, door_lock
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import Phase, StepName
from ncen_updater.agent.model.errors import Busy, ChangeFailed
from ncen_updater.agent.reports.diagnostics.doctor import diagnose
from ncen_updater.common.messages import GUARD_BLOCKS
from ncen_updater.common.progress import Silent
from tests.agent.engine.looks import Killed
from tests.support.errors import refused
from tests.support.rotation import either_engine, in_turns

pytestmark = either_engine("demo")

OLD, NEW = Version("3.2.4"), Version("3.3.0")


def second(site: Site, tmp_path: Path) -> Site:
    """Another agent on the same application and databases, with a state directory of its own."""
    state = tmp_path / "second"
    shutil.copytree(site.state, state)
    return dataclasses.replace(site, state=state)


def test_the_second_is_refused_while_the_first_is_at_work(site: Site, tmp_path: Path) -> None:
    other = second(site, tmp_path)
    with (
        Operations(site, Silent()).alone("first"),
        pytest.raises(Busy, match="first"),
        Operations(other, Silent()).alone("second"),
    ):
        raise AssertionError("both are at work")


@in_turns("step")
@pytest.mark.parametrize("step", [StepName.STOP, StepName.COPY, StepName.START])
def test_the_second_does_not_begin_while_the_first_is_torn(
    demo: DemoSite, site: Site, tmp_path: Path, step: StepName
) -> None:
    """Seen: the second took the first one's closed door for one that people closed, and left it."""
    other = second(site, tmp_path)

    def strike(name: StepName, phase: Phase) -> None:
        if (name, phase) == (step, Phase.AFTER_EFFECT):
            raise Killed

    with pytest.raises(Killed):
        Operations(site, Silent(), checkpoint=strike).upgrade(NEW)
    assert site.application.door_closed()
    with pytest.raises(Exception) as refused:
        Operations(other, Silent()).upgrade(NEW)
    assert not isinstance(refused.value, ChangeFailed), "officers were kept out once more"
    Operations(site, Silent()).resume(by_person=True)
    assert not site.application.door_closed()
    assert site.slots.current() == OLD
    assert Operations(other, Silent()).upgrade(NEW).outcomes[0].change.to_version == str(NEW)
    assert not site.application.door_closed()


def test_a_door_that_an_unknown_change_closed_blocks(demo: DemoSite, site: Site) -> None:
    door = site.config.application.door_file
    door.write_text('{"change": "zzzzzzzz", "since": "2026-01-01"}\n')
    assert site.application.closed_by() == "zzzzzzzz"
    with refused(GUARD_BLOCKS) as blocked:
        Operations(site, Silent()).upgrade(NEW)
    assert "NU-6336" in str(blocked.value)
    assert "NU-6336" in {finding.code for finding in diagnose(demo.config_path, Silent())}
    door.write_text(f'{{"reason": "{DoorNote().reason}"}}\n')  # people closed this one
    assert site.application.closed_by() == ""
    Operations(site, Silent()).upgrade(NEW)
    assert site.application.door_closed(), "it stays as people wanted it"


def test_the_lock_beside_the_door_makes_its_directory(tmp_path: Path) -> None:
    """What lies below /run is gone after each start of the machine."""
    with change_lock(tmp_path / "change.lock", "state"), door_lock(tmp_path / "door", "door"):
        assert (tmp_path / "door.lock").exists()
    with door_lock(tmp_path / "nowhere" / "door", "door"):
        assert (tmp_path / "nowhere" / "door.lock").exists()


def test_a_lock_that_cannot_be_made_keeps_nobody_out(tmp_path: Path) -> None:
    """On a full disk a resume has to be possible: a directory in its place stands for that."""
    (tmp_path / "door.lock").mkdir()
    with door_lock(tmp_path / "door", "resume"):
        pass
