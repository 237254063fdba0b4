"""Tests of the refusals before a removal: the script that dpkg runs, over real journals."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ncen_updater.agent.engine.lock import hold_change_lock
from ncen_updater.agent.model.change import Change, ChangeKind, ChangeState, DatabaseMode
from ncen_updater.agent.model.event_names import CHANGE_LOCK_FILE, JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from tests.support.forks import DEADLINE_S

SCRIPT = Path(__file__).resolve().parents[2] / "packaging" / "debian" / "prerm"
SYSTEM_PYTHON = Path("/usr/bin/python3")
pytestmark = pytest.mark.skipif(
    not SYSTEM_PYTHON.exists(), reason="there is no /usr/bin/python3, which the script runs"
)
CHANGE = Change(
    id="abcdefgh", kind=ChangeKind.UPGRADE, mode=DatabaseMode.MIGRATE, state=ChangeState.RUNNING,
    product="ncen", from_version="3.2.4", to_version="3.3.0", generation=1,
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
            ("/etc/systemd/system", root / "etc"),
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

    def enabled(self, *, by_helper: bool = True) -> tuple[list[Path], Path]:
        """Let systemd's links be there, and a stand-in for Debian's helper, which touches none.

        Returns:
            The links, and the calls of the helper.
        """
        root = self.config.parent
        calls, helper = root / "helped", root / "bin/deb-systemd-helper"
        helper.parent.mkdir(exist_ok=True)
        state = 0 if by_helper else 1
        helper.write_text(
            f'#!/bin/sh\nif [ "$2" = was-enabled ]; then exit {state}; fi\necho "$@" >> {calls}\n'
        )
        helper.chmod(0o755)
        links = [
            root / "etc" / place / name
            for place, name in (
                ("multi-user.target.wants", "ncen-updater.service"),
                ("multi-user.target.wants", "ncen-updater-resume.service"),
                ("ncen.service.requires", "ncen-updater-resume.service"),
            )
        ]
        for link in links:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(f"/usr/lib/systemd/system/{link.name}")
        return links, calls

    def ask(self, act: str = "remove") -> subprocess.CompletedProcess[str]:
        path = f"{self.config.parent}/bin:/usr/bin:/bin"
        return subprocess.run(
            ["/bin/sh", str(self._script), act, "0.2.0"], capture_output=True, text=True,
            check=False, timeout=DEADLINE_S, env={"PATH": path},
        )  # fmt: skip

    def open_change(self) -> None:
        with Journal.open(self.state / JOURNAL_FILE) as journal:
            journal.begin_change(CHANGE)


@pytest.fixture
def package(tmp_path: Path) -> Package:
    made = Package(tmp_path)
    made.state.mkdir(parents=True)
    Journal.create(made.state / JOURNAL_FILE).close()
    return made


@pytest.mark.parametrize("act", ["remove", "upgrade", "deconfigure"])
def test_removal_is_refused_while_a_change_is_open(package: Package, act: str) -> None:
    before = package.ask(act)
    assert before.returncode == 0, before.stderr
    package.open_change()
    ended = package.ask(act)
    assert ended.returncode == 1
    assert "a change of the site is open" in ended.stderr


def test_unadopted_site_permits_removal(package: Package) -> None:
    (package.state / JOURNAL_FILE).unlink()
    assert package.ask().returncode == 0
    package.config.unlink()
    assert package.ask().returncode == 0


def test_removal_is_refused_while_an_operation_runs(package: Package) -> None:
    with hold_change_lock(package.state / CHANGE_LOCK_FILE, "test"):
        assert package.ask().returncode == 1
    assert package.ask().returncode == 0


@pytest.mark.parametrize("act", ["remove", "upgrade"])
def test_service_is_stopped_only_where_no_change_is_open(package: Package, act: str) -> None:
    calls = package.with_systemd("")
    assert package.ask(act).returncode == 0
    assert calls.read_text().splitlines()[0] == "stop ncen-updater.service"
    calls.unlink()
    package.open_change()
    assert package.ask(act).returncode == 1
    assert not calls.exists(), "told to end, it would have called the change back"


def there(links: list[Path]) -> list[Path]:
    return [link for link in links if link.is_symlink()]


@pytest.mark.parametrize("by_helper", [True, False])
def test_application_no_longer_requires_removed_units(package: Package, by_helper: bool) -> None:
    """A power cut before 'postrm' would leave it off for good: systemd finds no such unit.

    Without a state Debian's helper enables both again, should the package stay or come back.
    """
    links, calls = package.enabled(by_helper=by_helper)
    assert package.ask("remove").returncode == 0
    assert there(links) == []
    assert calls.read_text().splitlines() == [
        "purge ncen-updater.service", "purge ncen-updater-resume.service",
    ]  # fmt: skip


def test_interrupted_removal_does_not_enable_disabled_units(
    package: Package,
) -> None:
    links, calls = package.enabled(by_helper=False)
    for link in links:
        link.unlink()
    assert package.ask("remove").returncode == 0
    assert not calls.exists()


@pytest.mark.parametrize("act", ["upgrade", "deconfigure"])
def test_package_upgrade_keeps_unit_states(package: Package, act: str) -> None:
    links, calls = package.enabled()
    assert package.ask(act).returncode == 0
    assert there(links) == links
    assert not calls.exists()


def test_refused_removal_keeps_unit_states(package: Package) -> None:
    links, calls = package.enabled()
    package.open_change()
    assert package.ask("remove").returncode == 1
    assert there(links) == links
    assert not calls.exists()


def test_change_started_during_the_removal_is_detected(package: Package, tmp_path: Path) -> None:
    """Between the look and the end of the service."""
    empty, begun = package.state / JOURNAL_FILE, tmp_path / "begun"
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


def test_unreadable_state_blocks_removal_but_not_upgrade(package: Package) -> None:
    (package.state / JOURNAL_FILE).write_bytes(b"no journal" * 1000)
    ended = package.ask()
    assert ended.returncode == 1
    assert "cannot determine" in ended.stderr
    assert package.ask("upgrade").returncode == 0


@pytest.mark.parametrize("text", ["[paths", "[paths]\nroot = 3\n", "paths = 3\n"])
def test_configuration_without_a_journal_path_permits_upgrade(package: Package, text: str) -> None:
    package.open_change()
    package.config.write_text(text)
    ended = package.ask()
    assert ended.returncode == 1
    assert "cannot determine" in ended.stderr
    assert package.ask("upgrade").returncode == 0
