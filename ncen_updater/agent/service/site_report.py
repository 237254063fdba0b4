"""Documents on the site from disk and journal, for ``status``, ``history`` and JSON output.

No third-party imports, since ``status`` must start fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from packaging.version import Version

from ncen_updater.agent.engine.approvals.approval import (
    count_approvals,
    count_provisional_loss,
    list_approved_releases,
)
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.change_outcome import measure_seconds, serialize_change
from ncen_updater.agent.engine.lock import read_lock_holder
from ncen_updater.agent.engine.rehearsal.rehearsal_store import (
    RehearsalState,
    RehearsalStore,
)
from ncen_updater.agent.model.change import (
    DOWNTIME_STEPS,
    STEPS_BEFORE_COMMIT,
    Change,
    ChangeKind,
    ChangeState,
    StepName,
    StepRecord,
    StepState,
)
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.errors import JournalPermissionError
from ncen_updater.agent.model.event_names import (
    CHANGE_LOCK_FILE,
    IMPORT_REFUSED,
    IMPORTED,
    RECOVERY_STARTED,
    RESTORED_ADOPTED,
    ROLLBACK_EMERGENCY,
)
from ncen_updater.agent.policy.automation import (
    RETRY_DELAYS,
    ActionFailure,
    RehearsalStatus,
    ServiceAction,
)
from ncen_updater.agent.reports.status import (
    JournalSnapshot,
    SiteStatus,
    get_part_or_none,
    require_part,
    require_zones,
)
from ncen_updater.agent.service.errors import build_error_document
from ncen_updater.agent.storage.journal.jobs import JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import JournalEvent, guard_reads, parse_stored_value
from ncen_updater.agent.storage.journal.site_history import FailedReleaseRecord
from ncen_updater.agent.storage.service_state import Assessment
from ncen_updater.common.disk_space import MARGIN_BYTES
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import SOAK_FAILED
from ncen_updater.feed.clock import find_clock_findings

if TYPE_CHECKING:
    from ncen_updater.agent.policy.downtime_prediction import DowntimeRange
    from ncen_updater.agent.storage.service_state import WithheldRelease
    from ncen_updater.feed.feed_summary import FeedSummary


Document = dict[str, object]


#: Number of recent rehearsals searched for failed ones.
REHEARSALS_SEARCHED = 100
#: Steps that a crash interrupts; a soak period simply continues.
_INTERRUPTIBLE_STEPS = frozenset(DOWNTIME_STEPS) | frozenset(STEPS_BEFORE_COMMIT)
_STEP_IN_PROGRESS_EVENTS = frozenset({f"step-{StepState.INTENDED}", f"step-{StepState.UNDOING}"})
#: Parts of the status that :func:`build_site_report` needs.
SITE_REPORT_PARTS = frozenset(
    {
        "current", "configuration_error", "maintenance_on", "availability", "lock_holder",
        "journal", "required_approvals", "soak_s", "feed_view", "emergency_halts", "service_state",
        "full_disk", "signed_at",
    }
)  # fmt: skip


def build_site_report(status: SiteStatus, language: str) -> tuple[Document, list[UpdaterError]]:
    """Return the site's status: running release, last change, available releases.

    Args:
        status: The parts :data:`SITE_REPORT_PARTS` of the site.
        language: Language of the errors that replace unreadable parts.

    Returns:
        The document, and these errors.
    """
    document: Document = {
        "site": status.paths.site_id,
        "country": status.paths.country,
        "product": status.paths.product,
        "at": status.now,
    }
    parts: Mapping[str, Callable[[SiteStatus], Document | None]] = {
        "running": _build_running,
        "journal": _build_journal,
        "feed": _build_feed,
        "configuration": _build_configuration,
        "clock": _build_clock,
    }
    errors: list[UpdaterError] = []
    for name, part in parts.items():
        try:
            document[name] = part(status)
        except (UpdaterError, OSError) as error:
            if isinstance(error, PermissionError):
                known: UpdaterError = JournalPermissionError(
                    path=error.filename or status.paths.state
                )
            else:
                known = (
                    error if isinstance(error, UpdaterError) else UpdaterError(detail=str(error))
                )
            errors.append(known)
            document[name] = build_error_document(known, [], language)
    return document, errors


def _build_running(status: SiteStatus) -> Document:
    version, in_maintenance = require_part(status.current), require_part(status.maintenance_on)
    availability = require_part(status.availability)
    return {
        "version": version,
        "open_to_users": None if in_maintenance is None else not in_maintenance,
        "availability": {
            **availability.to_json(),
            # texts not yet translated
            "detail": availability.detail,
            "unknown_because": availability.unknown_because,
        },
        **_build_full_disk(status),
    }


def _build_clock(status: SiteStatus) -> Document | None:
    """Return the clock's error according to the newest signed time; None without an error."""
    newest = get_part_or_none(status.signed_at)
    found = find_clock_findings(status.now, newest, None)
    return {"code": found[0].code, "signed_at": newest} if found else None


