"""``doctor``: everything that would stand in the way, found before it does."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.render import finding_document, finding_lines
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.findings import Severity
from ncen_updater.common.i18n import N_, Text

__all__ = ["doctor"]


@click.command("doctor", cls=Command, help=N_("Look for everything that would stand in the way."))
@click.pass_context
def doctor(context: click.Context) -> ExitCode:
    from ncen_updater.agent.diagnostics.doctor import diagnose

    session = agent_session(context)
    with session.progress() as progress:
        progress.tell(Text(N_("looking at the site")))
        findings = diagnose(session.config, progress)
    blocks = any(finding.severity is Severity.STRICT for finding in findings)
    for line in finding_lines(findings, session.language):
        session.show(line)
    if not blocks:
        session.show(Text(N_("Nothing stands in the way of an upgrade.")))
    session.finish(
        {
            "healthy": not blocks,
            "findings": [finding_document(finding, session.language) for finding in findings],
        }
    )
    return ExitCode.BLOCKED if blocks else ExitCode.OK
