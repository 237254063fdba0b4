"""People with accounts of this machine, made for a trial and taken away after it; only root can."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

__all__ = ["expired", "made_users", "require_made_users"]

PROGRAMS = ("useradd", "userdel", "groupadd", "groupdel", "chpasswd")
#: Where these programs are, also for who has no such path.
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def require_made_users() -> None:
    """Skip where nobody can be made, and say why."""
    if os.getuid() != 0:
        pytest.skip("only root can make people, and be them")
    lacks = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if lacks:
        pytest.skip(f"this machine has no {', '.join(lacks)}")


@contextmanager
def made_users(
    people: Mapping[str, str], passwords: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Make people, and the group of each, while the block runs.

    Args:
        people: Name to group; several may have one.
        passwords: Name to password; who has none cannot come in by one.
    """
    require_made_users()
    for name in people:
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        pytest.skip(f"this machine has somebody called {name}")
    groups = sorted(set(people.values()))
    try:
        for group in groups:
            _run("groupadd", "--force", "--system", group)
        for name, group in people.items():
            _run(
                "useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--gid",
                group, "--shell", "/usr/sbin/nologin", name,
            )  # fmt: skip
        for name, password in (passwords or {}).items():
            _run("chpasswd", given=f"{name}:{password}\n")
        yield
    finally:
        for name in people:
            _run("userdel", name, check=False)
        for group in groups:
            _run("groupdel", group, check=False)


@contextmanager
def expired(name: str) -> Iterator[None]:
    """Let an account be one that has expired while the block runs."""
    _run("usermod", "--expiredate", "1", name)
    try:
        yield
    finally:
        _run("usermod", "--expiredate", "", name)


def _run(name: str, *words: str, given: str = "", check: bool = True) -> None:
    program = str(shutil.which(name, path=PATH))
    ended = subprocess.run(
        [program, *words], input=given, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0 or not check, ended.stderr
