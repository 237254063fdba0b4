"""``doctor`` and ``verify``: what blocks an upgrade, and what differs from the audit log."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import get_agent_session
from ncen_updater.common.cli.lazy import CliCommand
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import ExitCode


@click.command(
    "doctor", cls=CliCommand, help=N_("Check the site for problems that block an upgrade")
)
@click.pass_context
def doctor(context: click.Context) -> ExitCode:
    session = get_agent_session(context)
    return session.show_result(session.get_nearest_client().run_doctor())


@click.command(
    "verify", cls=CliCommand, help=N_("Verify releases, databases and files against the audit log")
)
@click.option(
    "--head",
    "head_texts",
    multiple=True,
    metavar="NUMBER:HASH",
    help=N_("Check that this chain head is in the audit log"),
)
@click.option(
    "--journal",
    "journal_only",
    is_flag=True,
    help=N_("Verify the audit log only"),
)
@click.pass_context
def verify(context: click.Context, head_texts: tuple[str, ...], journal_only: bool) -> ExitCode:
    from ncen_updater.agent.storage.journal.rows import ChainHead

    session = get_agent_session(context)
    try:
        heads = [ChainHead.parse(text) for text in head_texts]
    except ValueError as error:
        wanted = N_("expected NUMBER:HASH")
        raise CommandUsageError(wanted, context, hint="--head") from error
    return session.show_result(
        session.get_nearest_client().verify(heads, journal_only=journal_only)
    )
