"""``dossier``: one page on an upgrade for a director to read and sign."""

from __future__ import annotations

from pathlib import Path

import click

from ncen_updater.agent.cli.common import get_agent_session
from ncen_updater.common.cli.arguments import parse_version
from ncen_updater.common.cli.lazy import CliCommand
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode


@click.command("dossier", cls=CliCommand, help=N_("Write the approval dossier as an HTML page"))
@click.argument("version", required=False)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help=N_("Output file (default: standard output)"),
)
@click.option("--prepared", is_flag=True, hidden=True)
@click.pass_context
def dossier(
    context: click.Context, version: str | None, output: Path | None, prepared: bool
) -> ExitCode:
    from ncen_updater.common import atomic_files as durable
    from ncen_updater.common.errors import UpdaterError
    from ncen_updater.common.messages import DOSSIER_UNWRITTEN

    session = get_agent_session(context)
    target = parse_version(version)
    if prepared:
        found = session.get_local_site().build_dossier(target, prepared=True)
    else:
        found = session.get_client().build_dossier(target)
    if found.error is not None:
        raise found.error
    html = str(found.document["html"])
    if output is not None:
        try:
            durable.write_file(output, html.encode(), 0o640)
        except OSError as error:
            raise UpdaterError(DOSSIER_UNWRITTEN, path=output, reason=error.strerror) from error
        session.add_line(LazyText(N_("Written: {path}"), {"path": output}))
    else:
        session.wraps_lines = False  # a page is no lines for people
        session.add_line(html.rstrip("\n"))
    session.write_output(
        {
            **found.document,
            "output": str(output) if output else None,
            "html": None if output else html,
        }
    )
    return ExitCode.OK
