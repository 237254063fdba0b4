"""``dossier``: one page on an upgrade for a director to read and sign."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.common.cli.arguments import parse_version
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_, Text

__all__ = ["dossier"]


@click.command("dossier", cls=Command, help=N_("Make a page on the upgrade for people to sign."))
@click.argument("version", required=False)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help=N_("Where the page goes; to stdout if left out."),
)
@click.pass_context
def dossier(context: click.Context, version: str | None, output: Path | None) -> ExitCode:
    from ncen_updater.agent.approvals import approving
    from ncen_updater.agent.dossier import page
    from ncen_updater.agent.dossier.gather import gather
    from ncen_updater.agent.journal.journal import Journal
    from ncen_updater.agent.journal.names import JOURNAL
    from ncen_updater.common import atomic_files as durable
    from ncen_updater.common.errors import UpdaterError
    from ncen_updater.common.messages import DOSSIER_UNWRITTEN

    session = agent_session(context)
    target = parse_version(version)
    site = session.open_site()
    with (
        session.progress() as progress,
        Journal.open(site.state / JOURNAL, read_only=True) as journal,
    ):
        found = approving.subject(site, journal, progress, target)
        content = page(gather(site, journal, found), session.language)
    if output is not None:
        try:
            durable.write(output, content, 0o640)
        except OSError as error:
            raise UpdaterError(DOSSIER_UNWRITTEN, path=output, reason=error.strerror) from error
        session.show(Text(N_("The dossier is in {path}."), {"path": output}))
    else:
        session.show(content.decode().rstrip("\n"))
    session.finish(
        {
            "version": found.target,
            "binding": found.binding,
            "output": str(output) if output else None,
            "sha256": hashlib.sha256(content).hexdigest(),
            "html": None if output else content.decode(),
        }
    )
    return ExitCode.OK
