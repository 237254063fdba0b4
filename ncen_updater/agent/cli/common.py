"""Options and helpers of every command."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import click

from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.model.change import Actor
from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.lazy import IntegerRange, get_session
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.i18n import N_

MAX_REASON_CHARS = 500
#: Options that mean the same for every command.
dry_run_option = click.option(
    "--dry-run", is_flag=True, help=N_("Show what would be done, without changing anything")
)
yes_option = click.option("--yes", is_flag=True, help=N_("Skip the confirmation prompt"))
retry_option = click.option("--retry", is_flag=True, help=N_("Retry releases marked bad"))
accept_loss_option = click.option(
    "--accept-loss", type=IntegerRange(min=0), metavar="N",
    help=N_("Accept the loss of N records"),
)  # fmt: skip


def parse_reason(typed: str, context: click.Context) -> str:
    """Return what was typed after ``--reason`` as one line.

    Raises:
        CommandUsageError: If nothing is left of it.
    """
    reason = strip_control_characters(typed).replace("\n", " ").strip()[:MAX_REASON_CHARS]
    if not reason:
        raise CommandUsageError(N_("empty value"), context, hint="--reason")
    return reason


def get_agent_session(context: click.Context) -> AgentSession:
    """Return the session of a run of the agent."""
    return cast("AgentSession", get_session(context))


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
