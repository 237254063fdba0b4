"""What every command needs."""

from __future__ import annotations

from typing import cast

import click

from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.common.cli.lazy import session_of


def agent_session(context: click.Context) -> AgentSession:
    """Return the session of a run of the agent."""
    return cast("AgentSession", session_of(context))
