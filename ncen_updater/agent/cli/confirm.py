"""``confirm``: a person ends the watched time."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.agent.cli.remote import service_for
from ncen_updater.agent.engine.outcome import change_document
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.program import user_name
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_, Text

__all__ = ["confirm"]


@click.command("confirm", cls=Command, help=N_("End the watched time: the new release is good."))
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.pass_context
def confirm(context: click.Context, dry_run: bool) -> ExitCode:
    session = agent_session(context)
    service = None if dry_run else service_for(session)
    if service is not None:
        found = service.call("POST", "/v1/confirmation")["change"]
    else:
        from ncen_updater.agent.engine.operations import Operations

        site = session.open_site()
        with session.progress() as progress:
            operations = Operations(site, progress)
            change = operations.in_soak() if dry_run else operations.confirm(user_name())
        found = change_document(change)
    values = {"product": found["product"], "version": found["to"], "change": found["id"]}
    if dry_run:
        text = N_("{product} {version} would be confirmed (change {change}).")
        session.show(Text(text, values))
        session.finish({"confirmed": False, "change": found})
        return ExitCode.OK
    session.show(Text(N_("{product} {version} is confirmed (change {change})."), values))
    session.show(
        Text(N_("If no upgrade is at work now, 'ncen-updater resume' ends the change at once."))
    )
    session.finish({"confirmed": True, "change": found})
    return ExitCode.OK
