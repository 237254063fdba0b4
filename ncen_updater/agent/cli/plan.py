"""``plan``: what an upgrade would do here. Fetches the release; changes nothing that runs."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import get_agent_session, retry_option
from ncen_updater.common.cli.arguments import parse_version
from ncen_updater.common.cli.lazy import CliCommand
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import ExitCode


@click.command("plan", cls=CliCommand, help=N_("Show the upgrade plan without changing anything"))
@click.argument("version", required=False)
@click.option("--sql", is_flag=True, help=N_("Print only the SQL statements, in order"))
@retry_option
@click.option(
    "--prepared",
    is_flag=True,
    hidden=True,
)
@click.pass_context
def plan(
    context: click.Context, version: str | None, sql: bool, retry: bool, prepared: bool
) -> ExitCode:
    session = get_agent_session(context)
    session.wraps_lines = not sql  # which is copied from the screen
    target = parse_version(version)
    if prepared:
        local = session.get_local_site()
        return session.show_result(local.prepare_plan(target, retry=retry, sql=sql, prepared=True))
    return session.show_result(session.get_client().prepare_plan(target, retry=retry, sql=sql))
