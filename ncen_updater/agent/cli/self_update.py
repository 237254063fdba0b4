"""``self-update``: renew the agent itself from the feed."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import dry_run_option, get_agent_session, retry_option
from ncen_updater.common.cli.lazy import CliCommand
from ncen_updater.common.cli.usage import parse_version
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import ExitCode


@click.command("self-update", cls=CliCommand, help=N_("Update ncen-updater itself"))
@click.argument("version", required=False)
@retry_option
@dry_run_option
@click.pass_context
def self_update(
    context: click.Context, version: str | None, retry: bool, dry_run: bool
) -> ExitCode:
    session = get_agent_session(context)
    target = parse_version(version)
    if dry_run:
        return session.show_result(
            session.get_local_site().update_agent(target, retry=retry, dry_run=True)
        )
    return session.show_result(session.get_client().update_agent(target, retry=retry))
