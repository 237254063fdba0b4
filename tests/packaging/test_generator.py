"""Tests of the systemd generator: the units may write to the paths that agent.toml names."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ncen_updater.agent.config.essential_settings import DEFAULT_PATHS
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.config.validation_cache import VALID
from tests.packaging.test_units import PACKAGING, find_systemd_analyze

GENERATOR = PACKAGING / "systemd/ncen-updater-generator"
APPLY, RESUME = "ncen-updater-apply@.service", "ncen-updater-resume.service"
SERVICE, FETCH = "ncen-updater.service", "ncen-updater-fetch@.service"
RENEW = "ncen-updater-renew@.service"
CONFIG = """\
schema = 1
[site]
id = "shop-1"
country = "KE"
[feed]
offline = true
[databases]
engine = "sqlite"
[databases.names]
main = "shop"
[databases.sqlite]
directory = "srv/shop/databases"
[paths]
state = "srv/agent/state"
feed_state = "srv/agent/received"
slots = "opt/shop/slots"
current = "opt/shop/chosen/current"
[[files]]
name = "photographs"
directory = "srv/photos/of shop"
[overlay]
directory = "srv/shop/country"
merged = "srv/merged/overlay"
[application]
unit = "shop.service"
health_url = "http://127.0.0.1:1"
maintenance_file = "/run/shop/deep 100%/closed"
[metrics]
file = "srv/metrics/shop.prom"
"""


def generated(place: Path, *texts: str) -> dict[str, list[str]]:
    """Run it on these files; lines of each addition."""
    files = [place / f"{number}.toml" for number, _ in enumerate(texts)]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text, "utf-8")
    out = place / "out"
    words = [sys.executable, "-I", str(GENERATOR), *[str(out)] * 3, *map(str, files)]
    subprocess.run(words, check=True, capture_output=True)
    return {
        path.parent.name.removesuffix(".d"): path.read_text("utf-8").splitlines()
        for path in out.glob("*/*.conf")
    }


def opened(lines: list[str]) -> set[str]:
    words = {line.partition("=")[2] for line in lines if line.startswith("ReadWritePaths=")}
    return {word.strip('"').lstrip("-").replace("%%", "%") for word in words}


def test_units_may_write_all_paths_of_the_agent(tmp_path: Path) -> None:
    found = generated(tmp_path, CONFIG)
    config = load_config(tmp_path / "0.toml", check_disk=False)
    wanted = {str(place) for place in config.list_written_directories()}
    assert len(wanted) == 7
    for unit in (APPLY, RESUME):
        assert opened(found[unit]) == {*wanted, "/srv/agent/received"}
    assert opened(found[SERVICE]) == {"/srv/agent/state", "/srv/metrics"}
    assert opened(found[FETCH]) == {"/srv/agent/received"}
    for unit in found:
        below = {line for line in found[unit] if "/srv/agent/state/checked" in line}
        kept = {
            'ReadOnlyPaths="-/srv/agent/state/checked"',
            *made("/srv/agent/state/checked", " -m 0700"),
        }
        assert below == (kept if unit in (SERVICE, RENEW) else set()), unit


def test_every_path_of_the_example_is_writable(tmp_path: Path) -> None:
    example = (PACKAGING / "agent.toml.example").read_text("utf-8")
    found = ["[Service]", 'ReadWritePaths="-/run/ncen"', *made("/run/ncen")]
    assert generated(tmp_path, example) == {APPLY: found, RESUME: found}


def made(place: str, mode: str = "") -> list[str]:
    return [f'ExecStartPre=+/bin/sh -c "umask 022; mkdir -p{mode} \\"$$0\\"" "{place}"']


def test_directory_below_run_is_created_before_the_unit_starts(tmp_path: Path) -> None:
    for unit in (APPLY, RESUME):
        assert made("/run/shop/deep 100%%")[0] in generated(tmp_path, CONFIG)[unit]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("opt/shop/slots", "/"),
        ("opt/shop/slots", "/etc"),
        ("opt/shop/slots", "../../etc"),
        ("opt/shop/slots", "a\\nb"),
        ('"opt/shop/slots"', "7"),
        ("[[files]]", "[files]"),
        ("opt/shop/chosen/current", "current"),
    ],
)
def test_implausible_paths_are_not_made_writable(tmp_path: Path, old: str, new: str) -> None:
    found = generated(tmp_path, CONFIG.replace(old, new))
    places = {Path(place) for place in opened(found[APPLY])}
    assert not places & {Path(name) for name in ("/", "/etc", "/run", "/usr")}
    assert all("\n" not in str(place) and ".." not in place.parts for place in places)


@pytest.mark.parametrize("broken", ["", "[paths\n", "paths = 3\n", "\x00", CONFIG])
def test_paths_of_the_last_valid_configuration_stay_writable(tmp_path: Path, broken: str) -> None:
    whole = generated(tmp_path, CONFIG)
    for unit in (APPLY, RESUME):
        assert generated(tmp_path, broken, CONFIG)[unit] == whole[unit]


def test_last_valid_configuration_adds_nothing_to_the_service(tmp_path: Path) -> None:
    example = (PACKAGING / "agent.toml.example").read_text("utf-8")
    assert set(generated(tmp_path, example, CONFIG)) == {APPLY, RESUME}


def test_generator_knows_the_path_of_the_valid_configuration() -> None:
    assert f'VALID = "/{DEFAULT_PATHS["state"]}/{VALID}"' in GENERATOR.read_text("utf-8")


def test_package_contains_the_generator() -> None:
    assert os.access(GENERATOR, os.X_OK)
    assert "system-generators/ncen-updater-generator" in Path("script/debian").read_text("utf-8")
    assert tomllib.loads(CONFIG)["schema"] == 1


@pytest.mark.parametrize("unit", [APPLY, RESUME, SERVICE, FETCH, RENEW])
def test_systemd_accepts_every_drop_in(tmp_path: Path, unit: str) -> None:
    generated(tmp_path, CONFIG)
    for path in (PACKAGING / "systemd").glob("*.[s]*"):
        text = path.read_text("utf-8")
        lines = [
            f"{line.partition('=')[0]}=/bin/true" if line.startswith("ExecStart=") else line
            for line in text.splitlines()
        ]
        (tmp_path / "out" / path.name).write_text("\n".join(lines) + "\n", "utf-8")
    name = unit.replace("@.", "@x.")
    ended = subprocess.run(
        [find_systemd_analyze(), "verify", "--man=no", str(tmp_path / "out" / name)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning",
             "SYSTEMD_UNIT_PATH": f"{tmp_path / 'out'}:"},
    )  # fmt: skip
    assert not [line for line in ended.stderr.splitlines() if "50-site" in line or "shop" in line]