def _build_full_disk(status: SiteStatus) -> Document:
    """Return a full disk separately, since other parts report it only as failures."""
    found = get_part_or_none(status.full_disk)
    if found is None:
        return {}
    return {"full_disk": {"path": str(found[0]), "free": found[1], "needed": MARGIN_BYTES}}


def _build_configuration(status: SiteStatus) -> Document:
    error = status.configuration_error
    if isinstance(error, Exception):  # an invalid configuration, or why it could not be checked
        raise error
    return {"checked": True}


def _build_journal(status: SiteStatus) -> Document:
    holder, journal = require_part(status.lock_holder), require_part(status.journal)
    last, pending, job = journal.last_change, journal.pending_rollback, journal.waiting_job
    return {
        "lock_holder": holder,
        "chain_head": journal.head or None,
        "open_change": build_open_change(status),
        "pending_rollback": pending
        and {
            "version": pending.change.to_version,
            "attempts": pending.attempts,
            "automatic": pending.is_automatic,
        },
        "last_change": serialize_change(last, journal.last_facts) if last else None,
        "waiting_job": job
        and {"id": job.id, "kind": job.kind.value, "actor": job.actor.name, "at": job.requested_at},
        "holds": list(journal.holds),
        "bad_releases": [
            bad for bad in journal.bad_releases if not _is_resolved(status, journal, bad)
        ],
        "approvals": _build_approvals(
            journal, get_part_or_none(status.required_approvals), status.next_upgrade
        ),
        "schedules": [
            {"version": one.to_version, "not_before": one.not_before, "actor": one.actor}
            for one in journal.schedules
        ],
        "rollback_approved": _build_rollback_approvals(
            journal, get_part_or_none(status.required_approvals), get_part_or_none(status.current)
        ),
        "consumed_approvals": list(journal.consumed_approvals),
        "rehearsed": _find_rehearsed(journal, get_part_or_none(status.current)),
        "confirmed_by": journal.last_facts.confirmed_by,
    }


def _build_approvals(
    journal: JournalSnapshot, needed: int | None, assessment: Assessment | None
) -> list[dict[str, object]]:
    """Return the approvals by release, the next to be installed first. Pure.

    The validity of an approval is included only if the assessment is newer than the last event. The
    list is empty if the number of required approvals is unknown, which is reported elsewhere.
    """
    if needed is None:
        return []
    current_assessment = _discard_outdated(assessment, journal)
    unavailable = current_assessment.unavailable if current_assessment else ()
    approved = list_approved_releases(journal.upgrade_approvals, needed)
    first = next((version for version in approved if version not in unavailable), None)
    rest = dict.fromkeys(one.target_version for one in reversed(journal.upgrade_approvals))
    rows: list[dict[str, object]] = []
    for version in dict.fromkeys((*approved, *rest)):
        approvals = [
            one.approval for one in journal.upgrade_approvals if one.target_version == version
        ]
        bindings = dict.fromkeys(approval.binding for approval in reversed(approvals))
        counts = [count_approvals(approvals, binding, needed) for binding in bindings]
        best = min(counts, key=lambda count: count.missing)
        if best.approvals:  # empty if only root approved and two approvals are required
            known = current_assessment.find_release(version) if current_assessment else None
            rows.append(
                {
                    "version": version,
                    "approvers": [approval.actor for approval in best.approvals],
                    "missing": best.missing,
                    "next": version == first,
                    "unavailable": version in unavailable,
                    "valid": known and known.binding == best.approvals[0].binding,
                }
            )
    return rows


