"""``confirm``: a person ends the watched time."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import ExitCode


@click.command("confirm", cls=Command, help=N_("End the watched time: the new release is good."))
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.pass_context
def confirm(context: click.Context, dry_run: bool) -> ExitCode:
    session = agent_session(context)
    site = session.client()
    found = site.confirm(dry_run=dry_run)
    change = found["change"]
    values = {"product": change["product"], "version": change["to"], "change": change["id"]}
    if dry_run:
        text = N_("{product} {version} would be confirmed (change {change}).")
        session.show(Text(text, values))
    else:
        session.show(Text(N_("{product} {version} is confirmed (change {change})."), values))
        session.show(
            Text(N_("The service brings the change to its end by itself."))
            if site.goes_on()
            else Text(
                N_("If nobody watches it now, 'ncen-updater resume' ends the change at once.")
            )
        )
    session.finish(found)
    return ExitCode.OK
