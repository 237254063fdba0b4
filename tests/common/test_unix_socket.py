"""Connections to a socket in a place: who waits to be taken in is not refused."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from ncen_updater.common.unix_http import connect_unix_socket, shorten_socket_path
from tests.support.forks import DEADLINE_S


@pytest.fixture
def listener(tmp_path: Path) -> socket.socket:
    """A socket at a place that is too long for the kernel, with room for one that waits."""
    made = socket.socket(socket.AF_UNIX)
    place = tmp_path / ("d" * 120) / "it.sock"
    place.parent.mkdir()
    with shorten_socket_path(place) as address:
        made.bind(address)
    made.listen(0)
    made.settimeout(5)
    return made


def place_of(tmp_path: Path) -> Path:
    return tmp_path / ("d" * 120) / "it.sock"


def test_connection_to_a_full_queue_waits(tmp_path: Path, listener: socket.socket) -> None:
    came: list[socket.socket] = []
    with listener, connect_unix_socket(place_of(tmp_path), DEADLINE_S):
        second = threading.Thread(
            target=lambda: came.append(connect_unix_socket(place_of(tmp_path), DEADLINE_S))
        )
        second.start()
        for _ in range(2):
            listener.accept()[0].close()
        second.join()
    assert len(came) == 1
    came[0].close()


def test_waiting_for_a_connection_is_limited(tmp_path: Path, listener: socket.socket) -> None:
    with listener, connect_unix_socket(place_of(tmp_path), DEADLINE_S), pytest.raises(OSError):
        connect_unix_socket(place_of(tmp_path), 0.2)
