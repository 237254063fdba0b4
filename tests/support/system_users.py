"""Accounts of this machine, created for a test and removed afterwards; requires root."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

#: Prefix of the names of test accounts.
OURS = "nu-"
PROGRAMS = ("useradd", "userdel", "groupadd", "groupdel", "chpasswd")
#: Includes the directories of these programs, which may not be in PATH.
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def require_user_creation() -> None:
    """Skip the test, with the reason, if accounts cannot be created."""
    if os.getuid() != 0:
        pytest.skip("only root can make people, and be them")
    lacks = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if lacks:
        pytest.skip(f"this machine has no {', '.join(lacks)}")


@contextmanager
def create_users(
    people: Mapping[str, str], passwords: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Create users, each with a group, during a block; wait while another test uses the same names.

    An existing account of that name was left by a killed run and is removed first.

    Args:
        people: Maps user to group; several users may share one.
        passwords: Maps user to password; the others cannot log in by password.
    """
    require_user_creation()
    groups = sorted(set(people.values()))
    with ExitStack() as locks:
        for name in sorted(people):
            assert name.startswith(OURS), name
            lock = locks.enter_context(Path("/run", f"{name}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        _remove(people, groups)
        try:
            _make(people, groups, passwords or {})
            yield
        finally:
            _remove(people, groups)


def _make(people: Mapping[str, str], groups: Sequence[str], passwords: Mapping[str, str]) -> None:
    for group in groups:
        _run("groupadd", "--force", "--system", group)
    for name, group in people.items():
        _run(
            "useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--gid", group,
            "--shell", "/usr/sbin/nologin", name,
        )  # fmt: skip
    for name, password in passwords.items():
        _run("chpasswd", given=f"{name}:{password}\n")


def _remove(people: Mapping[str, str], groups: Sequence[str]) -> None:
    for name in people:
        _run("userdel", name, check=False)
    for group in groups:
        _run("groupdel", group, check=False)


@contextmanager
def expired(name: str) -> Iterator[None]:
    """Make an account expired during a block."""
    _run("usermod", "--expiredate", "1", name)
    try:
        yield
    finally:
        _run("usermod", "--expiredate", "", name)


@contextmanager
def without_password(name: str) -> Iterator[None]:
    """Give an account an empty password during a block; this differs from a locked account."""
    kept = Path("/etc/shadow").read_text("utf-8")
    (secret,) = (line.split(":")[1] for line in kept.splitlines() if line.startswith(f"{name}:"))
    _run("usermod", "--password", "", name)
    try:
        yield
    finally:
        _run("usermod", "--password", secret, name)


def _run(name: str, *words: str, given: str = "", check: bool = True) -> None:
    program = str(shutil.which(name, path=PATH))
    ended = subprocess.run(
        [program, *words], input=given, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0 or not check, ended.stderr
