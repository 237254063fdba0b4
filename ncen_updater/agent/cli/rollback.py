"""``rollback``: go back to the release before, keeping every record where the release can."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import agent_session, result_document, show_result
from ncen_updater.agent.cli.remote import carry_out, service_for
from ncen_updater.common.cli.lazy import Command
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
@click.pass_context
def rollback(
    context: click.Context, accept_loss: int | None, yes: bool, dry_run: bool
) -> ExitCode:  # fmt: skip
    session = agent_session(context)
    service = None if dry_run else service_for(session)
    if service is not None:
        session.agree(Text(N_("Go back to the release before now?")), yes=yes)
        return carry_out(session, service, "rollback", accept_loss=accept_loss)
    from ncen_updater.agent.engine.interruption import Interruption
    from ncen_updater.agent.engine.operations import Operations

    site = session.open_site()
    interruption = Interruption()
    if dry_run or not yes:
        with session.progress() as progress:
            progress.tell(Text(N_("looking for the way back")))
            way = Operations(site, progress).way_back(accept_loss=accept_loss)
        values = {"origin": way.origin, "target": way.target, "count": way.lost_total,
                  "tables": way.lost_words}  # fmt: skip
        session.show(way.words)
        if way.reason:
            session.show(Text(N_("Why: {reason}"), {"reason": way.reason}))
        if way.lost_total:
            session.show(Text(N_("It would lose {count} records: {tables}"), values))
        if dry_run:
            session.finish(
                {
                    "from": way.origin, "to": way.target, "mode": way.mode.value,
                    "lost": way.lost, "lost_total": way.lost_total, "reason": way.reason,
                }
            )  # fmt: skip
            return ExitCode.OK
        session.agree(Text(N_("Go back to {target} now?"), values), yes=False)
    with session.progress() as progress, interruption.handled():
        operations = Operations(site, progress, interruption=interruption)
        result = operations.rollback(accept_loss=accept_loss)
    show_result(session, result)
    session.finish(result_document(result, session.language))
    return ExitCode.OK
