"""Tests of the decisions of the machine trial, without a machine."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from benchmarks.machine.box import CACHE, clear_cache
from benchmarks.machine.disk import Recording
from benchmarks.machine.guide import INSTALLATION, commands
from benchmarks.machine.judge import Facts, compare_facts
from benchmarks.machine.probe import LOGGING_IN, READ
from benchmarks.machine.record import choose_instants, find_step_ranges
from benchmarks.machine.restarts import ACTS, Act
from benchmarks.machine.units import (
    COME_IN,
    LAY,
    PERSON,
    UNITS,
    UNREADABLE,
    list_unexpected,
    make_probe_unit,
)
from ncen_updater.agent.model.change import StepName
from tests.support.forks import DEADLINE_S

GUIDE = """\
# A guide

## 1. First

    sudo one
    not typed
    sudo editor /etc/x

words `sudo inline`

### For some

    sudo two

## 2. Second

    [Service]

## Last

    sudo never
"""


def test_section_lists_its_commands() -> None:
    assert commands(GUIDE, 1) == ["sudo one", "sudo editor /etc/x"]


@pytest.mark.parametrize("section", [2, 3])
def test_section_without_commands_is_an_error(section: int) -> None:
    with pytest.raises(LookupError):
        commands(GUIDE, section)


def test_installation_sections_are_in_order() -> None:
    guide = INSTALLATION.read_text("utf-8")
    typed = [line for section in (1, 3, 4, 5, 6) for line in commands(guide, section)]
    order = [
        "sudo apt install", "sudo -u postgres psql", "sudo systemctl reload postgresql",
        "sudo install -m 0644 root.json", "sudo nginx -t", "sudo ncen-updater adopt",
        "sudo systemctl daemon-reload", "sudo ncen-updater doctor",
        "sudo systemctl start ncen-updater",
    ]  # fmt: skip
    places = [next(n for n, line in enumerate(typed) if line.startswith(word)) for word in order]
    assert places == sorted(places)


SOUND = Facts("3.2.4", {"a": "3.2.4", "b": "3.2.4"}, {"a": "one", "b": "two"}, "old", "3.2.4")


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (replace(SOUND, code="3.3.0"), "not one version"),
        (replace(SOUND, marks={"a": "3.2.4", "b": "3.3.0"}), "not one version"),
        (replace(SOUND, reported=None), "not one version"),
        (replace(SOUND, schemas={"a": "one", "b": "other"}), "the schema of b"),
        (replace(SOUND, old="other"), "older cases"),
    ],
)
def test_inconsistent_machine_is_detected(found: Facts, word: str) -> None:
    assert compare_facts(SOUND, {"3.2.4": SOUND}) == []
    assert any(word in line for line in compare_facts(found, {"3.2.4": SOUND}))


def test_power_cuts_are_spread_over_the_steps() -> None:
    found = {"copy": range(10, 60), "commit": range(60, 62)}
    chosen = choose_instants(found, {"copy": 3, "commit": 5}, Random(1))
    assert [step for step, _ in chosen] == ["copy"] * 3 + ["commit"] * 2
    assert all(at - 1 in found[step] for step, at in chosen)
    assert len(set(chosen)) == len(chosen)


def test_steps_are_those_of_the_last_change(tmp_path: Path) -> None:
    def row(change: str, step: str) -> bytes:
        return b'00:00%sstep-intended{"step": "%s"}77' % (change.encode(), step.encode())

    recording = Recording(tmp_path / "recording")
    for data in (
        row("aaaaaaaa", "copy") + row("aaaaaaaa", "commit"),
        row("aaaaaaaa", "commit") + row("bbbbbbbb", "copy"),
        b"anything",
        row("bbbbbbbb", "copy") + row("bbbbbbbb", "commit"),
    ):
        recording.add_write(0, data)
    assert find_step_ranges(recording) == {"copy": range(1, 3), "commit": range(3, 4)}
    recording.close()


UNIT = """\
[Unit]
After=network.target
[Service]
Type=notify
ExecStart=/usr/bin/true
Restart=always
StandardOutput=socket
ProtectSystem=strict
[Install]
WantedBy=multi-user.target
"""


def test_probe_has_every_limit_of_its_unit() -> None:
    lines = make_probe_unit("ncen-updater.service", UNIT).splitlines()
    assert "ProtectSystem=strict" in lines
    assert "Type=oneshot" in lines
    assert not {"Type=notify", "Restart=always", "StandardOutput=socket"} & set(lines)
    assert [line for line in lines if line.startswith("ExecStart=")] == [
        "ExecStart=/opt/ncen-updater/current/bin/python -I /pkg/probe.py"
    ]


def probe_results(unit: str) -> dict[str, Any]:
    allowed = UNITS[unit]
    return {
        "write": {"/etc/systemd/system": "EROFS", **dict.fromkeys(allowed.writes, "yes")},
        "read": {"/root/secret": "ENOENT", **dict.fromkeys(allowed.reads, "yes")},
        "see room": {"/root": "EACCES", **dict.fromkeys(allowed.sees_room, "yes")},
        "socket": {"/run/other": "EACCES", **dict.fromkeys(allowed.sockets, "yes")},
        "connect": {"anywhere": "timed out", **dict.fromkeys(allowed.reaches, "ECONNREFUSED")},
        "do": {"mount": "EPERM", **dict.fromkeys(allowed.does, "yes")},
    }


@pytest.mark.parametrize("unit", UNITS)
def test_unit_with_other_rights_is_detected(unit: str) -> None:
    assert list_unexpected(unit, probe_results(unit)) == []
    more = probe_results(unit)
    for attempts in more.values():
        attempts[next(iter(attempts))] = "yes"
    assert len(list_unexpected(unit, more)) == len(more)
    less = probe_results(unit)
    less["write"]["/var/tmp"] = "EROFS"
    assert len(list_unexpected(unit, less)) == 1
    assert list_unexpected(unit, {"failed": "it does not start"}) != []


def test_only_database_units_see_below_the_data_directories() -> None:
    below = "/var/lib/postgresql"
    sees = {
        unit
        for unit, allowed in UNITS.items()
        if any(place.startswith(below) for place in allowed.reads | allowed.sees_room)
    }
    assert sees == {"ncen-updater-apply@.service", "ncen-updater-resume.service"}
    assert not any(place.startswith(below) for a in UNITS.values() for place in a.writes)


def test_every_path_hidden_from_apply_units_is_probed() -> None:
    unit = INSTALLATION.parents[2] / "packaging/systemd/ncen-updater-apply@.service"
    hidden = [
        word.removeprefix("-")
        for line in unit.read_text("utf-8").splitlines()
        if line.startswith("InaccessiblePaths=")
        for word in line.partition("=")[2].split()
    ]
    assert len(hidden) >= len(LOGGING_IN)
    for place in hidden:
        assert any(file == place or file.startswith(f"{place}/") for file in LOGGING_IN), place
    readers = {unit for unit, allowed in UNITS.items() if allowed.reads & {*LOGGING_IN}}
    assert readers == {"ncen-updater-login@.service"}


def test_missing_or_empty_file_is_provided_or_prevents_the_trial(tmp_path: Path) -> None:
    there, empty, missing = (tmp_path / name for name in ("there", "empty", "deep/missing"))
    there.write_bytes(b"\0 a page of PostgreSQL")
    empty.touch()
    files = [str(file) for file in (there, empty, missing)]

    def asked(script: str) -> list[str]:
        said = subprocess.run(
            ["sh", "-c", script, "sh", *files], stdout=subprocess.PIPE, text=True, check=True
        )
        return said.stdout.split()

    assert asked(UNREADABLE) == files[1:]
    asked(LAY)
    assert asked(UNREADABLE) == []
    assert there.read_bytes() == b"\0 a page of PostgreSQL"
    assert missing.stat().st_mode & 0o077 == 0
    assert {*LOGGING_IN} <= {*READ}


def test_unit_with_wrong_access_after_dropping_rights_is_detected() -> None:
    unit, place = "ncen-updater-resume.service", "/var/lib/postgresql/17/main"
    found = probe_results(unit)
    found["read after giving up"] = {f"{place}/global/1260": "EACCES"}
    found["see room after giving up"] = {place: "yes"}
    assert list_unexpected(unit, found) == []
    found["read after giving up"] = {f"{place}/global/1260": "yes"}
    found["see room after giving up"] = {place: "EACCES"}
    assert len(list_unexpected(unit, found)) == 2


def test_identity_is_verified_as_by_the_console(tmp_path: Path) -> None:
    place = tmp_path / "login.sock"
    with socket.socket(socket.AF_UNIX) as helper:
        helper.bind(str(place))
        helper.listen()
        words = [sys.executable, "-c", COME_IN, json.dumps({"user": PERSON}), str(place)]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as asking:
            line, _ = helper.accept()
            handed, service = socket.socketpair()
            with line, handed, service, line.makefile("rb") as lines:
                assert json.loads(lines.readline()) == {"user": PERSON}
                line.sendall(json.dumps({"name": PERSON}).encode() + b"\n")
                assert json.loads(lines.readline())["address"] == "/v1/status"
                handed.settimeout(40)
                socket.send_fds(line, [b"{}\n"], [handed.fileno()])
                body = json.dumps({"you": {"name": PERSON}}).encode()
                service.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
                service.sendall(body)
                said, _ = asking.communicate(timeout=DEADLINE_S)
    assert json.loads(said) == {"name": PERSON, "answered": 200, "asked as": PERSON}


def test_packages_reinstalled_by_an_act_are_kept(tmp_path: Path) -> None:
    """The machine reaches the feed alone, and no mirror of Debian."""
    cache = tmp_path / CACHE
    cache.mkdir(parents=True)
    server, library = "postgresql-17_17.6-0+deb13u1_amd64.deb", "libpq5_17.6-0+deb13u1_amd64.deb"
    for name in (server, library, "postgresql-client-17_17.6_amd64.deb", "sudo_1.9_amd64.deb"):
        (cache / name).touch()
    clear_cache(tmp_path)
    assert {file.name for file in cache.iterdir()} == {server, library}
    (act,) = (act for act in ACTS if "reinstalled" in act.what)
    typed = next(line for line in act.typed.splitlines() if line.startswith("apt-get"))
    forms = [word.removeprefix(f"/{CACHE}/") for word in typed.split() if word.startswith("/")]
    assert {file.name for form in forms for file in cache.glob(form)} == {server, library}


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.what)
def test_acts_start_in_valid_steps(act: Act) -> None:
    assert StepName(act.step)
    subprocess.run(["sh", "-n", "-c", act.typed], check=True)
