"""``check``: read and verify the signed list, and say whether there is something for this site."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import get_agent_session
from ncen_updater.common.cli.lazy import CliCommand
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import ExitCode


@click.command("check", cls=CliCommand, help=N_("Check the feed for a new release"))
@click.option("--exit-code", is_flag=True, help=N_("Exit with 10 if an upgrade is available"))
@click.pass_context
def check(context: click.Context, exit_code: bool) -> ExitCode:
    session = get_agent_session(context)
    answer = session.get_client().check_feed()
    code = session.show_result(answer)
    available = exit_code and code == ExitCode.OK and answer.document.get("available") is True
    return ExitCode.UPDATE_AVAILABLE if available else code
