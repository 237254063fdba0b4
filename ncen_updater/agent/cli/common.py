"""What every command needs."""

from __future__ import annotations

from typing import cast

import click

from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.lazy import get_session
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.i18n import N_

MAX_REASON_CHARS = 500


def parse_reason(typed: str, context: click.Context) -> str:
    """Return what was typed after ``--reason`` as one line.

    Raises:
        CommandUsageError: If nothing is left of it.
    """
    reason = strip_control_characters(typed).replace("\n", " ").strip()[:MAX_REASON_CHARS]
    if not reason:
        raise CommandUsageError(N_("it is empty"), context, hint="--reason")
    return reason


def get_agent_session(context: click.Context) -> AgentSession:
    """Return the session of a run of the agent."""
    return cast("AgentSession", get_session(context))
