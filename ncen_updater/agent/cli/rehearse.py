"""``rehearse``: try a release on copies of the site's own data, while users work."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import dry_run_option, get_agent_session, retry_option
from ncen_updater.common.cli.arguments import parse_version
from ncen_updater.common.cli.lazy import CliCommand
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import ExitCode


@click.command(
    "rehearse", cls=CliCommand, help=N_("Rehearse the upgrade on copies of the databases")
)
@click.argument("version", required=False)
@retry_option
@dry_run_option
@click.pass_context
def rehearse(context: click.Context, version: str | None, retry: bool, dry_run: bool) -> ExitCode:
    session = get_agent_session(context)
    target = parse_version(version)
    if dry_run:
        return session.show_result(
            session.get_local_site().rehearse(target, retry=retry, dry_run=True)
        )
    return session.show_result(session.get_client().rehearse(target, retry=retry))
