"""``rollback``: go back to the release before, keeping every record where the release can."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.reports.answers import Answer
from ncen_updater.common.cli.characters import clean
from ncen_updater.common.cli.errors import NOTHING_CHANGED
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.usage import Misuse
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import (
    BACK_NEEDS_APPROVAL,
    RECORDS_WOULD_BE_LOST,
    VALUES_WOULD_BE_LOST,
    ExitCode,
)


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
        raise Misuse(N_("write both, or neither: --emergency --reason TEXT"), context)
    if order is not None and not dry_run:
        return session.answer(session.local().rollback(accept_loss, undoes, order=order))
    site = session.client()
    if not dry_run:
        site.require_right("operate")
    if dry_run or not yes:
        try:
            way = site.way_back(accept_loss)
            if dry_run or "to" not in way.document:
                return session.answer(way)
        except UpdaterError as error:
            if error.code in (RECORDS_WOULD_BE_LOST.code, VALUES_WOULD_BE_LOST.code):
                session.beside = {"lost_total": error.values["count"]}
            raise
        _show(session, way, emergency=emergency)
        question = Text(N_("Go back to {target} now?"), {"target": way.document["to"]})
        session.agree(question, yes=False)
        undoes = way.document["undoes"]  # what was agreed to, whatever comes meanwhile
    return session.answer(site.rollback(accept_loss, undoes, reason))


def _show(session: AgentSession, way: Answer, *, emergency: bool) -> None:
    """Show what is asked about.

    Raises:
        BackNeedsApproval: If people have to approve it yet: a yes would be refused.
    """
    found = way.document
    missing, given = int(found.get("missing") or 0), found.get("approvals") or []
    together = missing > 0 and missing + len(given) > 1
    if not emergency or not missing:
        for line in way.words:
            session.show(line)
        if together:
            from ncen_updater.agent.engine.approvals.rollback_approvals import (
                NOBODY_YET,
                loss_words,
            )

            raise UpdaterError(
                BACK_NEEDS_APPROVAL, version=found["to"], missing=missing,
                needed=missing + len(given),
                who=", ".join(clean(one["who"]) for one in given) or NOBODY_YET,
                loss=loss_words(found["lost_total"]), state=NOTHING_CHANGED,
            )  # fmt: skip
        return
    for line in found["how"]:
        session.show(line)
    words = N_(
        "An emergency: this goes without the approvals that are missing ({missing}). Your name and "
        "the reason are written down, and everybody who gets messages is told at once."
    )
    session.show(Text(words, {"missing": missing}))