def _build_rollback_approvals(
    journal: JournalSnapshot, needed: int | None, current: str | None
) -> dict[str, object] | None:
    """Return the approvals of a rollback from the current release, and their accepted loss. Pure.

    None without approvals, if the number of required approvals is unknown, and while a change is
    open or a rollback is pending, since these need no approval.
    """
    if (
        needed is None
        or current is None
        or journal.open_change is not None
        or journal.pending_rollback is not None
    ):
        return None
    approvals = [
        one for one in journal.rollback_approvals if Version(one.origin) == Version(current)
    ]
    last = approvals[-1] if approvals else None
    count = journal.count_approvals(last.approval.binding if last else "", needed)
    # empty if only root approved and two approvals are required
    if last is None or not count.approvals:
        return None
    return {
        "from": last.origin,
        "version": last.target,
        "approvers": [approval.actor for approval in count.approvals],
        "missing": count.missing,
        "accept_loss": count_provisional_loss(approvals, count),
    }


def _find_rehearsed(journal: JournalSnapshot, current: str | None) -> str | None:
    """Return the release that was rehearsed last and can be approved. Pure."""
    origin, target = journal.rehearsed or (None, None)
    return target if origin is not None and origin == current else None


def _is_resolved(status: SiteStatus, journal: JournalSnapshot, bad: FailedReleaseRecord) -> bool:
    """Return whether the release succeeded after its failure, or a newer one is installed."""
    good_since, current = journal.good_since.get(bad.version), get_part_or_none(status.current)
    if good_since is not None and good_since >= bad.last_at:
        return True
    same = bad.product == status.paths.product
    return same and current is not None and Version(bad.version) < Version(current)


def list_unresolved_failures(
    failures: Mapping[ServiceAction, ActionFailure],
    assessment: Assessment | None,
    status: SiteStatus,
) -> Iterator[tuple[ServiceAction, ActionFailure]]:
    """Yield the failures of the service that nobody has resolved since. Pure.

    Args:
        failures: Failures from the service's state.
        assessment: The last assessment.
        status: The parts :data:`SITE_REPORT_PARTS` of the site.
    """
    view, journal = get_part_or_none(status.feed_view), get_part_or_none(status.journal)
    last = journal.last_change if journal else None
    succeeded = last is not None and (
        last.is_open_after_commit or last.state is ChangeState.FINISHED
    )
    for action, failure in failures.items():
        succeeded_since = succeeded and last is not None and last.created_at >= failure.at
        resolved = {
            ServiceAction.CHECK_FEED: view is not None and view.checked_at >= failure.at,
            ServiceAction.RESUME: journal is not None
            and (journal.open_change is None or journal.open_change.created_at > failure.at),
            ServiceAction.PREPARE: succeeded_since
            or (assessment is not None and (not assessment.target or assessment.slot_built)),
            ServiceAction.REHEARSE: succeeded_since
            or (
                assessment is not None
                and (not assessment.target or assessment.rehearsal_status is RehearsalStatus.PASSED)
            ),
            ServiceAction.UPGRADE: succeeded_since
            or _is_reported_by_change(last, failure)
            or (assessment is not None and not assessment.target),
            ServiceAction.SELF_UPDATE: assessment is not None and assessment.agent_version is None,
            ServiceAction.PRUNE: assessment is not None and assessment.prune_at is None,
            ServiceAction.RUN_JOB: True,  # its requester received the error
        }
        if not resolved.get(action, False):
            yield action, failure


def _is_reported_by_change(last: Change | None, failure: ActionFailure) -> bool:
    """Return whether a reverted change already reports the failure, until the next attempt."""
    if last is None or last.state is not ChangeState.REVERTED or last.ended_at is None:
        return False
    return last.ended_at <= failure.at < last.ended_at + RETRY_DELAYS[0]


