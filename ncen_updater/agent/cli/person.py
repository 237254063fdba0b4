"""Identity of the caller of a command, as the operating system knows it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from ncen_updater.agent.model.change import Actor

#: Who logged in, whatever they became since: pam_loginuid(8).
LOGINUID_PATH = Path("/proc/self/loginuid")
#: What stands there where nobody did.
UNSET_UID = 2**32 - 1


def identify_actor(
    uid: int | None = None,
    environment: Mapping[str, str] = os.environ,
    login: Path | None = None,
) -> Actor:
    """Return who gives the order: the person behind sudo, where there is one.

    A user who is root may say anything of themselves here; where two people must approve, let them
    do it through the service, which asks the kernel.

    Args:
        uid: Number of the user; by default that of this process.
        environment: Where sudo says who typed it.
        login: Where the kernel says who logged in.
    """
    uid = os.getuid() if uid is None else uid
    if uid == 0:
        typed = _parse_uid(environment.get("SUDO_UID", ""))
        uid = _read_login_uid(login or LOGINUID_PATH) or typed
        if uid and uid == typed:
            return Actor(environment.get("SUDO_USER") or _find_user_name(uid), uid)
    return Actor(_find_user_name(uid), uid)


def _find_user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _read_login_uid(login: Path) -> int:
    """Return who logged in; 0 where that is not known."""
    try:
        return _parse_uid(login.read_text("ascii").strip())
    except (OSError, ValueError):
        return 0


def _parse_uid(text: str) -> int:
    """Return the number of a user, 0 for what is none."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
    return number if number < UNSET_UID else 0
