"""Options and helpers of every command."""

from __future__ import annotations

from typing import cast

import click

from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.lazy import get_session
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
    "--accept-loss", type=click.IntRange(min=0), metavar="N",
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
