"""``agent-release``: the release directory of the agent itself."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ncen_updater.common.cli.lazy import PublisherCommand, session_of
from ncen_updater.common.i18n import N_
from ncen_updater.publisher.cli.common import DIRECTORY, FILE, show_result


@click.command(
    "agent-release",
    cls=PublisherCommand,
    help=N_("Make the release directory of the agent itself in DIRECTORY."),
)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--wheels", type=DIRECTORY, required=True, help=N_("The agent's wheel and the locked ones.")
)
@click.option("--lock", type=FILE, required=True, help=N_("The lock file with digests."))
@click.option("--units", type=DIRECTORY, help=N_("Units for systemd that come along."))
@click.pass_context
def agent_release(
    context: click.Context, directory: Path, wheels: Path, lock: Path, units: Path | None
) -> None:
    from ncen_updater.publisher.build.agent_release import make_agent_release

    made = make_agent_release(wheels, lock, directory, units)
    show_result(session_of(context), asdict(made), N_("Agent {version}: {wheels} wheels, {bytes}."))
