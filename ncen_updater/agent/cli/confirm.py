"""``confirm``: a person ends the watched time."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import dry_run_option, get_agent_session
from ncen_updater.common.cli.lazy import CliCommand
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode


@click.command("confirm", cls=CliCommand, help=N_("Confirm the release and end the soak period"))
@dry_run_option
@click.pass_context
def confirm(context: click.Context, dry_run: bool) -> ExitCode:
    session = get_agent_session(context)
    site = session.get_client()
    found = site.confirm_release(dry_run=dry_run)
    change = found["change"]
    values = {"product": change["product"], "version": change["to"], "change": change["id"]}
    if dry_run:
        text = N_("Would be confirmed: {product} {version} (change {change})")
        session.add_line(LazyText(text, values))
    else:
        session.add_line(LazyText(N_("Confirmed: {product} {version} (change {change})"), values))
        session.add_line(
            LazyText(N_("The service completes the change automatically."))
            if site.is_service_running()
            else LazyText(N_("To complete the change, run: ncen-updater resume"))
        )
    session.write_output(found)
    return ExitCode.OK
