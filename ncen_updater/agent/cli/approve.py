"""``approve`` and ``schedule``: approve a rehearsed upgrade, and schedule its start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ncen_updater.agent.cli.common import (
    accept_loss_option,
    agent_command,
    dry_run_option,
    yes_option,
)
from ncen_updater.agent.cli.hold import parse_future_time, show_next_start
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.engine.approvals.approval import describe_consumed_approvals
from ncen_updater.agent.engine.approvals.next_upgrade import require_approvable
from ncen_updater.agent.reports.command_results import format_rehearsal_lines
from ncen_updater.common.cli.render import format_scheduled_time, group_digest
from ncen_updater.common.cli.usage import (
    GIVE_ONE,
    OPTION_EXCLUDED,
    OPTION_NEEDED,
    CommandUsageError,
    parse_version,
)
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    BUSY,
    FEED_NEVER_READ,
    NOT_THE_NEXT_UPGRADE,
    NOTHING_TO_APPROVE,
    OPEN_CHANGE,
    SOAK_NOT_FINISHED,
    ExitCode,
)

if TYPE_CHECKING:
    from packaging.version import Version

    from ncen_updater.agent.cli.session import SiteClient

Document = Mapping[str, Any]

#: Two sentences: the placeholder contains a complete sentence.
AFTER_APPROVAL = N_("After your approval:")
#: Wait reasons that an earlier line already shows.
SHOWN_WAIT_REASONS = ("approval", "not-rehearsed")
#: Errors that mean that no approval is possible; after a withdrawal, they are only shown.
_NOTHING_TO_SHOW_CODES = frozenset(
    one.code
    for one in (
        BUSY,
        NOTHING_TO_APPROVE,
        FEED_NEVER_READ,
        NOT_THE_NEXT_UPGRADE,
        OPEN_CHANGE,
        SOAK_NOT_FINISHED,
    )
)


@agent_command
@click.argument("version", required=False)
@click.option("--rollback", is_flag=True, help=N_("Approve a rollback instead of an upgrade"))
@accept_loss_option
@click.option("--withdraw", is_flag=True, help=N_("Withdraw your approval"))
@yes_option
@dry_run_option
def approve(
    session: AgentSession,
    version: str | None,
    rollback: bool,
    accept_loss: int | None,
    withdraw: bool,
    yes: bool,
    dry_run: bool,
) -> ExitCode:
    target = parse_version(version)
    if rollback:
        if version is not None:
            raise CommandUsageError(OPTION_EXCLUDED, option="VERSION", other="--rollback")
        if withdraw and not dry_run:
            return _withdraw_approval(session, None, of_rollback=True)
        return _approve_rollback(session, accept_loss, yes=yes, dry_run=dry_run)
    if accept_loss is not None:
        raise CommandUsageError(OPTION_NEEDED, option="--accept-loss", other="--rollback")
    if withdraw and not dry_run:
        return _withdraw_approval(session, target, of_rollback=False)
    site = session.get_client()
    if withdraw:
        return _show_remaining(session, site, target)
    if not dry_run:
        site.require_right("approve")
    seen = site.read_next_upgrade(target)
    rehearsal = seen["rehearsal"]
    if rehearsal is not None and rehearsal["state"] == "passed":
        for line in format_rehearsal_lines(rehearsal, session.language):
            session.add_line(line)
    if not dry_run:
        require_approvable(seen)
        _show_digest(session, seen)
        _show_others(session, seen)
        show_next_start(session, seen["starts_at_if_approved"], AFTER_APPROVAL)
        question = LazyText(N_("Approve upgrade to {version}?"), {"version": seen["target"]})
        session.ask_confirmation(question, assume_yes=yes)
        site.approve(seen)
        found = site.read_next_upgrade(target)
        if seen["approvals"] and found["approvals"] == seen["approvals"]:
            session.add_line(LazyText(N_("Already approved by you.")))
        return _show_approval(session, found, seen)
    return _show_approval(session, seen)


@agent_command
@click.argument("time", required=False)
@click.option(
    "--release",
    "version",
    metavar="VERSION",
    help=N_("Release to schedule (default: next upgrade)"),
)
@click.option("--cancel", is_flag=True, help=N_("Cancel the schedule"))
def schedule(
    session: AgentSession, time: str | None, version: str | None, cancel: bool
) -> ExitCode:
    if (time is None) is not cancel:
        raise CommandUsageError(GIVE_ONE, option="TIME", other="--cancel")
    moment = parse_future_time(time, datetime.now(UTC), session.zone)
    target = parse_version(version)
    site = session.get_client()
    site.require_right("operate")
    if moment is None:
        return _cancel_schedule(session, site, target)
    seen = site.read_next_upgrade(target)
    require_approvable(seen)
    site.schedule(seen, moment)
    return _show_approval(session, site.read_next_upgrade(target))


def _cancel_schedule(session: AgentSession, site: SiteClient, target: Version | None) -> ExitCode:
    """Cancel the schedule, even if its upgrade is no longer on offer, and show the next upgrade."""
    count = site.cancel_schedule()
    session.add_line(LazyText(N_("Schedule cancelled.") if count else N_("Not scheduled.")))
    return _show_remaining(session, site, target, cancelled=count)


def _withdraw_approval(
    session: AgentSession, target: Version | None, *, of_rollback: bool
) -> ExitCode:
    """Withdraw the user's own approval, even if outdated, and show the next upgrade."""
    site = session.get_client()
    site.require_right("approve")
    count = site.withdraw(target, rollbacks=of_rollback)
    message = N_("Approval withdrawn.") if count else N_("No approval to withdraw.")
    session.add_line(LazyText(message))
    if of_rollback:
        session.write_output({"withdrawn": count})
        return ExitCode.OK
    return _show_remaining(session, site, target, withdrawn=count)


