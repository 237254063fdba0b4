"""Tests of ``doctor`` where a configured group lacks access to its files."""

from __future__ import annotations

import grp
import os
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.reports.diagnostics.access_checks import (
    check_group_access,
    is_accessible_to_group,
)
from ncen_updater.common.findings import Finding
from tests.agent.cli.site import make_site

OURS, OTHERS = 7, 9
MINE = os.getegid()
NOBODYS = 4_000_000
HEAD = struct.pack("<I", 2)


def listed(*entries: tuple[int, int, int]) -> bytes:
    return HEAD + b"".join(struct.pack("<HHI", *entry) for entry in entries)


OWNER, OTHER = (0x01, 7, 0xFFFFFFFF), (0x20, 0, 0xFFFFFFFF)


def of_its_group(given: int) -> tuple[int, int, int]:
    return (0x04, given, 0xFFFFFFFF)


def of_ours(given: int) -> tuple[int, int, int]:
    return (0x08, given, OURS)


def mask(given: int) -> tuple[int, int, int]:
    return (0x10, given, 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("mode", "its_group", "access_list", "rights", "may"),
    [
        (0o1770, OURS, None, "rwx", True),
        (0o1770, OTHERS, None, "rwx", False),
        (0o1750, OURS, None, "rwx", False),
        (0o640, OURS, None, "r", True),
        (0o600, OURS, None, "r", False),
        (0o644, OTHERS, None, "r", True),
        (0o604, OURS, None, "r", False),  # the first that fits counts, and gives less
        (0o1770, OTHERS, listed(OWNER, of_its_group(7), of_ours(7), mask(7), OTHER), "rwx", True),
        (0o1770, OTHERS, listed(OWNER, of_its_group(7), of_ours(5), mask(7), OTHER), "rwx", False),
        (0o1750, OTHERS, listed(OWNER, of_its_group(7), of_ours(7), mask(5), OTHER), "rwx", False),
        # The bits of the mode are the mask, and not what its group has.
        (0o640, OURS, listed(OWNER, of_its_group(0), mask(4), OTHER), "r", False),
        (0o640, OURS, listed(OWNER, of_its_group(0), of_ours(4), mask(4), OTHER), "r", True),
    ],
)
def test_group_access_is_judged(
    mode: int, its_group: int, access_list: bytes | None, rights: str, may: bool
) -> None:
    assert is_accessible_to_group(mode, its_group, access_list, OURS, rights) is may


def site(tmp_path: Path, runner: str) -> Path:
    """A site with everything that is opened to a group, as the package opens it to mine."""
    config = make_site(tmp_path).config
    text = config.read_text("utf-8").replace("[paths]", '[paths]\nfeed_state = "received"')
    config.write_text(f'{text}\n[service]\nrunner = "{runner}"\n', "utf-8")
    config.chmod(0o640)
    loaded = load_config(config)
    socket = loaded.paths.resolve(loaded.service.api_socket)
    socket.parent.mkdir(parents=True)
    socket.touch()
    socket.chmod(0o660)
    inbox = loaded.paths.resolve(loaded.paths.state) / "inbox"
    inbox.mkdir(parents=True)
    inbox.chmod(0o1770)
    return config


def found(config: Path, numbers: Mapping[str, int | None]) -> list[Finding]:
    return list(
        check_group_access(load_config(config), config, lambda name: numbers.get(name, MINE))
    )


def commands(finding: Finding) -> str:
    return finding.remedy.render("en")


def test_packaged_groups_have_no_finding(tmp_path: Path) -> None:
    assert found(site(tmp_path, "systemd"), {}) == []


def test_operate_group_without_the_import_directory_is_reported(tmp_path: Path) -> None:
    config = site(tmp_path, "process")
    (finding,) = found(config, {"ncen-operator": NOBODYS})
    inbox = finding.figures["path"]
    assert (finding.code, finding.figures["group"]) == ("NU-6141", "ncen-operator")
    said = finding.title.render("en")
    assert f"cannot write to import directory {inbox}" in said and "mode 1770" in said
    assert grp.getgrgid(MINE).gr_name in said
    command = f"sudo chgrp ncen-operator {inbox} && sudo chmod g+rwx {inbox}"
    assert commands(finding) == f"Run: {command}"
    assert "ncen-operator" in finding.title.render("fr") != said


def test_read_group_without_access_is_reported(tmp_path: Path) -> None:
    config = site(tmp_path, "systemd")
    read, reached = found(config, {"ncen-updater": NOBODYS})
    assert (read.code, reached.code) == ("NU-6139", "NU-6140")
    assert commands(read) == f"Run: sudo chgrp ncen-updater {config} && sudo chmod g+r {config}"
    assert "sudo systemctl restart ncen-updater.service" in commands(reached)


def test_proposed_command_is_sufficient(tmp_path: Path) -> None:
    config = site(tmp_path, "systemd")
    config.chmod(0o600)
    (finding,) = found(config, {})
    assert finding.figures["rights"] == "r"
    config.chmod(0o640)
    assert found(config, {}) == []


def test_unknown_group_is_reported(tmp_path: Path) -> None:
    config = site(tmp_path, "systemd")
    unknown = found(config, {"ncen-operator": None, "ncen-approver": None})
    assert [(one.code, one.figures["setting"]) for one in unknown] == [
        ("NU-6138", "operator_group"), ("NU-6138", "approver_group"),
    ]  # fmt: skip
    assert "run: sudo groupadd --system ncen-operator && " in commands(unknown[0])


def test_group_without_members_has_no_finding(tmp_path: Path) -> None:
    config = site(tmp_path, "process")
    loaded = load_config(config)
    (loaded.paths.resolve(loaded.paths.state) / "inbox").rmdir()
    nobody = dict.fromkeys(("ncen-updater", "ncen-operator", "ncen-approver"))
    assert found(config, nobody) == []