def _build_feed(status: SiteStatus) -> Document | None:
    view = require_part(status.feed_view)
    if view is None:
        return None
    assessment = _discard_outdated(status.next_upgrade, require_part(status.journal))
    hops = assessment.hops if assessment else _list_remaining_hops(status, view)
    return {
        "checked_at": view.checked_at,
        "expires_at": view.expires_at,
        "stale": view.is_stale(status.now),
        "version": view.version,
        "versions": list(view.versions),
        "next_release": assessment.target if assessment else None,
        "hops": list(hops),
        "withheld": list(_list_withheld_releases(status)),
        "withdrawn": list(view.withdrawn),
        "running_withdrawn": view.notices.get(str(require_part(status.current))),
        "emergency_halts": [
            {"version": one.version, "until": one.ends, "owner": one.owner, "reason": one.reason}
            for one in get_part_or_none(status.emergency_halts) or ()
        ],
    }


def _list_remaining_hops(status: SiteStatus, view: FeedSummary) -> tuple[str, ...]:
    """Return the path of the last assessment, unless newer facts rule it out.

    The service assesses the site again seconds after each event, such as a check of the feed.
    """
    found, journal = status.next_upgrade, require_part(status.journal)
    if found is None or found.current != require_part(status.current) or journal.open_change:
        return ()
    bad = {release.version for release in journal.bad_releases}
    offered = set(view.versions) - set(view.withdrawn) - bad
    return found.hops if offered.issuperset(found.hops) else ()


def _list_withheld_releases(status: SiteStatus) -> Iterator[WithheldRelease]:
    """Yield newer releases that the Secretariat withholds, except those under an emergency halt."""
    current, halts = require_part(status.current), get_part_or_none(status.emergency_halts) or ()
    for one in status.next_upgrade.withheld if status.next_upgrade is not None else ():
        reported = any(
            halt.version == one.version
            and one.explanation.startswith(f"{halt.reason} [{halt.owner}, ")
            for halt in halts
        )
        if not reported and current is not None and Version(one.version) > Version(current):
            yield one


def _discard_outdated(assessment: Assessment | None, journal: JournalSnapshot) -> Assessment | None:
    """Return the assessment if it was made after the last event; None if it is outdated."""
    return (
        assessment
        if assessment is not None and assessment.last_event == journal.last_event
        else None
    )


def _find_current_step(change: Change) -> tuple[StepName, StepState] | None:
    """Return the current step of a change: the one updated last."""
    order = list(StepName)
    records = [
        r for r in change.steps.values() if r.state in (StepState.INTENDED, StepState.UNDOING)
    ]
    records = records or list(change.steps.values())
    if not records:
        return None
    record = max(records, key=lambda r: order.index(r.name))
    return record.name, record.state


def find_next_version(change: Change, facts: ChangeFacts) -> str | None:
    """Return the release that follows on the path of an upgrade; None without one. Pure."""
    return dict(pairwise(facts.path_versions or ())).get(change.to_version)


def build_open_change(status: SiteStatus) -> Document | None:
    """Return the open change and the end of its soak period; None without an open change.

    Args:
        status: The parts ``journal`` and ``soak_s`` of the site.
    """
    journal = require_part(status.journal)
    if journal.open_change is None:
        return None
    step = _find_current_step(journal.open_change)
    return {
        **serialize_change(journal.open_change, journal.last_facts),
        "step": step[0].value if step else None,
        "step_state": step[1].value if step else None,
        "soak_ends_at": status.soak_until,
        "contracting": status.is_contracting,
        "next_version": find_next_version(journal.open_change, journal.last_facts),
    }


def compute_step_seconds(record: StepRecord) -> float | None:
    """Return the duration of a step; None if it was reverted or has not ended."""
    if record.ended_at is None or record.state is not StepState.DONE:
        return None
    return measure_seconds(record.started_at, record.ended_at)


def _measure_attempt(events: Sequence[JournalEvent], record: StepRecord) -> float | None:
    """Return how long a reverted step took until it was done or failed."""
    if record.state is StepState.INTENDED:
        return None
    ended = [
        event.at
        for event in events
        if event.kind in ("step-done", "step-failed") and event.data.get("step") == record.name
    ]
    return measure_seconds(record.started_at, ended[-1]) if ended else None


