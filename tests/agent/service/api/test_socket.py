"""Tests of the socket: its modes, leftovers of a killed service, and a second server."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from ncen_updater.agent.service.api.server import open_listener
from ncen_updater.common.messages import SOCKET_TAKEN, SOCKET_UNUSABLE
from ncen_updater.common.unix_http import connect_unix_socket
from tests.support.errors import refused


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_socket_and_directory_have_their_modes(tmp_path: Path) -> None:
    path = tmp_path / "run" / "api.sock"
    with open_listener(path, os.getegid()):
        assert (mode(path), mode(path.parent)) == (0o660, 0o750)
        assert path.stat().st_gid == os.getegid()
    assert not path.exists()


def test_socket_is_private_without_a_group(tmp_path: Path) -> None:
    path = tmp_path / "run" / "api.sock"
    with open_listener(path, None):
        assert mode(path) == 0o600


def test_leftover_socket_of_a_killed_service_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with open_listener(path, None) as listener, connect_unix_socket(path, 5):
        listener.accept()[0].close()


def test_second_server_is_refused_and_the_first_continues(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with open_listener(path, None) as listener:
        with refused(SOCKET_TAKEN), open_listener(path, None):
            pass
        with connect_unix_socket(path, 5):
            listener.accept()[0].close()


def test_other_file_at_the_socket_path_is_preserved(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    path.write_text("important")
    with refused(SOCKET_UNUSABLE), open_listener(path, None):
        pass
    assert path.read_text() == "important"
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with refused(SOCKET_UNUSABLE), open_listener(path, None):
        pass
    assert path.is_symlink()


@pytest.mark.parametrize("rights", [0o777, 0o775, 0o1777])
def test_socket_directory_writable_by_others_is_refused(tmp_path: Path, rights: int) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    directory.chmod(rights)
    with refused(SOCKET_UNUSABLE), open_listener(directory / "api.sock", None):
        pass
    assert list(directory.iterdir()) == []


def test_socket_path_longer_than_the_kernel_limit_works(tmp_path: Path) -> None:
    path = tmp_path / ("d" * 100) / ("e" * 100) / "api.sock"
    with open_listener(path, None) as listener, connect_unix_socket(path, 5):
        listener.accept()[0].close()
