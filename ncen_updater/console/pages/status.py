"""Page *Now*: the status in one sentence, pending items, and the next action."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from ncen_updater.common.cli.render import format_time, make_sentence
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.labels import (
    FAILED_ACTION,
    NEXT_ON_PATH,
    find_failure_command,
    format_hold,
    format_upgrade_path,
    format_upgrade_start,
)
from ncen_updater.console.page_request import PageContent, PageRequest
from ncen_updater.console.pages.upgrade import has_failed_here
from ncen_updater.console.rendering import format_soak_period, parse_time
from ncen_updater.console.service_client import Document, ServiceRefusedError

#: State of a change that requires manual intervention.
STUCK_STATE = "stuck"
SOAK_STEPS = frozenset({"soak", "prune"})
#: Tone, label and sentence by the availability of the application.
HEADLINES: Mapping[str, tuple[str, str, str]] = {
    "available": ("good", N_("Running"), N_("{product} {version} is running; users can work")),
    "maintenance": ("wait", N_("Maintenance"), N_("Maintenance page shown; users cannot work")),
    "not-running": ("bad", N_("Stopped"), N_("{product} {version} is stopped; users cannot work")),
    "unhealthy": ("bad", N_("Failed"), N_("{product} {version} is running but unhealthy")),
    "unknown": ("wait", N_("Unknown"), N_("Unknown whether users can work")),
}


@dataclass(frozen=True)
class NextAction:
    """The next action.

    Attributes:
        action: ``look``, ``job`` or ``unhold``; empty for none.
        reason: Why it is needed.
        button: Label of the button.
        role: Role that may perform it.
        job_kind: Kind of the job for ``job``.
        link: Page on which it is performed.
    """

    action: str
    reason: LazyText
    button: LazyText
    role: str = "read"
    job_kind: str = ""
    link: str = ""


def build_page(asking: PageRequest) -> PageContent:
    """Build the status page."""
    status = asking.get_status()
    journal_broken = _find_error(status, "journal")
    next_upgrade = None
    if journal_broken is None:
        try:
            next_upgrade = asking.get_document("/v1/next-upgrade")
        except ServiceRefusedError:
            next_upgrade = None  # the status is available without the next upgrade
    todo = find_next_action(status, next_upgrade)
    tone, state_word, sentence = build_headline(status)
    return PageContent(
        "status",
        {
            "sentence": sentence,
            "state_word": state_word,
            "tone": tone,
            "todo": todo,
            "may": asking.find_missing_role(todo.role)
            if todo.action and todo.role != "read"
            else None,
            "waits": list(list_pending(status, next_upgrade, asking.zone)),
            "status": status,
            "next_upgrade": next_upgrade,
            "path": format_upgrade_path(next_upgrade["hops"])
            if next_upgrade and next_upgrade["hops"] and not _find_open_change(status)
            else None,
            "errors": [
                error
                for error in (_find_error(status, name) for name in ("running", "journal", "feed"))
                if error is not None
            ],
            "wrong": _find_error(status, "configuration"),
        },
        state="empty" if not todo.action else "ready",
    )


def build_hold_page(asking: PageRequest) -> PageContent:
    """Build the page with the form that puts upgrades on hold."""
    return PageContent(
        "hold", {"status": asking.get_status(), "may": asking.find_missing_role("operate")}
    )


def _find_error(status: Document, name: str) -> Document | None:
    part = status.get(name)
    found = part.get("error") if isinstance(part, dict) else None
    return found if isinstance(found, dict) else None


def build_headline(status: Document) -> tuple[str, str, LazyText]:
    """Return tone, label and headline of the status. Pure."""
    running = status["running"]
    if "error" in running:
        _, label, words = HEADLINES["unknown"]
        return "bad", label, LazyText(words)
    names = {"product": status["product"], "version": running["version"]}
    if running["version"] is None:
        return "wait", N_("Not adopted"), LazyText(N_("No release of {product} installed"), names)
    state = str((running.get("availability") or {"state": "unknown"})["state"])
    change = _find_open_change(status)
    if state == "maintenance" and change is not None:
        names["version"] = change["to"]
        if change["kind"] == "rollback":
            words = N_("Rolling back to {product} {version}; users cannot work")
            return "wait", N_("rolling back"), LazyText(words, names)
        words = N_("Upgrading to {product} {version}; users cannot work")
        return "wait", N_("upgrading"), LazyText(words, names)
    tone, label, words = HEADLINES.get(state, HEADLINES["unknown"])
    return tone, label, LazyText(words, names)


def _find_open_change(status: Document) -> Document | None:
    journal = status["journal"]
    found: Document | None = None if "error" in journal else journal["open_change"]
    return found


def _list_undone_failures(journal: Document) -> Iterator[LazyText]:
    """Yield the release that failed here and that the last change rolled back."""
    last = journal["open_change"] or journal["last_change"]
    if last is not None and last["kind"] == "rollback":
        for bad in (row for row in journal["bad_releases"] if row["version"] == last["from"]):
            yield LazyText(N_("{version} failed at this site ({code})"), bad)


def list_pending(
    status: Document, next_upgrade: Document | None, zone: tzinfo | None = None
) -> Iterator[LazyText]:
    """Yield the pending items: holds, approvals, soak period, start time, failures. Pure."""
    journal = status["journal"]
    if "error" in journal:
        return
    for hold in journal["holds"]:
        yield format_hold(hold, zone)
    if journal.get("consumed_approvals"):
        values = {"who": ", ".join(journal["consumed_approvals"])}
        yield LazyText(
            N_(
                "An approval is valid for one attempt. To retry, these approvers must approve"
                " again: {who}"
            ),
            values,
        )
    if journal.get("rollback_approved"):
        yield from _format_rollback_approvals(journal["rollback_approved"])
    change = journal["open_change"]
    soak = format_soak_period(change or {}, parse_time(status["at"]), zone)
    if change is not None and soak is not None:
        yield soak
        if change["next_version"] is not None:
            yield LazyText(NEXT_ON_PATH, {"version": change["next_version"]})
    yield from _list_undone_failures(journal)
    # During an open change the data on the next upgrade is outdated, and nothing can be approved.
    if next_upgrade is not None and next_upgrade["target"] is not None and change is None:
        version = next_upgrade["target"]
        for approval in next_upgrade["approvals"]:
            values = {"by": approval["actor"], "version": version}
            yield LazyText(N_("Upgrade to {version} approved by {by}"), values)
        if next_upgrade["binding"] and next_upgrade["missing"]:
            values = {"version": version, "count": next_upgrade["missing"]}
            yield LazyText(N_("Waiting for approval of {version}: {count} missing"), values)
        if not next_upgrade["missing"]:
            yield format_upgrade_start(next_upgrade["starts_at"], zone)
    elif status["service"]["reason"] and status["service"]["running"] is None:
        yield LazyText("{why}", {"why": make_sentence(str(status["service"]["reason"]))})
    for failure in status["service"]["failures"]:
        values = {
            "what": failure.get("title") or failure["action"], "times": failure["failures"],
            "code": failure["code"] or "-", "at": format_time(parse_time(failure["at"]), zone),
            "command": find_failure_command(failure["action"]),
        }  # fmt: skip
        yield LazyText(FAILED_ACTION, values)


def _format_rollback_approvals(approvals: Document) -> Iterator[LazyText]:
    """Yield who approved the rollback, what is missing, and the accepted data loss."""
    for who in approvals["approvers"]:
        values = {"by": who, "version": approvals["version"]}
        yield LazyText(N_("Rollback to {version} approved by {by}"), values)
    if approvals["missing"]:
        yield LazyText(N_("Rollback needs {count} more approvals"), {"count": approvals["missing"]})
    elif approvals["accept_loss"]:
        words = N_("Rollback approved with a data loss of at most {count} records")
        yield LazyText(words, {"count": approvals["accept_loss"]})
    else:
        yield LazyText(N_("Rollback approved without data loss"))


def find_next_action(status: Document, next_upgrade: Document | None) -> NextAction:
    """Return the next action. Pure."""
    nothing = NextAction("", LazyText(N_("No action required.")), LazyText(""))
    journal, running = status["journal"], status["service"]["running"]
    if "error" in journal:
        reason = LazyText(N_("Cannot read the journal."))
        return NextAction("look", reason, LazyText(N_("Show problems")), link="/help")
    change = journal["open_change"]
    if change is not None:
        return _find_change_action(
            change, busy=journal["lock_holder"] is not None or running is not None
        )
    if running is not None:
        reason = LazyText(N_("In progress: {title}"), {"title": running["title"]})
        return NextAction("look", reason, LazyText(N_("Show activity")), link="/live")
    if journal.get("pending_rollback") is not None:
        values = {"version": journal["pending_rollback"]["version"]}
        reason = LazyText(N_("Rollback of {version} pending"), values)
        return NextAction("job", reason, LazyText(N_("Resume")), "operate", "resume")
    if journal["holds"]:
        reason = LazyText(N_("Upgrades are on hold."))
        return NextAction("unhold", reason, LazyText(N_("Remove hold")), "operate")
    if next_upgrade is not None and next_upgrade["target"] is not None:
        return _find_release_action(next_upgrade, journal, status["you"]["roles"])
    feed = status["feed"]
    if feed is None or "error" in feed or feed["stale"]:
        reason = LazyText(N_("Metadata expired or missing: new releases are unknown."))
        return NextAction("job", reason, LazyText(N_("Check now")), "operate", "check")
    return nothing


def _find_change_action(change: Mapping[str, Any], *, busy: bool) -> NextAction:
    values = {"version": change["to"], "kind": LazyText(change["kind"])}
    if change["state"] == "committed" and change["step"] in SOAK_STEPS:
        reason = LazyText(N_("Soak period: {version}"), values)
        return NextAction("look", reason, LazyText(N_("Show activity")), link="/live")
    if busy and change["state"] != STUCK_STATE:
        reason = LazyText(N_("In progress: {kind} to {version}"), values)
        return NextAction("look", reason, LazyText(N_("Show activity")), link="/live")
    reason = LazyText(N_("Interrupted: {kind} to {version}"), values)
    return NextAction("job", reason, LazyText(N_("Resume")), "operate", "resume")


def _find_release_action(
    next_upgrade: Document, journal: Document, roles: Sequence[str]
) -> NextAction:
    values = {"version": format_upgrade_path(next_upgrade["hops"])}
    if next_upgrade["missing"] and has_failed_here(next_upgrade, journal):
        reason = LazyText(
            N_("{version} failed at this site. To retry it, it must be approved."), values
        )
        return NextAction("look", reason, LazyText(N_("Show history")), link="/history")
    if next_upgrade["rehearsal_status"] != "passed" or not next_upgrade["binding"]:
        reason = LazyText(N_("{version} is available. Rehearsal required."), values)
        return NextAction("look", reason, LazyText(N_("Show upgrade")), link="/upgrade")
    if next_upgrade["missing"]:
        reason = LazyText(N_("Rehearsed: {version}. Approval required."), values)
        button = N_("Review and approve") if "approve" in roles else N_("Show the dossier")
        return NextAction("look", reason, LazyText(button), link="/approve")
    reason = LazyText(N_("Approved: {version}"), values)
    return NextAction("look", reason, LazyText(N_("Install or schedule")), link="/upgrade")
