"""``doctor``: everything that would stand in the way, found before it does."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import get_agent_session
from ncen_updater.common.cli.lazy import CliCommand
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import ExitCode


@click.command(
    "doctor", cls=CliCommand, help=N_("Check the site for problems that block an upgrade")
)
@click.pass_context
def doctor(context: click.Context) -> ExitCode:
    session = get_agent_session(context)
    return session.show_result(session.get_nearest_client().run_doctor())
