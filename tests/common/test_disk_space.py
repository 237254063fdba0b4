"""Tests of telling a path without permission from a disk that is read-only."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ncen_updater.agent.cli.session import explain_access_error
from ncen_updater.common.disk_space import is_read_only_here
from ncen_updater.common.errors import UpdaterError, causes
from ncen_updater.common.messages import OUTSIDE_UNIT, SLOT_NOT_WRITTEN

#: As proc_pid_mountinfo(5) has it: a unit whose disk is closed, but for /opt/ncen, and another disk
#: that the kernel made read-only.
MOUNTS = r"""
22 1 254:1 / / ro,relatime shared:1 - ext4 /dev/vda rw,discard
23 22 254:1 /opt/ncen /opt/ncen rw,relatime shared:2 - ext4 /dev/vda rw
24 22 254:2 / /srv/broken ro,relatime shared:3 - ext4 /dev/vdb ro,errors=remount-ro
25 22 254:1 /x /srv/a\040b rw,relatime - ext4 /dev/vda rw
26 25 254:1 /x /srv/a\040b ro,relatime - ext4 /dev/vda rw
""".lstrip()


@pytest.mark.parametrize(
    ("path", "closed"),
    [
        ("/", True),
        ("/opt/shop/slots/x", True),
        ("/opt/ncen", False),
        ("/opt/ncen/slots/x", False),
        ("/opt/ncenother", True),
        ("/srv/broken/x", False),
        ("/srv/a b/c", True),
        ("/srv/a", True),
    ],
)
def test_paths_closed_by_the_unit_are_recognised(tmp_path: Path, path: str, closed: bool) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS, "utf-8")
    assert is_read_only_here(Path(path), mounts) is closed


@pytest.mark.parametrize("character", ["\r", "\f", "\x85", "\u2028"])
def test_mount_of_any_name_hides_no_other(tmp_path: Path, character: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_bytes(f"9 8 0:5 / /home/a{character}b rw - fuse a rw\n{MOUNTS}".encode())
    assert is_read_only_here(Path("/srv/broken"), mounts) is False
    assert is_read_only_here(Path("/opt"), mounts) is True


def test_process_without_restrictions_finds_no_closed_path(tmp_path: Path) -> None:
    assert not is_read_only_here(tmp_path)


@pytest.mark.parametrize("closed", [True, False])
def test_unit_restriction_is_not_reported_as_a_full_disk(
    monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    monkeypatch.setattr("ncen_updater.agent.cli.session.is_read_only_here", lambda _: closed)
    error = UpdaterError(SLOT_NOT_WRITTEN, version="3.3.0", path="/opt/shop/slots")
    path = "/opt/shop/slots/.3.3.0"
    error.__cause__ = OSError(errno.EROFS, os.strerror(errno.EROFS), path)
    told = explain_access_error(error, Path("/etc/ncen-updater/agent.toml"))
    assert (told is not None and told.code) == (OUTSIDE_UNIT.code if closed else False)
    if told is not None:
        assert path in str(told) and "disk" not in str(told.remedy_text)


def test_cyclic_causes_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__context__ = second, first
    assert causes(first) == [first, second]
