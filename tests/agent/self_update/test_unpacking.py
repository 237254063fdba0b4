"""Tests of the rights of a new agent before its trial: while its slot is built and queried."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ncen_updater.agent.self_update.slots import AgentSlots
from ncen_updater.agent.storage.agent_selection import AgentSelection, AgentSelectionFile
from ncen_updater.common import landlock
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import AGENT_RELEASE_UNUSABLE
from ncen_updater.common.progress import SilentProgress
from tests.agent.self_update.factories import agent_release, agent_wheel, wheel
from tests.support.errors import refused
from tests.support.kill_points import killed_at

HOSTILE = """
import pathlib, shutil
agent = pathlib.Path({agent!r})
acts = [
    lambda: (agent / "failsafe.py").write_text("hostile"),
    lambda: (agent / "sequence.json").write_text("hostile"),
    lambda: shutil.rmtree(agent / "1.0"),
    lambda: (agent / "2.0.partial/bin/python").unlink(),
    lambda: (agent / "2.0.partial/lib/later.py").write_text("hostile"),
    lambda: (agent / "9.9").mkdir(),
]
for act in acts:
    try:
        act()
    except OSError:
        pass
print("ncen-updater 2.0")
"""


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    place = tmp_path / "agent"
    (place / "1.0").mkdir(parents=True)
    (place / "1.0/program").write_text("old")
    (place / "failsafe.py").write_text("of the old agent")
    AgentSelectionFile(place).update(lambda _: AgentSelection("1.0"))
    return place


def filling(version: str, content: bytes) -> Callable[[Path], None]:
    def fill(place: Path) -> None:
        for name, data in agent_release(version, content).items():
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_bytes(data)

    return fill


@pytest.mark.skipif(landlock.get_abi_version() < 2, reason="this kernel knows no Landlock")
def test_unconfirmed_agent_writes_nothing(agent: Path) -> None:
    """Seen: one that wrote the failsafe, chose itself, and removed the agent in use."""
    content = agent_wheel("2.0", agent=HOSTILE.format(agent=str(agent)))
    AgentSlots(agent).build("2.0", "digest", filling("2.0", content), SilentProgress())
    assert (agent / "failsafe.py").read_text() == "of the old agent"
    assert AgentSelectionFile(agent).load() == AgentSelection("1.0")
    assert (agent / "1.0/program").read_text() == "old"
    assert not list(agent.rglob("later.py")) and not (agent / "9.9").exists()
    assert (agent / "2.0/bin/python").exists()


def test_agent_whose_libraries_need_temporary_files_is_built(agent: Path) -> None:
    """Seen on a packaged site: no agent was ever renewed, since tufup asks for it when imported."""
    imports = "import tempfile; tempfile.TemporaryFile().close()\n"
    content = agent_wheel("2.0", imports=imports)
    AgentSlots(agent).build("2.0", "digest", filling("2.0", content), SilentProgress())
    assert AgentSlots(agent).is_working("2.0")
    assert not list(agent.glob("*.partial"))


def test_release_may_not_contain_python_startup_files(agent: Path) -> None:
    content = wheel("ncen_updater", "2.0", {"x.pth": "import os; os.system('true')\n"})
    with refused(AGENT_RELEASE_UNUSABLE, match=r"x\.pth"):
        AgentSlots(agent).build("2.0", "digest", filling("2.0", content), SilentProgress())
    assert not (agent / "2.0.partial").exists()


def test_oversized_release_is_refused(agent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "MAX_CONFINED_BYTES", 1_000_000)
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("zeros", b"\0" * 1_000_001)
    with refused(AGENT_RELEASE_UNUSABLE, match=r"more than 1\.0 MB"):
        AgentSlots(agent).build("2.0", "digest", filling("2.0", raw.getvalue()), SilentProgress())


def test_invalid_wheel_is_refused(agent: Path) -> None:
    named = wheel("ncen_updater", "2.0", {"\u00e9.py": ""})
    version = bytearray(named)
    version[named.rindex(b"PK\1\2") + 6] = 99
    for content, reason in (
        (b"PK", "zip"),
        (named.replace("\u00e9".encode(), b"\xff\xff"), "utf-8"),
        (bytes(version), "version 9.9"),
    ):
        with refused(AGENT_RELEASE_UNUSABLE, match=reason):
            AgentSlots(agent).build("2.0", "digest", filling("2.0", content), SilentProgress())


def test_agent_that_warns_is_built(agent: Path) -> None:
    program = (
        'import sys; sys.stderr.write("DeprecationWarning: old\\n"); print("ncen-updater 2.0")\n'
    )
    content = agent_wheel("2.0", agent=program)
    AgentSlots(agent).build("2.0", "digest", filling("2.0", content), SilentProgress())
    assert AgentSlots(agent).is_working("2.0")


def test_slot_symlinks_are_rejected(agent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a symlink whose target another user may write."""

    def installed(_: AgentSlots, partial: Path, *__: object) -> None:
        (partial / "module.py").symlink_to("/tmp/module.py")

    monkeypatch.setattr(AgentSlots, "_install", installed)
    with pytest.raises(UpdaterError, match="points outside"):
        AgentSlots(agent).build("2.0", "d", filling("2.0", agent_wheel("2.0")), SilentProgress())


def test_kill_while_replacing_a_slot_leaves_a_complete_one_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_install", "_take_ownership", "_write_launcher", "_test_slot"):
        monkeypatch.setattr(AgentSlots, name, lambda *_: None)
    monkeypatch.setattr("ncen_updater.agent.self_update.slots.require_release", lambda _: None)

    def build(directory: Path, digest: str) -> None:
        def fill(release: Path) -> None:
            for number in range(4):
                (release.parent / f"{number}").write_text(digest)

        AgentSlots(directory).build("2.0", digest, fill, SilentProgress())

    found = set()
    for instant in range(1, 200):
        directory = tmp_path / str(instant)
        build(directory, "old")
        killed = killed_at(instant, lambda place=directory: build(place, "new"))  # type: ignore[misc]
        slots = AgentSlots(directory)
        assert {*slots.list_versions()} <= {"2.0"}
        contents = {path.read_text() for path in directory.glob("2.0/[0-3]")}
        if slots.list_versions():
            assert contents == {slots.read_source_digest("2.0")}, instant
            assert len([*directory.glob("2.0/[0-3]")]) == 4, instant
        else:
            assert not (directory / "2.0").exists(), instant
        found.add("".join(contents))
        build(directory, "new")
        slots.prune({"2.0"})
        assert [path.name for path in directory.iterdir()] == ["2.0"], instant
        if not killed:
            break
    assert found == {"old", "", "new"}
