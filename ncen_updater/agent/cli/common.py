"""Options and helpers of several commands."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

import click

from ncen_updater.agent.model.change import Actor
from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.lazy import CliCommand, IntegerRange, define_command
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.i18n import N_

MAX_REASON_CHARS = 500
#: Defines a command of the agent.
agent_command = define_command(CliCommand)
#: Options with the same meaning in every command.
dry_run_option = click.option(
    "--dry-run", is_flag=True, help=N_("Show what would be done, without changing anything")
)
yes_option = click.option("--yes", is_flag=True, help=N_("Skip the confirmation prompt"))
retry_option = click.option("--retry", is_flag=True, help=N_("Retry releases marked bad"))
accept_loss_option = click.option(
    "--accept-loss", type=IntegerRange(min=0), metavar="N",
    help=N_("Accept the loss of N records"),
)  # fmt: skip


def parse_reason(typed: str) -> str:
    """Return the value of ``--reason`` as one line.

    Raises:
        CommandUsageError: If it is empty.
    """
    # Bytes that are no characters, from a terminal with another encoding, cannot be stored.
    typed = typed.encode("utf-8", "replace").decode()
    reason = strip_control_characters(typed).replace("\n", " ").strip()[:MAX_REASON_CHARS]
    if not reason:
        raise CommandUsageError(N_("empty value"), hint="--reason")
    return reason


#: UID of the user who logged in, unaffected by su and sudo: pam_loginuid(8).
LOGINUID_PATH = Path("/proc/self/loginuid")
#: Value of that file without a login.
UNSET_UID = 2**32 - 1


def identify_actor(
    uid: int | None = None,
    environment: Mapping[str, str] = os.environ,
    login: Path | None = None,
) -> Actor:
    """Return the user who runs the command: behind sudo, the user who logged in.

    Root can forge this information. If two approvals are required, they must be given through the
    service, which gets the UID from the kernel.

    Args:
        uid: UID; by default that of this process.
        environment: Environment with the variables of sudo.
        login: Path of the file with the login UID.
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
    """Return the login UID; 0 if unknown."""
    try:
        return _parse_uid(login.read_text("ascii").strip())
    except (OSError, ValueError):
        return 0


def _parse_uid(text: str) -> int:
    """Return a UID; 0 for invalid text."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
    return number if number < UNSET_UID else 0
