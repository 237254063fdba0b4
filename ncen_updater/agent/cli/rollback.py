"""``rollback``: return to the previous release, keeping all records if the release supports it."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import (
    accept_loss_option,
    dry_run_option,
    get_agent_session,
    yes_option,
)
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.reports.command_results import CommandResult
from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.lazy import CliCommand, IntegerRange
from ncen_updater.common.cli.usage import NOTHING_CHANGED, CommandUsageError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    NEW_ROWS_WOULD_BE_LOST,
    RECORDS_WOULD_BE_LOST,
    ROLLBACK_NEEDS_APPROVAL,
    ExitCode,
)


@click.command("rollback", cls=CliCommand, help=N_("Roll back to the previous release"))
@accept_loss_option
@yes_option
@dry_run_option
@click.option(
    "--undoes",
    metavar="CHANGE",
    hidden=True,
)
@click.option(
    "--emergency",
    is_flag=True,
    help=N_("Roll back without missing approvals; all recipients are notified"),
)
@click.option("--reason", metavar="TEXT", help=N_("Reason, required with --emergency"))
@click.option(
    "--job",
    type=IntegerRange(min=1),
    metavar="N",
    hidden=True,
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
    job: int | None,
) -> ExitCode:
    session = get_agent_session(context)
    if emergency is not (reason is not None):
        raise CommandUsageError(N_("--emergency and --reason require each other"), context)
    if job is not None and not dry_run:
        return session.show_result(session.get_local_site().rollback(accept_loss, undoes, job=job))
    site = session.get_client()
    if not dry_run:
        site.require_right("operate")
    if dry_run or not yes:
        try:
            way = site.plan_rollback(accept_loss)
            if dry_run or "to" not in way.document:
                return session.show_result(way)
        except UpdaterError as error:
            if error.code in (RECORDS_WOULD_BE_LOST.code, NEW_ROWS_WOULD_BE_LOST.code):
                session.beside = {"lost_total": error.values["count"]}
            raise
        _show_rollback_plan(session, way, emergency=emergency)
        question = LazyText(N_("Roll back to {target} now?"), {"target": way.document["to"]})
        session.ask_confirmation(question, assume_yes=False)
        # the upgrade that the user confirmed, even if another one was installed since
        undoes = way.document["undoes"]
    return session.show_result(site.rollback(accept_loss, undoes, reason))


def _show_rollback_plan(session: AgentSession, plan: CommandResult, *, emergency: bool) -> None:
    """Show the rollback plan before the confirmation.

    Raises:
        ROLLBACK_NEEDS_APPROVAL: If approvals are missing, so that the rollback would be refused.
    """
    found = plan.document
    missing, given = int(found.get("missing") or 0), found.get("approvals") or []
    together = missing > 0 and missing + len(given) > 1
    for line in found["how"]:
        session.add_line(line)
    if not emergency or not missing:
        if together:
            from ncen_updater.agent.engine.approvals.rollback_approvals import (
                format_accept_loss_option,
            )

            raise UpdaterError(
                ROLLBACK_NEEDS_APPROVAL, version=found["to"], missing=missing,
                needed=missing + len(given),
                who=", ".join(strip_control_characters(row["actor"]) for row in given)
                or "-",
                loss=format_accept_loss_option(found["lost_total"]), state=NOTHING_CHANGED,
            )  # fmt: skip
        return
    words = N_(
        "Emergency rollback without {missing} missing approvals. Your name and reason "
        "are logged and sent to all recipients."
    )
    session.add_line(LazyText(words, {"missing": missing}))
