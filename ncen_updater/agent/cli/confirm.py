"""``confirm``: a person ends the watched time."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import get_agent_session
from ncen_updater.common.cli.lazy import CliCommand
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode


@click.command("confirm", cls=CliCommand, help=N_("End the watched time: the new release is good."))
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.pass_context
def confirm(context: click.Context, dry_run: bool) -> ExitCode:
    session = get_agent_session(context)
    site = session.get_client()
    found = site.confirm_release(dry_run=dry_run)
    change = found["change"]
    values = {"product": change["product"], "version": change["to"], "change": change["id"]}
    if dry_run:
        text = N_("{product} {version} would be confirmed (change {change}).")
        session.add_line(LazyText(text, values))
    else:
        session.add_line(
            LazyText(N_("{product} {version} is confirmed (change {change})."), values)
        )
        session.add_line(
            LazyText(N_("The service brings the change to its end by itself."))
            if site.is_service_running()
            else LazyText(
                N_("If nobody watches it now, 'ncen-updater resume' ends the change at once.")
            )
        )
    session.write_output(found)
    return ExitCode.OK
