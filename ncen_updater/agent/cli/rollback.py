"""``rollback``: go back to the release before, keeping every record where the release can."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.usage import Misuse
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_, Text

__all__ = ["rollback"]


@click.command("rollback", cls=Command, help=N_("Go back to the release before."))
@click.option(
    "--accept-loss",
    type=click.IntRange(min=0),
    metavar="N",
    help=N_("Agree to lose this many records, as the refusal counted them."),
)
@click.option("--yes", is_flag=True, help=N_("Do not ask. Nothing that blocks is passed over."))
@click.option("--dry-run", is_flag=True, help=N_("Say how it would go, and change nothing."))
@click.option(
    "--undoes",
    metavar="CHANGE",
    help=N_("For the service: only this upgrade, which a person was asked about."),
)
@click.option(
    "--emergency",
    is_flag=True,
    help=N_("Do not wait for those who have to approve it; all who get messages are told at once."),
)
@click.option("--reason", metavar="TEXT", help=N_("Why it cannot wait; goes with --emergency."))
@click.option(
    "--order",
    type=click.IntRange(min=1),
    metavar="N",
    help=N_("For the service: as whoever gave this order."),
)
@click.pass_context
def rollback(
    context: click.Context,
    accept_loss: int | None,
    yes: bool,
    dry_run: bool,
    undoes: str | None,
    emergency: bool,
    reason: str | None,
    order: int | None,
) -> ExitCode:
    session = agent_session(context)
    if emergency is not (reason is not None):
        raise Misuse(N_("--emergency needs a --reason, and a --reason --emergency"), context)
    if order is not None and not dry_run:
        return session.answer(session.local().rollback(accept_loss, undoes, order=order))
    site = session.client()
    if not dry_run:
        site.require_right("operate")
    if dry_run or not yes:
        way = site.way_back(accept_loss)
        if dry_run or "to" not in way.document:
            return session.answer(way)
        for line in way.words:
            session.show(line)
        question = Text(N_("Go back to {target} now?"), {"target": way.document["to"]})
        session.agree(question, yes=False)
        undoes = way.document["undoes"]  # what was agreed to, whatever comes meanwhile
    return session.answer(site.rollback(accept_loss, undoes, reason))
