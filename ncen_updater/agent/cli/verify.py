"""``verify``: does reality match the journal? Reads only."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import get_agent_session
from ncen_updater.common.cli.lazy import CliCommand
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import ExitCode


@click.command("verify", cls=CliCommand, help=N_("Compare what is there with what was recorded."))
@click.option(
    "--head",
    "kept",
    multiple=True,
    metavar="NUMBER:HASH",
    help=N_("Look whether this event, of which a message told, is in the journal still."),
)
@click.option(
    "--journal",
    "journal_only",
    is_flag=True,
    help=N_("Only the journal: whether it is whole, and holds what you kept of it."),
)
@click.pass_context
def verify(context: click.Context, kept: tuple[str, ...], journal_only: bool) -> ExitCode:
    from ncen_updater.agent.storage.journal.head import ChainHead

    session = get_agent_session(context)
    try:
        heads = [ChainHead.parse(text) for text in kept]
    except ValueError as error:
        wanted = N_("write NUMBER:HASH, as a message has it")
        raise CommandUsageError(wanted, context, hint="--head") from error
    return session.show_result(
        session.get_nearest_client().verify(heads, journal_only=journal_only)
    )