def build_history_report(journal: Journal, limit: int, before: str | None = None) -> Document:
    """Return changes, imports and failed rehearsals, each newest first.

    Args:
        journal: The journal.
        limit: Maximum number of each.
        before: ID of a change; return only earlier changes.

    Raises:
        KeyError: If the journal has no change with this ID.
        JournalUnreadableError: If the journal has invalid content.
    """
    from ncen_updater.agent.engine.rehearsal.downtime_forecasts import find_predicted_ranges

    changes = (
        journal.list_changes(limit)
        if before is None
        else _list_changes_before(journal, before, limit)
    )
    facts = {change.id: journal.read_facts(change.id) for change in changes}
    predictions = find_predicted_ranges(journal, set(facts))
    return {
        "changes": [
            {
                **serialize_change(change, facts[change.id]),
                "predicted_downtime_s": _build_range(predictions.get(change.id)),
                "error_code": change.error_code
                or (SOAK_FAILED.code if facts[change.id].soak_error else None),
                "interrupted": _is_interrupted(journal, change),
            }
            for change in changes
        ],
        "imports": [
            {"at": event.at, "kind": event.kind, **event.data}
            for event in _list_newest_events(journal, (IMPORTED, IMPORT_REFUSED), limit)
        ],
        "failed_rehearsals": list(_list_failed_rehearsals(journal, limit)),
        "adopted_restores": [
            {
                "at": event.at,
                "version": event.data.get("release"),
                "by": event.data.get("by"),
                "reasons": event.data.get("reasons", []),
            }
            for event in _list_newest_events(journal, (RESTORED_ADOPTED,), limit)
        ],
    }


def _is_interrupted(journal: Journal, change: Change) -> bool:
    """Return whether a change is incomplete and no process is working on the site."""
    if change.state not in (ChangeState.RUNNING, ChangeState.REVERTING):
        return False
    try:
        holder = read_lock_holder(journal.path.parent / CHANGE_LOCK_FILE)
    except OSError:  # without read permission the holder is unknown
        return False
    # The change may have ended since it was read.
    return holder is None and journal.read_change(change.id).state is change.state


def _list_failed_rehearsals(journal: Journal, limit: int) -> Iterator[Document]:
    """Yield failed rehearsals, newest first; these are not part of any change."""
    known = {
        record.id: record for record in RehearsalStore(journal).list_newest(REHEARSALS_SEARCHED)
    }
    for event in _list_newest_events(journal, (f"rehearsal-{RehearsalState.FAILED}",), limit):
        record = known.get(str(event.data.get("rehearsal")))
        if record is not None:
            yield {
                "at": event.at, "from": record.from_version, "version": record.to_version,
                "code": record.error_code, "error": event.data.get("error"),
            }  # fmt: skip


def _list_changes_before(journal: Journal, change_id: str, limit: int) -> tuple[Change, ...]:
    """Return the changes that were started before a given one, newest first."""
    ids = [row["id"] for row in journal.query("SELECT id FROM changes ORDER BY rowid DESC")]
    if change_id not in ids:
        raise KeyError(change_id)
    begin = ids.index(change_id) + 1
    return tuple(map(journal.read_change, ids[begin : begin + limit]))


def _list_newest_events(
    journal: Journal, kinds: Sequence[str], limit: int
) -> tuple[JournalEvent, ...]:
    """Return events of some kinds, newest first."""
    wanted = ", ".join(f"'{kind}'" for kind in kinds)
    with guard_reads(journal.path):
        rows = journal.query(
            f"SELECT * FROM events WHERE kind IN ({wanted})"  # noqa: S608 - words of ours
            f" ORDER BY number DESC LIMIT {limit:d}"
        )
        return tuple(JournalEvent(row) for row in rows)


def _build_range(predicted: DowntimeRange | None) -> Document | None:
    if predicted is None:
        return None
    return {"low": predicted.low, "likely": predicted.likely, "high": predicted.high}


