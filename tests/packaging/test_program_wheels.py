"""Tests of the two wheels: neither program brings the other, nor the demonstration."""

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
#: What each program has, and what it must not have.
ROOMS = {
    "agent": ({"agent", "feed", "formats", "common", "locale"}, {"publisher"}),
    "publisher": (
        {"publisher", "feed", "formats", "common", "locale"},
        {"agent", "console", "login"},
    ),
}
PROGRAMS = {"agent": "ncen-updater", "publisher": "ncen-publisher"}
#: Imports every command of the program, without the packages that its Debian package leaves out.
COMMANDS = """\
import importlib, sys
for absent in ("setuptools", *sys.argv[3:]):
    sys.modules[absent] = None
sys.path.insert(0, sys.argv[1])
import ncen_updater
assert ncen_updater.__file__.startswith(sys.argv[1]), ncen_updater.__file__
for module, _ in importlib.import_module(sys.argv[2]).COMMANDS.values():
    importlib.import_module(module)
"""
#: What a new agent is tried with.
TRIAL = """\
import sys
sys.modules["setuptools"] = None
sys.path.insert(0, sys.argv[1])
from ncen_updater.agent.self_update.import_check import main
assert main() == 0
"""


def build(program: str, source: Path, place: Path) -> Path:
    subprocess.run(
        [ROOT / "script/wheel", program, sys.executable, source, place],
        check=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH},
    )
    (wheel,) = place.glob("*.whl")
    return wheel


def run(code: str, *words: str) -> None:
    subprocess.run([sys.executable, "-I", "-c", code, *words], check=True)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: build(name, ROOT, tmp_path_factory.mktemp(name)) for name in ROOMS}


@pytest.mark.parametrize("program", ROOMS)
def test_wheel_contains_nothing_of_the_other_program(wheels: dict[str, Path], program: str) -> None:
    with zipfile.ZipFile(wheels[program]) as archive:
        names = archive.namelist()
        scripts = next(name for name in names if name.endswith("/entry_points.txt"))
        programs = configparser.ConfigParser()
        programs.read_string(archive.read(scripts).decode())
    rooms = {name.split("/")[1] for name in names if name.startswith("ncen_updater/")}
    present, absent = ROOMS[program]
    assert present <= rooms
    assert not absent & rooms
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"ncen_updater"}
    assert list(programs["console_scripts"]) == [PROGRAMS[program]]


def test_every_command_is_importable(wheels: dict[str, Path], tmp_path: Path) -> None:
    for program, wheel in wheels.items():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(tmp_path / program)
    run(TRIAL, str(tmp_path / "agent"))
    run(COMMANDS, str(tmp_path / "agent"), "ncen_updater.agent.cli.main")
    run(COMMANDS, str(tmp_path / "publisher"), "ncen_updater.publisher.cli.main", "psycopg")


def test_builds_are_reproducible(wheels: dict[str, Path], tmp_path: Path) -> None:
    """From a checkout elsewhere, whose files have other times and rights."""
    source = tmp_path / "elsewhere"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "ncen_updater"):
        subprocess.run(["cp", "-r", "--no-preserve=all", ROOT / name, source], check=True)
    subprocess.run(["chmod", "-R", "g+w", source], check=True)
    assert build("agent", source, tmp_path / "wheels").read_bytes() == wheels["agent"].read_bytes()
