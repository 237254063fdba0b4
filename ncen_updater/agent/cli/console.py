"""``console``: show the site in a browser, to the person who typed it, until the terminal ends."""

from __future__ import annotations

import os
import sys

import click

from ncen_updater.agent.cli.common import get_agent_session
from ncen_updater.agent.config.essential_settings import (
    load_essential_settings,
    read_service_socket,
    read_site_timezone,
)
from ncen_updater.common.cli.lazy import CliCommand, IntegerRange
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import ExitCode


@click.command("console", cls=CliCommand, help=N_("Open the web console"))
@click.option(
    "--port",
    type=IntegerRange(0, 65535),
    default=0,
    metavar="N",
    help=N_("Port on the loopback interface (default: any free port)"),
)
@click.pass_context
def console(context: click.Context, port: int) -> ExitCode:
    session = get_agent_session(context)
    load_essential_settings(session.config)  # a file that cannot be used is told of here
    zone, socket = read_site_timezone(session.config), read_service_socket(session.config)
    words = ["--socket", str(socket), "--language", session.language, "--port", str(port)]
    words += ["--zone", str(zone)] if zone is not None else []
    words += ["--json"] if session.as_json else []
    sys.stdout.flush()
    # -I: nothing is imported from where the person happens to be.
    os.execv(  # noqa: S606 - a program of ours, without a shell
        sys.executable, [sys.executable, "-I", "-m", "ncen_updater.console", *words]
    )
