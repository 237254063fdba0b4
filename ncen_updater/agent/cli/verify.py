"""``verify``: does reality match the journal? Reads only."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.render import finding_document, finding_lines
from ncen_updater.common.cli.usage import Misuse
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.findings import Severity
from ncen_updater.common.i18n import N_, Text

__all__ = ["verify"]


@click.command("verify", cls=Command, help=N_("Compare what is there with what was recorded."))
@click.option(
    "--head",
    "kept",
    multiple=True,
    metavar="NUMBER:HASH",
    help=N_("Look whether this event, of which a message told, is in the journal still."),
)
@click.pass_context
def verify(context: click.Context, kept: tuple[str, ...]) -> ExitCode:
    from ncen_updater.agent.diagnostics.verify import verify_site
    from ncen_updater.agent.journal.head import ChainHead
    from ncen_updater.agent.journal.journal import Journal
    from ncen_updater.agent.journal.names import JOURNAL

    session = agent_session(context)
    try:
        heads = [ChainHead.parse(text) for text in kept]
    except ValueError as error:
        wanted = N_("write NUMBER:HASH, as a message has it")
        raise Misuse(wanted, context, hint="--head") from error
    site = session.open_site()
    with (
        Journal.open(site.state / JOURNAL, read_only=True) as journal,
        session.progress() as progress,
    ):
        progress.tell(Text(N_("comparing the site with its journal")))
        findings = verify_site(site, journal, progress, heads)
        head = journal.head()
    differs = any(finding.severity is Severity.STRICT for finding in findings)
    for line in finding_lines(findings, session.language):
        session.show(line)
    if not findings:
        session.show(Text(N_("Everything is as it was recorded.")))
    session.show(Text(N_("Head of the journal: {head}"), {"head": head}))
    session.finish(
        {
            "head": str(head),
            "as_recorded": not differs,
            "findings": [finding_document(finding, session.language) for finding in findings],
        }
    )
    return ExitCode.NEEDS_PERSON if differs else ExitCode.OK
