"""What the package asks before it goes: the script that dpkg runs, over real journals."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ncen_updater.agent.engine.lock import change_lock
from ncen_updater.agent.journal.change import Change, ChangeKind, ChangeState, Mode
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.names import JOURNAL, LOCK
from tests.support.forks import DEADLINE_S

SCRIPT = Path(__file__).resolve().parents[2] / "packaging" / "debian" / "prerm"
SYSTEM_PYTHON = Path("/usr/bin/python3")
pytestmark = pytest.mark.skipif(
    not SYSTEM_PYTHON.exists(), reason="there is no /usr/bin/python3, which the script runs"
)
CHANGE = Change(
    id="abcdefgh", kind=ChangeKind.UPGRADE, mode=Mode.MIGRATE, state=ChangeState.RUNNING,
    product="ncen", from_version="3.2.4", to_version="3.3.0", strategy="copy", generation=1,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)  # fmt: skip


class Package:
    """The script with this machine's places exchanged, and the site that it looks at."""

    def __init__(self, root: Path) -> None:
        self.state = root / "srv/elsewhere"
        self.config = root / "agent.toml"
        self.config.write_text(f'[paths]\nroot = "{root}"\nstate = "srv/elsewhere"\n')
        text = SCRIPT.read_text("utf-8")
        for place, other in (
            ("/etc/ncen-updater/agent.toml", self.config),
            ("/run/systemd/system", root / "systemd"),
        ):
            assert place in text
            text = text.replace(place, str(other))
        self._script = root / "prerm"
        self._script.write_text(text)

    def with_systemd(self, at_stop: str) -> Path:
        """Let a stand-in for its program do something and write down how it was called."""
        (self.config.parent / "systemd").mkdir()
        calls = self.config.parent / "calls"
        program = self.config.parent / "bin/deb-systemd-invoke"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n{at_stop}\n')
        program.chmod(0o755)
        return calls

    def ask(self, act: str = "remove") -> subprocess.CompletedProcess[str]:
        path = f"{self.config.parent}/bin:/usr/bin:/bin"
        return subprocess.run(
            ["/bin/sh", str(self._script), act, "0.2.0"], capture_output=True, text=True,
            check=False, timeout=DEADLINE_S, env={"PATH": path},
        )  # fmt: skip

    def open_change(self) -> None:
        with Journal.open(self.state / JOURNAL) as journal:
            journal.begin(CHANGE)


@pytest.fixture
def package(tmp_path: Path) -> Package:
    made = Package(tmp_path)
    made.state.mkdir(parents=True)
    Journal.create(made.state / JOURNAL).close()
    return made


@pytest.mark.parametrize("act", ["remove", "upgrade", "deconfigure"])
def test_it_goes_where_nothing_is_open_and_stays_where_something_is(
    package: Package, act: str
) -> None:
    before = package.ask(act)
    assert before.returncode == 0, before.stderr
    package.open_change()
    ended = package.ask(act)
    assert ended.returncode == 1
    assert "a change of the site is open" in ended.stderr


def test_a_site_that_was_never_taken_over(package: Package) -> None:
    (package.state / JOURNAL).unlink()
    assert package.ask().returncode == 0
    package.config.unlink()
    assert package.ask().returncode == 0


def test_somebody_at_work(package: Package) -> None:
    with change_lock(package.state / LOCK, "test"):
        assert package.ask().returncode == 1
    assert package.ask().returncode == 0


@pytest.mark.parametrize("act", ["remove", "upgrade"])
def test_the_service_is_stopped_where_nothing_is_open(package: Package, act: str) -> None:
    calls = package.with_systemd("")
    assert package.ask(act).returncode == 0
    assert calls.read_text().splitlines()[0] == "stop ncen-updater.service"
    calls.unlink()
    package.open_change()
    assert package.ask(act).returncode == 1
    assert not calls.exists(), "told to end, it would have called the change back"


def test_a_change_that_begins_just_then(package: Package, tmp_path: Path) -> None:
    """Between the look and the end of the service."""
    empty, begun = package.state / JOURNAL, tmp_path / "begun"
    content = empty.read_bytes()
    package.open_change()
    shutil.copytree(package.state, begun)
    for left in package.state.iterdir():
        left.unlink()
    empty.write_bytes(content)
    package.with_systemd(f"cp {begun}/* {package.state}/")
    ended = package.ask("upgrade")
    assert ended.returncode == 1
    assert "is open" in ended.stderr


def test_what_cannot_be_told_keeps_the_agent_but_not_from_being_mended(package: Package) -> None:
    (package.state / JOURNAL).write_bytes(b"no journal" * 1000)
    ended = package.ask()
    assert ended.returncode == 1
    assert "cannot be told" in ended.stderr
    assert package.ask("upgrade").returncode == 0


@pytest.mark.parametrize("text", ["[paths", "[paths]\nroot = 3\n", "paths = 3\n"])
def test_a_configuration_that_does_not_say_where_the_journal_is(
    package: Package, text: str
) -> None:
    package.open_change()
    package.config.write_text(text)
    ended = package.ask()
    assert ended.returncode == 1
    assert "cannot be told" in ended.stderr
    assert package.ask("upgrade").returncode == 0