def _find_failure(events: Sequence[JournalEvent]) -> Document | None:
    """Return the step at which a change failed last, and its error."""
    failed = [e for e in events if e.kind == "step-failed"]
    if not failed:
        return None
    data = failed[-1].data
    return {"at": failed[-1].at, **{name: data.get(name) for name in ("step", "code", "error")}}


def _find_interruption(events: Sequence[JournalEvent]) -> Document | None:
    """Return the step at which a change was last interrupted, and when it was resumed.

    None for a change interrupted only in its soak period, which does not fail.
    """
    found, step = None, None
    for event in events:
        if event.kind.startswith("step-"):
            step = event
        elif event.kind == RECOVERY_STARTED and step is not None:
            name = str(step.data.get("step"))
            if name in _INTERRUPTIBLE_STEPS:
                during = step.kind in _STEP_IN_PROGRESS_EVENTS
                found = {"step": name, "at": step.at, "during": during, "resumed_at": event.at}
            step = None
    return found


def _find_rolled_back_by(journal: Journal, change: Change) -> str | None:
    """Return the ID of the rollback that undid an upgrade, if any."""
    with guard_reads(journal.path):
        rows = journal.query(
            "SELECT change, value FROM facts JOIN changes ON id = change"
            " WHERE name IN ('undone_upgrade', 'failed_soak_upgrade') ORDER BY changes.rowid DESC"
        )
        rollback_ids = dict.fromkeys(
            r["change"] for r in rows if parse_stored_value(r["value"]) == change.id
        )
    for rollback in map(journal.read_change, rollback_ids):
        if rollback.state is ChangeState.FINISHED or rollback.is_open_after_commit:
            return rollback.id
    return None


def _find_emergency(journal: Journal, change: Change, first_event: int) -> Document | None:
    """Return who started an emergency rollback without approvals, and why; None otherwise.

    The journal has this event directly before the start of the rollback.
    """
    if change.kind is not ChangeKind.ROLLBACK:
        return None
    with guard_reads(journal.path):
        rows = journal.query(
            f"SELECT * FROM events WHERE kind IN ('{ROLLBACK_EMERGENCY}', 'change-started')"  # noqa: S608
            f" AND number < {first_event:d} ORDER BY number DESC LIMIT 1"
        )
        found = next(map(JournalEvent, rows), None)
    if found is None or found.kind != ROLLBACK_EMERGENCY:
        return None
    return {"actor": str(found.data.get("by")), "reason": str(found.data.get("reason"))}


def build_change_report(journal: Journal, change_id: str) -> Document:
    """Return a complete change: steps, facts, events, and its outcome.

    Raises:
        KeyError: If the journal has no change with this ID.
        JournalUnreadableError: If the journal has invalid content.
    """
    from ncen_updater.agent.engine.rehearsal.downtime_forecasts import find_predicted_range

    change = journal.read_change(change_id)
    require_zones(journal, change)
    facts = journal.read_facts(change_id)
    events = journal.list_events(change=change_id)
    return {
        **serialize_change(change, facts),
        "approved_by": list(ApprovalStore(journal).list_consumed_by(change_id, facts.binding)),
        "requested_by": JobQueue(journal).find_requester(change_id, events[0].number)
        if events
        else None,
        "emergency": _find_emergency(journal, change, events[0].number) if events else None,
        "predicted_downtime_s": _build_range(find_predicted_range(journal, change_id)),
        "failure": _find_failure(events),
        "interrupted": _is_interrupted(journal, change),
        "interruption": _find_interruption(events),
        "rolled_back_by": _find_rolled_back_by(journal, change),
        "steps": [
            {
                "name": record.name.value,
                "state": record.state.value,
                "started_at": record.started_at,
                "ended_at": record.ended_at,
                "seconds": compute_step_seconds(record) or _measure_attempt(events, record),
            }
            for record in sorted(change.steps.values(), key=lambda r: r.started_at)
        ],
        "facts": {
            **facts.to_json(),
            **{name: text for name, text in vars(facts).items() if isinstance(text, LazyText)},
        },
        "events": [
            {"number": e.number, "at": e.at, "kind": e.kind, "data": e.data} for e in events
        ],
    }
