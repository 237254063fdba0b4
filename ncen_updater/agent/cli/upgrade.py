"""``check``, ``upgrade``, ``confirm``, ``rollback`` and ``self-update``."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime

import click
from packaging.version import Version

from ncen_updater.agent.cli.common import (
    accept_loss_option,
    agent_command,
    dry_run_option,
    retry_option,
    yes_option,
)
from ncen_updater.agent.cli.hold import parse_future_time
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.config.essential_settings import load_essential_settings
from ncen_updater.agent.reports.command_results import CommandResult
from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.lazy import IntegerRange
from ncen_updater.common.cli.usage import NOTHING_CHANGED, CommandUsageError, parse_version
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    CONFIRMATION_NEEDED,
    NEW_ROWS_WOULD_BE_LOST,
    RECORDS_WOULD_BE_LOST,
    ROLLBACK_NEEDS_APPROVAL,
    ExitCode,
)


@agent_command
@click.argument("version", required=False)
@retry_option
@yes_option
@click.option("--scheduled", is_flag=True, hidden=True)
@click.option(
    "--start-before",
    metavar="TIME",
    hidden=True,
)
@dry_run_option
def upgrade(
    session: AgentSession,
    version: str | None,
    retry: bool,
    yes: bool,
    scheduled: bool,
    start_before: str | None,
    dry_run: bool,
) -> ExitCode:
    target = parse_version(version)
    closes = parse_future_time(start_before, datetime.now(UTC))
    by_service = scheduled or closes is not None
    site = session.get_local_site() if by_service else session.get_client()
    if dry_run:
        return session.show_result(site.prepare_plan(target, retry=retry))
    site.require_right("operate")
    site.require_startable()
    if not yes:
        plan = site.prepare_plan(target, retry=retry)
        if plan.exit_code != ExitCode.OK or plan.document.get("available") is not True:
            return session.show_result(plan)
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UpdaterError(CONFIRMATION_NEEDED, state=NOTHING_CHANGED)
        for line in plan.lines:
            session.add_line(line)
        # The release that the user confirmed, even if a newer one appeared since.
        target = Version(plan.document["hops"][-1]["version"])
        site.require_consent(target, retry=retry)
        product = load_essential_settings(session.config).product
        question = LazyText(
            N_("Upgrade {product} to {version} now?"), {"product": product, "version": target}
        )
        session.ask_confirmation(question, assume_yes=False)
    if by_service:
        local = session.get_local_site()
        return session.show_result(
            local.upgrade(target, retry=retry, scheduled=scheduled, start_before=closes)
        )
    return session.show_result(site.upgrade(target, retry=retry))


@agent_command
def check(session: AgentSession) -> ExitCode:
    answer = session.get_client().check_feed()
    if answer.document.get("available") is True and not session.runs_for_service:
        more = LazyText(N_("To see the upgrade plan, run: ncen-updater plan"))
        answer = replace(answer, lines=[*answer.lines, more])
    return session.show_result(answer)


@agent_command
def confirm(session: AgentSession) -> ExitCode:
    site = session.get_client()
    found = site.confirm_release()
    change = found["change"]
    values = {"product": change["product"], "version": change["to"], "change": change["id"]}
    session.add_line(LazyText(N_("Confirmed: {product} {version} (change {change})"), values))
    session.add_line(
        LazyText(N_("The service completes the change automatically."))
        if site.is_service_running()
        else LazyText(N_("To complete the change, run: sudo ncen-updater resume"))
    )
    session.write_output(found)
    return ExitCode.OK


@agent_command
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
def rollback(
    session: AgentSession,
    accept_loss: int | None,
    yes: bool,
    dry_run: bool,
    undoes: str | None,
    emergency: bool,
    reason: str | None,
    job: int | None,
) -> ExitCode:
    if emergency is not (reason is not None):
        raise CommandUsageError(N_("--emergency and --reason require each other"))
    if job is not None and not dry_run:
        return session.show_result(session.get_local_site().rollback(accept_loss, undoes, job=job))
    site = session.get_client()
    if not dry_run:
        site.require_right("operate")
    if dry_run or not yes:
        try:
            plan = site.plan_rollback(accept_loss)
            if dry_run or "to" not in plan.document:
                return session.show_result(plan)
        except UpdaterError as error:
            if error.code in (RECORDS_WOULD_BE_LOST.code, NEW_ROWS_WOULD_BE_LOST.code):
                session.error_members = {"lost_total": error.values["count"]}
            raise
        _show_rollback_plan(session, plan, emergency=emergency)
        question = LazyText(N_("Roll back to {target} now?"), {"target": plan.document["to"]})
        session.ask_confirmation(question, assume_yes=False)
        undoes = plan.document["undoes"]  # the upgrade that the user confirmed
    return session.show_result(site.rollback(accept_loss, undoes, reason))


def _show_rollback_plan(session: AgentSession, plan: CommandResult, *, emergency: bool) -> None:
    """Show the rollback plan before the confirmation.

    Raises:
        ROLLBACK_NEEDS_APPROVAL: If approvals of others are missing, without ``emergency``.
    """
    found = plan.document
    missing, approvals = int(found.get("missing") or 0), found.get("approvals") or []
    together = missing > 0 and missing + len(approvals) > 1
    for line in found["how"]:
        session.add_line(line)
    if not emergency or not missing:
        if together:
            from ncen_updater.agent.engine.approvals.rollback_approvals import (
                format_accept_loss_option,
            )

            raise UpdaterError(
                ROLLBACK_NEEDS_APPROVAL, version=found["to"], missing=missing,
                needed=missing + len(approvals),
                who=", ".join(strip_control_characters(row["actor"]) for row in approvals)
                or "-",
                loss=format_accept_loss_option(found["lost_total"]), state=NOTHING_CHANGED,
            )  # fmt: skip
        return
    words = N_(
        "Emergency rollback; missing approvals: {missing}. Your name and reason "
        "are logged and sent to all recipients."
    )
    session.add_line(LazyText(words, {"missing": missing}))


@agent_command
@click.argument("version", required=False)
@retry_option
def self_update(session: AgentSession, version: str | None, retry: bool) -> ExitCode:
    target = parse_version(version)
    return session.show_result(session.get_client().update_agent(target, retry=retry))
