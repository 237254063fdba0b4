"""``rehearse``: try a release on copies of the site's own data, while officers work."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import get_agent_session
from ncen_updater.common.cli.arguments import parse_version
from ncen_updater.common.cli.lazy import CliCommand
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import ExitCode


@click.command("rehearse", cls=CliCommand, help=N_("Try a release on copies of your own data."))
@click.argument("version", required=False)
@click.option("--retry", is_flag=True, help=N_("Take releases too that failed here."))
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.pass_context
def rehearse(context: click.Context, version: str | None, retry: bool, dry_run: bool) -> ExitCode:
    session = get_agent_session(context)
    target = parse_version(version)
    if dry_run:
        return session.show_result(
            session.get_local_site().rehearse(target, retry=retry, dry_run=True)
        )
    return session.show_result(session.get_client().rehearse(target, retry=retry))
