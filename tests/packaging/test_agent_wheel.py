"""Tests of the agent's wheel: nothing of the publisher or the demonstration is in it."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EPOCH = "1767225600"
#: Everything that the new agent is tried with, and every command of its own.
TRIAL = """\
import importlib, sys
sys.modules["setuptools"] = None  # no site has it
sys.path.insert(0, sys.argv[1])
import ncen_updater
assert ncen_updater.__file__.startswith(sys.argv[1]), ncen_updater.__file__
from ncen_updater.agent.self_update.import_check import main
assert main() == 0
from ncen_updater.agent.cli.main import COMMANDS
for module, _ in COMMANDS.values():
    importlib.import_module(module)
"""


def build(source: Path, place: Path) -> Path:
    subprocess.run(
        [ROOT / "script/agent-wheel", sys.executable, source, place],
        check=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH},
    )
    (wheel,) = place.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


def test_nothing_of_the_publisher_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        scripts = next(name for name in names if name.endswith("/entry_points.txt"))
        programs = configparser.ConfigParser()
        programs.read_string(archive.read(scripts).decode())
    rooms = {name.split("/")[1] for name in names if name.startswith("ncen_updater/")}
    assert {"agent", "feed", "formats", "common", "locale"} <= rooms
    assert "publisher" not in rooms
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"ncen_updater"}
    assert list(programs["console_scripts"]) == ["ncen-updater"]


def test_everything_the_agent_needs_is_in_it(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    subprocess.run([sys.executable, "-I", "-c", TRIAL, str(tmp_path)], check=True)


def test_two_builds_give_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    """From a checkout elsewhere, whose files have other times and rights."""
    source = tmp_path / "elsewhere"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "ncen_updater"):
        subprocess.run(["cp", "-r", "--no-preserve=all", ROOT / name, source], check=True)
    subprocess.run(["chmod", "-R", "g+w", source], check=True)
    assert build(source, tmp_path / "wheels").read_bytes() == wheel.read_bytes()
