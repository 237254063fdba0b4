"""Tests of the owner of a connection, as the kernel reports it."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket

import pytest

from ncen_updater.console import local_console as server
from ncen_updater.console.local_console import (
    FORBIDDEN_RESPONSE,
    find_owner,
    list_allowed_uids,
    serve_on_loopback,
)

#: Another user that every Debian has.
OTHER = "daemon"


def asked_as(user: str | None, port: int) -> bytes:
    """Ask as some user, and return everything that comes back.

    A fork alone: the interpreter of a trial may lie where others cannot read.
    """
    heard, says = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if user is not None:
                os.setgroups([])
                os.setuid(pwd.getpwnam(user).pw_uid)
            line = socket.create_connection(("127.0.0.1", port), 60)
            with line, contextlib.suppress(OSError):
                line.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\nConnection: close\r\n\r\n")
                while part := line.recv(4096):
                    os.write(says, part)
        finally:
            os._exit(0)
    os.close(says)
    with os.fdopen(heard, "rb") as stream:
        found = stream.read()
    os.waitpid(child, 0)
    return found


def test_own_connection_has_an_owner_and_a_closed_one_has_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
        with near:
            assert find_owner(near.getsockname(), near.getpeername()) == os.geteuid()
            there, here = near.getsockname(), near.getpeername()
            far.close()
            assert find_owner(there, here) is None, "listed as root's, and held by nobody"


def test_ipv6_connection_has_an_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.socket(socket.AF_INET6)
        with far:
            try:
                far.connect(("::ffff:127.0.0.1", listener.getsockname()[1]))
            except OSError:
                pytest.skip("this machine has no IPv6")
            near, _ = listener.accept()
            with near:
                assert find_owner(near.getsockname(), near.getpeername()) == os.geteuid()


def test_unknown_connection_has_no_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    assert server.can_find_owner()
    monkeypatch.setattr(server, "_SOCK_DIAG", 31)  # of no family
    assert not server.can_find_owner()
    assert find_owner(("127.0.0.1", 1), ("127.0.0.1", 2)) is None


def test_listener_is_not_a_connection() -> None:
    """The kernel finds who listens at an end where no connection is."""
    with (
        socket.create_server(("127.0.0.1", 0)) as ours,
        socket.create_server(("127.0.0.1", 0)) as far,
    ):
        assert find_owner(ours.getsockname(), far.getsockname()) is None


@pytest.mark.parametrize(
    ("me", "environment", "allowed"),
    [
        (1000, {}, {1000}),
        (1000, {"SUDO_UID": "0"}, {1000}),
        (0, {}, {0}),
        (0, {"SUDO_UID": "1000"}, {0, 1000}),
        (0, {"SUDO_UID": "-1"}, {0}),
    ],
)
def test_allowed_users_are_listed(
    monkeypatch: pytest.MonkeyPatch, me: int, environment: dict[str, str], allowed: set[int]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: me)
    assert list_allowed_uids(environment) == allowed


@pytest.mark.parametrize("whose", ["ours", "another's"])
def test_connection_of_another_user_is_refused(whose: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    pwd.getpwnam(OTHER)
    asked = []

    def application(environ: object, start: object) -> list[bytes]:
        asked.append(environ)
        start("200 OK", [("Content-Length", "2")])  # type: ignore[operator]
        return [b"in"]

    with serve_on_loopback(0, application) as port:
        told = asked_as(OTHER if whose == "another's" else None, port)
    assert (told.endswith(b"in"), len(asked)) == ((True, 1) if whose == "ours" else (False, 0))
    assert whose == "ours" or told in (FORBIDDEN_RESPONSE, b"")
