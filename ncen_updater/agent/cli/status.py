"""``status``: installed release, availability, current operation, available releases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from ncen_updater.agent.cli.common import agent_command
from ncen_updater.agent.cli.job_progress import describe_current_work, describe_job_wait
from ncen_updater.agent.cli.session import AgentSession, explain_access_error
from ncen_updater.agent.cli.state_text import format_availability, format_site_state
from ncen_updater.agent.config.errors import ConfigError
from ncen_updater.agent.engine.approvals.approval import describe_consumed_approvals
from ncen_updater.agent.model.change import ChangeState, StepState
from ncen_updater.agent.model.errors import NOT_ADOPTED, JournalMissingError, JournalPermissionError
from ncen_updater.agent.model.event_names import RESTORED_APPROVAL_PREFIX
from ncen_updater.agent.policy.availability import Availability, AvailabilityState
from ncen_updater.agent.policy.operation_labels import describe_running_operation, label_operation
from ncen_updater.agent.reports.change_lines import format_ended_sessions, format_undone_result
from ncen_updater.agent.service.errors import parse_error_document
from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.program import show_error
from ncen_updater.common.cli.render import (
    format_amount,
    format_duration,
    format_scheduled_time,
    format_time,
    make_sentence,
)
from ncen_updater.common.cli.usage import NOTHING_CHANGED
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure
from ncen_updater.common.json_records import error_to_json
from ncen_updater.common.labels import (
    FAILED_ACTION,
    NEXT_ON_PATH,
    RELEASE_EXCLUDED,
    find_failure_command,
    format_hold,
    format_upgrade_path,
    format_withdrawal,
    translate_step_label,
)
from ncen_updater.common.messages import ExitCode
from ncen_updater.feed.clock import find_clock_findings

Document = Mapping[str, Any]

#: Displayed text instead of the journal's state of an unfinished step.
STEP_STATES = {
    StepState.INTENDED: N_("not finished"),
    StepState.UNDOING: N_("being reverted"),
    StepState.UNDONE: N_("reverted"),
}


@agent_command
def status(session: AgentSession) -> ExitCode:
    found = session.get_record_reader().read_status()
    _show_parts(session, found)
    if "service" in found:
        held, holder = (found["journal"].get(name) for name in ("holds", "lock_holder"))
        _show_service(session, found["service"], held=bool(held), busy=holder is not None)
    parts = [found.get(name) for name in ("running", "journal", "feed", "configuration")]
    found_errors = [
        _explain_rights(session, parse_error_document(part["error"]))
        for part in parts
        if part is not None and "error" in part
    ]
    # One cause may make several parts unreadable: say it once.
    errors = list({(error.code, str(error)): error for error in found_errors}.values())
    if not errors:
        session.write_output(found)
        return ExitCode.OK
    chosen = found["running"].get("version", "-") is not None
    if [error.code for error in errors] == [JournalMissingError.message.code] and not chosen:
        session.add_line(LazyText(NOT_ADOPTED))
        session.write_output(found)
        return ExitCode.OK
    worst = max(errors, key=lambda e: e.exit_code)
    state = _describe_state(session)
    if session.as_json:
        session.write_output({**found, "error": error_to_json(worst, state, session.language)})
        return worst.exit_code
    session.write_output(found)
    for error in errors:
        error.state = None  # the site's state, which was just shown
        show_error(session, error, lambda _: state)
    return worst.exit_code


def _explain_rights(session: AgentSession, error: UpdaterError) -> UpdaterError:
    """Explain missing permissions and how to get them, if the error concerns permissions."""
    if error.code != JournalPermissionError.message.code:
        return error
    return (
        explain_access_error(
            JournalPermissionError(path=error.values.get("path", "-")), session.config
        )
        or error
    )


def _describe_state(session: AgentSession) -> Sequence[LazyText]:
    try:
        status = session.read_status()
    except ConfigError:
        return [NOTHING_CHANGED]
    return format_site_state(status, status)


def _show_service(
    session: AgentSession, state: Document, *, held: bool = False, busy: bool = False
) -> None:
    """Show the current operation of the service and its failures.

    Args:
        session: The session.
        state: The service's description of its work.
        held: Whether upgrades are on hold; the service's reason may be older than the hold and
            would suggest that an upgrade starts nevertheless.
        busy: Whether the running operation, for which the service waits, was already shown.
    """
    if state.get("running") is None:
        why = state.get("reason")
        if why and not held and not busy:
            session.add_line(LazyText("{why}", {"why": make_sentence(str(why))}))
    for what, amount in describe_current_work(state) if state.get("running") else ():
        message = what.render(session.language)
        if amount is not None:
            message = f"{message}, {format_amount(amount).render(session.language)}"
        figure = LocalizedFigure(message, **{session.language: message})
        session.add_line(LazyText(N_("Operation: {what}"), {"what": figure}))
    for failure in state.get("failures", ()):
        values = {
            "what": label_operation(failure["action"]), "times": failure["failures"],
            "code": failure["code"] or "-", "at": session.when(failure["at"]),
            "command": find_failure_command(failure["action"]),
        }  # fmt: skip
        session.add_line(LazyText(FAILED_ACTION, values))


def _show_parts(session: AgentSession, document: Document) -> None:
    """Show the readable parts."""
    displays: dict[str, Callable[[AgentSession, Document, Any], None]] = {
        "running": _show_running,
        "clock": _show_clock,
        "journal": _show_journal,
        "feed": _show_feed,
    }
    for name, show in displays.items():
        part = document[name]
        if part is None or "error" not in part:
            show(session, document, part)


def _show_running(session: AgentSession, document: Document, part: Document) -> None:
    text = (
        N_("Not adopted: no release of {product} installed ({site}, {country})")
        if part["version"] is None
        else N_("Installed: {product} {version} ({site}, {country})")
    )
    names = {name: document[name] for name in ("product", "site", "country")}
    session.add_line(LazyText(text, {**names, "version": part["version"]}))
    seen = part["availability"]
    if part["version"] is not None:
        for line in format_availability(
            Availability.from_json(seen), part["version"], session.zone
        ):
            session.add_line(line)
        _show_next_command(session, document, Availability.from_json(seen))
    full = part.get("full_disk")
    if full is not None:
        values = {
            "path": full["path"], "free_bytes": full["free"], "missing_bytes": full["needed"],
        }  # fmt: skip
        session.add_line(LazyText(N_("Disk full: {path}, {free_bytes} free"), values))
        session.add_line(LazyText(N_("Free at least {missing_bytes} there."), values))


def _show_next_command(session: AgentSession, document: Document, seen: Availability) -> None:
    """Show the command that makes the application available, unless another problem comes first."""
    journal = document["journal"]
    first = "error" in journal or journal["open_change"] or journal["lock_holder"]
    if first or document["running"].get("full_disk"):
        return
    command: str | None = "ncen-updater doctor"
    if seen.state is AvailabilityState.NOT_RUNNING:
        command = session.find_start_command()
    elif seen.state is AvailabilityState.AVAILABLE and not seen.missing_parts:
        command = None
    if command is not None:
        session.add_line(LazyText(N_("  Run: {command}"), {"command": command}))


def _show_clock(session: AgentSession, document: Document, part: Document | None) -> None:
    if part is None:
        return
    newest = datetime.fromisoformat(part["signed_at"])
    for finding in find_clock_findings(_get_report_time(document), newest, session.zone):
        session.add_line(finding.title)
        _add_detail(session, finding.remedy)


def _show_journal(session: AgentSession, document: Document, part: Document) -> None:
    holder, change, last = part["lock_holder"], part["open_change"], part["last_change"]
    served = bool(document.get("service", {}).get("running"))  # shown at the end
    if holder is not None and not served:
        session.add_line(
            describe_running_operation(
                strip_control_characters(holder), _find_soaking_release(change)
            )
        )
    if change is not None:
        _show_open_change(
            session, change, _get_report_time(document),
            busy=holder is not None or served,
            service_runs="service" in document,
        )  # fmt: skip
    elif last is not None:
        show_last_change(session, last)
    if part["confirmed_by"]:
        values = {"name": strip_control_characters(part["confirmed_by"])}
        words = N_("  confirmed by {name}")
        if (change or last or {}).get("contract_abandoned"):
            words = N_("  confirmed by {name}; final migrations not finished")
        session.add_line(LazyText(words, values))
    if part["consumed_approvals"]:
        session.add_line(
            describe_consumed_approvals(
                [strip_control_characters(who) for who in part["consumed_approvals"]]
            )
        )
    pending = part["pending_rollback"]
    if pending is not None:
        text = (
            N_("Rollback of {version} pending. Run: sudo ncen-updater resume")
            if pending["automatic"]
            else N_("Rollback of {version} failed. Run: ncen-updater doctor")
        )
        session.add_line(LazyText(text, {"version": pending["version"]}))
    _show_queued_job(session, document, part)
    _show_holds(session, part)
    _show_approvals(session, document, part)
    _show_schedules(session, part)
    rollback = part["rollback_approved"]
    if rollback is not None:
        for line in format_rollback_approvals(rollback):
            session.add_line(line)
    for row in part["bad_releases"]:
        row_values = {
            "version": row["version"], "times": row["failures"], "code": row["code"],
            "at": session.when(row["last_at"]),
        }  # fmt: skip
        words = N_(
            "Marked bad: {version}, {times} failures, last {at} ({code}). Run: ncen-updater history"
        )
        session.add_line(LazyText(words, row_values))


def _show_approvals(session: AgentSession, document: Document, part: Document) -> None:
    """Show the approvals, or else the rehearsal, and the command that continues the upgrade."""
    first = next((row for row in part["approvals"] if row["next"]), None)
    for row in part["approvals"]:
        session.add_line(_format_approval(row, first))
    command = _find_next_command(document)
    if command is not None and not _may_service_run(session):
        if not part["approvals"]:
            session.add_line(LazyText(N_("Rehearsed: {version}"), {"version": part["rehearsed"]}))
        session.add_line(LazyText(N_("  Run: {command}"), {"command": command}))


def _may_service_run(session: AgentSession) -> bool:
    """Return whether the service, which acts by itself, runs; also if this user cannot know."""
    try:
        return session.get_local_site().is_service_running()
    except PermissionError:
        return True


def _find_next_command(document: Document) -> str | None:
    """Return the command that continues the next upgrade; None where another line says it."""
    part = document["journal"]
    if (
        "service" in document
        or "error" in part
        or part["open_change"]
        or part["pending_rollback"]
        or part["lock_holder"]
        or part["holds"]
    ):
        return None
    if any(row["valid"] is False for row in part["approvals"]):
        return None
    for row in part["approvals"]:
        restored = row["version"].startswith(RESTORED_APPROVAL_PREFIX)
        if row["next"] and not row["unavailable"] and not restored:
            return f"ncen-updater upgrade {row['version']}"
    rehearsed = part["rehearsed"]
    if rehearsed is None or rehearsed in {row["version"] for row in part["bad_releases"]}:
        return None
    return f"ncen-updater approve {rehearsed}"


def _show_holds(session: AgentSession, part: Document) -> None:
    for hold in part["holds"]:
        session.add_line(format_hold(hold, session.zone))
    if part["holds"]:
        session.add_line(LazyText(N_("  To remove all holds, run: ncen-updater unhold")))


def _show_schedules(session: AgentSession, part: Document) -> None:
    for row in part["schedules"]:
        values = {
            "version": row["version"],
            "at": format_scheduled_time(datetime.fromisoformat(row["not_before"]), session.zone),
            "by": strip_control_characters(row["actor"]),
        }  # fmt: skip
        words = N_("Upgrade to {version} scheduled for {at} by {by}")
        session.add_line(LazyText(words, values))


def _show_queued_job(session: AgentSession, document: Document, part: Document) -> None:
    """Show the queued job and what it waits for."""
    job = part["waiting_job"]
    if job is None:
        return
    values = {
        "who": strip_control_characters(job["actor"]),
        "what": label_operation(job["kind"]),
        "job": job["id"],
    }
    session.add_line(LazyText(N_("Queued by {who}: {what}"), values))
    waits = describe_job_wait(document, session.zone)
    if waits is not None:
        _add_detail(session, waits)


def _format_approval(row: Document, first: Document | None) -> LazyText:
    """Return who approved a release, and whether it will be installed."""
    values: dict[str, object] = {
        "version": row["version"], "who": ", ".join(row["approvers"]), "count": row["missing"],
        "first": first and first["version"],
    }  # fmt: skip
    restored = str(row["version"]).removeprefix(RESTORED_APPROVAL_PREFIX)
    if restored != row["version"]:
        words = N_(
            "Waiting for approval of the restored databases: {count} missing; approved by "
            "{who}. Run: sudo ncen-updater adopt --restored {version} --reason TEXT"
        )
        return LazyText(words, {**values, "version": restored})
    if row["unavailable"]:
        words = N_("Approved, but no longer available: {version}, by {who}")
    elif row["valid"] is False:
        words = N_(
            "Approval of {version} by {who} is outdated. Run: ncen-updater approve "
            "{version} --dry-run"
        )
    elif row["missing"]:
        words = N_("Waiting for approval of {version}: {count} missing; approved by {who}")
    elif first is not None and not row["next"]:
        words = N_("Approved: {version}, by {who}; {first} is installed first")
    # the upgrade is running, or the service has not assessed the approval yet
    elif row["valid"] is None:
        words = N_("Approved: {version}, by {who}")
    else:
        words = N_("Approved: {version}, by {who}; next upgrade")
    return LazyText(words, values)


def format_rollback_approvals(approvals: Document) -> Iterator[LazyText]:
    """Yield the approvals of a rollback, their accepted loss, and the next command."""
    from ncen_updater.agent.engine.approvals.rollback_approvals import format_accept_loss_option

    values = {
        "version": approvals["version"],
        "who": ", ".join(approvals["approvers"]),
        "count": approvals["missing"],
        "loss": format_accept_loss_option(approvals["accept_loss"]),
    }
    words = N_("Approved: rollback to {version}, by {who}. Run: ncen-updater rollback{loss}")
    if approvals["missing"]:
        words = N_(
            "Waiting for approval of the rollback to {version}: {count} missing; approved by {who}."
            " Run: ncen-updater approve --rollback{loss}"
        )
    yield LazyText(words, values)
    words = N_(
        "  Valid until the next change. To withdraw your approval, run: ncen-updater approve "
        "--rollback --withdraw"
    )
    yield LazyText(words)


def _find_soaking_release(change: Document | None) -> str | None:
    """Return the release in its soak period; None without one."""
    soaks = change is not None and change["state"] == ChangeState.COMMITTED
    return str(change["to"]) if change is not None and soaks else None


def _get_report_time(document: Document) -> datetime:
    return datetime.fromisoformat(document["at"])


def _show_open_change(
    session: AgentSession, change: Document, now: datetime, *, busy: bool, service_runs: bool
) -> None:
    started = datetime.fromisoformat(change["created_at"])
    interrupted = not busy and change["state"] in (ChangeState.RUNNING, ChangeState.REVERTING)
    state = N_("interrupted") if interrupted else change["state"]
    values = {
        "kind": _translate(session, change["kind"]),
        "version": change["to"],
        "change": change["id"],
        "state": _translate(session, state),
        "since": format_time(started, session.zone),
        "age": format_duration(max(0.0, (now - started).total_seconds())),
        "step": translate_step_label(str(change["step"]), change["kind"], session.language),
        "step_state": _translate(
            session, STEP_STATES.get(change["step_state"], change["step_state"])
        ),
    }
    session.add_line(
        LazyText(
            N_("Change {change}: {kind} to {version}, {state}, started {since} ({age} ago)"),
            values,
        )
    )
    until = change["soak_ends_at"]
    if until is not None:
        words = N_("  Soak period until {until}. To end it now, run: ncen-updater confirm")
        if datetime.fromisoformat(until) <= now:  # its timer was paused
            words = N_("  Soak period. To end it now, run: ncen-updater confirm")
        session.add_line(LazyText(words, {"until": session.when(until)}))
        if busy and change["next_version"] is not None:
            following = LazyText(NEXT_ON_PATH, {"version": change["next_version"]})
            _add_detail(session, following)
    elif change["contracting"]:
        words = (
            N_("  Final migrations in progress; rollback stays possible")
            if busy
            else N_("  Final migrations pending")
        )
        session.add_line(LazyText(words))
    elif change["step"] is not None:
        session.add_line(LazyText(N_("  Last step: {step} ({step_state})"), values))
    if busy:
        return
    if service_runs and change["state"] != ChangeState.STUCK:
        session.add_line(LazyText(N_("  The service resumes it automatically.")))
    elif change["state"] == ChangeState.STUCK:
        _add_detail(session, LazyText(N_("Run ncen-updater doctor, then contact the Secretariat.")))
    elif change["state"] == ChangeState.COMMITTED:
        _add_detail(session, LazyText(N_("To complete the change, run: sudo ncen-updater resume")))
    else:
        _add_detail(session, LazyText(N_("Run: sudo ncen-updater resume")))


def _add_detail(session: AgentSession, line: LazyText) -> None:
    session.add_line(LazyText("  {line}", {"line": line}))


def _translate(session: AgentSession, word: str | None) -> str:
    """Return an identifier translated into the language of the session."""
    return "-" if word is None else session.translate(word)


def show_last_change(session: AgentSession, change: Document) -> None:
    """Show the result of the last change."""
    values = {
        "kind": _translate(session, change["kind"]), "version": change["to"],
        "state": _translate(session, change["state"]), "change": change["id"],
        "at": session.when(change["ended_at"] or change["created_at"]),
    }  # fmt: skip
    session.add_line(
        LazyText(N_("Last change: {kind} to {version}, {state} {at} ({change})"), values)
    )
    for line in format_ended_sessions(change):
        session.add_line(line)
    if change["state"] == ChangeState.REVERTED:
        session.add_line(format_undone_result(change))
        session.add_line(
            LazyText(N_("  For the cause, run: ncen-updater history {change}"), values)
        )


def _format_withheld_release(session: AgentSession, one: Document) -> LazyText:
    """Return why a newer release is withheld, in the same words as ``check``."""
    from ncen_updater.feed.upgrade_path import RejectionReason, format_rejection

    opens = one["opens"]
    reason = format_rejection(
        RejectionReason(one["reason"]), why=one["explanation"], opens=opens and session.when(opens)
    )
    return LazyText(RELEASE_EXCLUDED, {"version": one["version"], "reason": reason})


def _show_plan_command(session: AgentSession, document: Document, newest: str) -> None:
    """Show the command that shows the upgrade path."""
    running, journal = document["running"].get("version"), document["journal"]
    if (
        running not in (None, newest)
        and not journal.get("open_change")
        and _find_next_command(document) is None
    ):
        _add_detail(session, LazyText(N_("To see the upgrade plan, run: ncen-updater plan")))


def _show_feed(session: AgentSession, document: Document, part: Document | None) -> None:
    if part is None:
        session.add_line(LazyText(N_("No metadata yet. Run: ncen-updater check")))
        return
    values = {
        "newest": part["versions"][-1] if part["versions"] else "-",
        "checked": session.when(part["checked_at"]),
        "expires": session.when(part["expires_at"]),
    }  # fmt: skip
    session.add_line(
        LazyText(N_("Newest release in the feed: {newest} (checked {checked})"), values)
    )
    if part["hops"]:
        following = {"version": format_upgrade_path(part["hops"])}
        session.add_line(LazyText(N_("Available: {version}"), following))
    elif not part["withheld"] and part["versions"] and "service" not in document:
        _show_plan_command(session, document, part["versions"][-1])
    for one in part["withheld"]:
        session.add_line(_format_withheld_release(session, one))
    notice = part["running_withdrawn"]
    if notice is not None:
        running = document["running"].get("version")
        for line in format_withdrawal(
            document["product"], str(running), notice["reason"], notice["advice"]
        ):
            session.add_line(line)
    for halt in part["emergency_halts"]:
        words = N_("Emergency halt of {product} {version} by {owner} until {until}: {reason}")
        named = {"product": document["product"], "until": session.when(halt["until"])}
        session.add_line(LazyText(words, {**halt, **named}))
    if part["stale"]:
        session.add_line(
            LazyText(N_("Metadata expired {expires}. Run: ncen-updater check"), values)
        )
