"""Tests of the slots that the package keeps, by the script that dpkg runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ncen_updater.agent.storage.agent_selection import (
    AgentSelection,
    AgentSelectionFile,
    TrialState,
)

ROOT = Path(__file__).resolve().parents[2]
DEBIAN = ROOT / "packaging" / "debian"
SCRIPT = DEBIAN / "postinst"
NOTHING = "#!/bin/sh\nexit 0\n"


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        (TrialState.ON_TRIAL, {"0.1.0", "0.2.0", "0.3.0"}),
        (TrialState.CONFIRMED, {"0.2.0", "0.3.0"}),
    ],
)
def test_proven_agent_is_kept_while_a_newer_one_is_on_trial(
    tmp_path: Path, state: TrialState, kept: set[str]
) -> None:
    """Agent 0.2.0 came over 0.1.0, and now comes 0.3.0. The programs around it are stand-ins."""
    slots = tmp_path / "opt/ncen-updater"
    for place in ("0.1.0", ".kept-0.2.0", "0.3.0"):
        (slots / place / "bin").mkdir(parents=True)
        for name in ("ncen-updater", "python"):
            (slots / place / "bin" / name).write_text(NOTHING)
            (slots / place / "bin" / name).chmod(0o755)
    (slots / "0.1.0/.kept").touch()
    (slots / "failsafe.py").touch()  # as a power cut left it
    (slots / "0.3.0/failsafe.py").write_text("whole")
    AgentSelectionFile(slots).update(lambda _: AgentSelection("0.2.0", "0.1.0", state))
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("systemd-sysusers", "systemd-tmpfiles", "deb-systemd-helper"):
        (programs / name).write_text(NOTHING)
        (programs / name).chmod(0o755)
    text = SCRIPT.read_text("utf-8").replace("@VERSION@", "0.3.0")
    for place in ("/opt/ncen-updater", "/run/systemd/system"):
        assert place in text
        text = text.replace(place, f"{tmp_path}{place}")
    script = tmp_path / "postinst"
    script.write_text(text)
    subprocess.run(
        ["/bin/sh", str(script), "configure", "0.2.0~deb12"],
        check=True,
        env={"PATH": f"{programs}:/usr/bin:/bin"},
    )
    assert (slots / "failsafe.py").read_text() == "whole"
    found = {path.parents[1] for path in slots.glob("*/bin/ncen-updater")}
    assert {place.name for place in found if not place.is_symlink()} == kept
    assert (slots / "current").exists()


def run(root: Path, name: str, *words: str) -> None:
    """Run a script of the package 0.3.0 with its places below a directory."""
    programs = root / "programs"
    programs.mkdir(exist_ok=True)
    for program in ("systemd-sysusers", "systemd-tmpfiles", "deb-systemd-helper"):
        (programs / program).write_text(NOTHING)
        (programs / program).chmod(0o755)
    text = (DEBIAN / name).read_text("utf-8").replace("@VERSION@", "0.3.0")
    for place in ("/opt/ncen-updater", "/run/systemd/system"):
        text = text.replace(place, f"{root}{place}")
    script = root / name
    script.write_text(text)
    words = ("/bin/sh", str(script), *words)
    subprocess.run(words, check=True, env={"PATH": f"{programs}:/usr/bin:/bin"})


def slot(slots: Path, version: str) -> None:
    (slots / version / "bin").mkdir(parents=True)
    for name in ("ncen-updater", "python"):
        (slots / version / "bin" / name).write_text(NOTHING)
        (slots / version / "bin" / name).chmod(0o755)


@pytest.mark.parametrize("end", ["configure", "abort-upgrade"])
def test_old_agent_is_usable_until_the_new_one_is_configured(tmp_path: Path, end: str) -> None:
    """Seen: a question about a file that nobody answered, and no agent meanwhile."""
    slots = tmp_path / "opt/ncen-updater"
    slot(slots, "0.2.0")
    (slots / "failsafe.py").write_text("whole")
    AgentSelectionFile(slots).update(lambda _: AgentSelection("0.2.0"))
    used = slots / "current/bin/ncen-updater"
    for _ in range(2):  # the second after a first that was cut off
        run(tmp_path, "preinst", "upgrade", "0.2.0~deb12")
        assert used.exists()
        if end == "configure":
            shutil.rmtree(slots / "0.2.0")  # as dpkg does, which puts it back where it fails
            slot(slots, "0.3.0")
            assert used.exists()
            break
    run(tmp_path, "postinst", end, "0.2.0~deb12")
    assert used.exists()
    assert (slots / "0.2.0/bin/ncen-updater").exists()
    assert not list(slots.glob(".k*"))
    assert (slots / "current").readlink() == Path("0.2.0")


def test_no_page_tells_to_edit_a_conffile() -> None:
    """An unanswered question leaves the agent unpacked and not configured."""
    asked = (DEBIAN / "conffiles").read_text("utf-8").split()
    pages = [page.read_text("utf-8") for page in (ROOT / "docs").rglob("*.md")]
    assert asked and len(pages) > 20
    assert [path for path in asked if any(path in page for page in pages)] == []


def test_agent_of_another_python_is_removed_with_the_debian_upgrade(tmp_path: Path) -> None:
    """It updated itself beyond the package, and would be chosen again."""
    slots = tmp_path / "opt/ncen-updater"
    words = ["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    here = subprocess.check_output(words, text=True).strip()
    for version, python in {"0.3.0": here, "0.4.0": "3.2", "0.5.0": here}.items():
        slot(slots, version)
        (slots / version / f"lib/python{python}").mkdir(parents=True)
    for version in ("0.4.0", "0.5.0"):
        (slots / version / "slot.json").write_text("{}")
    (slots / "failsafe.py").write_text("whole")
    run(tmp_path, "postinst", "configure", "0.3.0~deb12")
    assert {path.parent.name for path in slots.glob("*/lib")} == {"0.3.0", "0.5.0"}