def _show_remaining(
    session: AgentSession, site: SiteClient, target: Version | None, **done: int
) -> ExitCode:
    """Show the next upgrade after a withdrawal, or why nothing can be approved.

    Args:
        session: The session.
        site: Client of the site.
        target: The requested release.
        done: Results for the document.
    """
    try:
        seen = site.read_next_upgrade(target)
    except UpdaterError as error:
        if error.code not in _NOTHING_TO_SHOW_CODES:
            raise
        session.add_line(error.title_text)
        session.write_output({"version": None, "scheduled": None, **done})
        return ExitCode.OK
    return _show_approval(session, seen, **done)


def _approve_rollback(
    session: AgentSession, accept_loss: int | None, *, yes: bool, dry_run: bool
) -> ExitCode:
    """Approve a rollback."""
    site = session.get_client()
    if not dry_run:
        site.require_right("approve")
    plan = site.plan_rollback(accept_loss)
    if dry_run or "binding" not in plan.document or plan.document.get("in_soak"):
        return session.show_result(plan)
    for line in plan.document["how"]:  # without the command, which needs the approval
        session.add_line(line)
    question = LazyText(N_("Approve rollback to {version}?"), {"version": plan.document["to"]})
    session.ask_confirmation(question, assume_yes=yes)
    site.approve_rollback(plan.document, accept_loss)
    approved = site.plan_rollback(accept_loss)
    new_lines = [line for line in approved.lines if line not in plan.lines]
    return session.show_result(replace(approved, lines=new_lines))


def _show_digest(session: AgentSession, next_upgrade: Document) -> None:
    """Show the digest, for comparison with the printed dossier and the audit log."""
    if next_upgrade["binding"]:
        digest = {"digest": group_digest(str(next_upgrade["binding"]))}
        session.add_line(LazyText(N_("Approval digest: {digest}"), digest))


def _show_others(session: AgentSession, next_upgrade: Document) -> None:
    """Show newer releases and other approved releases."""
    newest, target = next_upgrade["newest"], next_upgrade["target"]
    if newest is not None:
        values = {"version": target, "newest": newest}
        session.add_line(
            LazyText(N_("{version} is not the newest release; {newest} is available."), values)
        )
    for other in next_upgrade["also_approved"]:
        text = N_("Also approved: {other}; the most recent approval runs first.")
        session.add_line(LazyText(text, {"other": other}))
    for other in next_upgrade["approved_but_unavailable"]:
        text = N_("Approved, but no longer available: {other}")
        session.add_line(LazyText(text, {"other": other}))


def _show_approval(
    session: AgentSession,
    next_upgrade: Document,
    shown: Document | None = None,
    /,
    **extra: object,
) -> ExitCode:
    """Show the state of the approval.

    Args:
        session: The session.
        next_upgrade: The next upgrade as returned by the API.
        shown: The next upgrade as shown before the approval; what is the same is not repeated.
        extra: Additional fields of the document, of a withdrawal; there is nothing to compare then.
    """
    names = (
        "binding",
        "plan",
        "rehearsal_status",
        "approvals",
        "missing",
        "void_reasons",
        "retry_at",
        "starts_at",
        "newest",
        "also_approved",
        "approved_but_unavailable",
        "consumed_approvals",
    )
    scheduled = next_upgrade["scheduled"] or {}
    document = {
        "version": next_upgrade["target"],
        **{name: next_upgrade[name] for name in names},
        "scheduled": scheduled.get("not_before"),
        "scheduled_by": scheduled.get("actor"),
        **extra,
    }
    for void in document["void_reasons"]:
        session.add_line(LazyText(N_("Approval outdated: {reason}"), {"reason": void}))
    if document["consumed_approvals"]:
        session.add_line(describe_consumed_approvals(document["consumed_approvals"]))
    for approval in document["approvals"]:
        values: dict[str, object] = {"who": approval["actor"], "at": session.when(approval["at"])}
        session.add_line(LazyText(N_("Approved by {who}, {at}"), values))
    if shown is None and not extra:
        _show_digest(session, document)
    missing = {"version": document["version"], "count": document["missing"]}
    if not document["binding"]:
        text = N_("Rehearsal required. Run: ncen-updater rehearse {version}")
        session.add_line(LazyText(text, missing))
    elif document["missing"]:
        session.add_line(
            LazyText(N_("Waiting for approval of {version}: {count} missing"), missing)
        )
    else:
        session.add_line(LazyText(N_("Approved: {version}"), missing))
    if shown is None:
        _show_others(session, next_upgrade)
    if document["retry_at"] is not None:
        retry = {"version": document["version"], "at": session.when(document["retry_at"])}
        session.add_line(LazyText(N_("Marked bad: {version}; not started before {at}"), retry))
    if document["scheduled"] is not None:
        at = format_scheduled_time(datetime.fromisoformat(document["scheduled"]), session.zone)
        chosen = {"at": at, "who": document["scheduled_by"]}
        session.add_line(LazyText(N_("Scheduled by {who}: not before {at}"), chosen))
    start = document["starts_at"]
    is_known = shown is not None and start == shown["starts_at_if_approved"]
    if not is_known and (start is None or start["wait_reason"] not in SHOWN_WAIT_REASONS):
        show_next_start(session, start)
    session.write_output(document)
    return ExitCode.OK
