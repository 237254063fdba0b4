"""What every command needs."""

from __future__ import annotations

from typing import cast

import click

from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.common.cli.characters import clean
from ncen_updater.common.cli.lazy import session_of
from ncen_updater.common.cli.usage import Misuse
from ncen_updater.common.i18n import N_

MAX_REASON = 500


def plain_reason(typed: str, context: click.Context) -> str:
    """Return what was typed after ``--reason`` as one line.

    Raises:
        Misuse: If nothing is left of it.
    """
    reason = clean(typed).replace("\n", " ").strip()[:MAX_REASON]
    if not reason:
        raise Misuse(N_("it is empty"), context, hint="--reason")
    return reason


def agent_session(context: click.Context) -> AgentSession:
    """Return the session of a run of the agent."""
    return cast("AgentSession", session_of(context))
