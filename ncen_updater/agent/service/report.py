"""What the disk and the journal say of a site, as documents: for ``status``, ``history`` and JSON.

Standard library only: this module is on the path of ``status``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING

from packaging.version import Version

from ncen_updater.agent.engine.approvals.model import (
    approved_releases,
    count_approvals,
    loss_so_far,
)
from ncen_updater.agent.engine.approvals.store import ApprovalStore
from ncen_updater.agent.engine.outcome import change_document, seconds_between
from ncen_updater.agent.engine.rehearsal.store import Rehearsals, RehearsalState
from ncen_updater.agent.model.change import (
    BEFORE_COMMIT,
    DOWNTIME,
    Change,
    ChangeKind,
    ChangeState,
    StepName,
    StepRecord,
    StepState,
)
from ncen_updater.agent.model.errors import JournalForbidden
from ncen_updater.agent.model.names import (
    IMPORT_REFUSED,
    IMPORTED,
    RECOVERY,
    RESTORED,
    ROLLBACK_EMERGENCY,
)
from ncen_updater.agent.policy.automation import DELAYS, Action, ActionFailure, Rehearsed
from ncen_updater.agent.policy.clock import clock_findings
from ncen_updater.agent.reports.status import JournalFacts, SiteStatus, need, or_none, require_zones
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.orders import Order
from ncen_updater.agent.storage.journal.rows import JournalEvent, reading, stored_value
from ncen_updater.agent.storage.journal.site_history import BadReleaseRecord
from ncen_updater.common.disk_space import MARGIN_BYTES
from ncen_updater.common.documents import error_document
from ncen_updater.common.errors import UpdaterError

if TYPE_CHECKING:
    from ncen_updater.agent.storage.service_state import Assessment

Document = dict[str, object]


#: Among so many rehearsals those that failed are looked for.
FAILED_AMONG = 100
#: Parts of a site that :func:`site_report` tells of.
#: Steps that are torn where they are cut off; a release that is watched is watched on.
_TORN = frozenset(DOWNTIME) | frozenset(BEFORE_COMMIT)
_AT_WORK = frozenset({f"step-{StepState.INTENDED}", f"step-{StepState.UNDOING}"})
REPORTED = frozenset(
    {
        "current", "configuration", "door", "availability", "at_work", "journal", "needed",
        "soak_s", "view", "brakes", "service_state", "full_disk", "signed_at",
    }
)  # fmt: skip


def site_report(status: SiteStatus, language: str) -> tuple[Document, list[UpdaterError]]:
    """Say what runs, what the agent did last, and what is on offer.

    Args:
        status: The parts :data:`REPORTED` of the site.
        language: Of errors that stand in the place of what could not be had.

    Returns:
        The document, and these errors.
    """
    document: Document = {
        "site": status.places.site,
        "country": status.places.country,
        "product": status.places.product,
        "at": status.now,
    }
    parts: Mapping[str, Callable[[SiteStatus], Document | None]] = {
        "running": _in_use, "journal": _journal, "feed": _feed, "configuration": _configuration,
        "clock": _clock,
    }  # fmt: skip
    errors: list[UpdaterError] = []
    for name, part in parts.items():
        try:
            document[name] = part(status)
        except (UpdaterError, OSError) as error:
            if isinstance(error, PermissionError):
                known: UpdaterError = JournalForbidden(path=error.filename or status.places.state)
            else:
                known = (
                    error if isinstance(error, UpdaterError) else UpdaterError(detail=str(error))
                )
            errors.append(known)
            said = error_document(known, [], language)
            document[name] = {"error": {**said, "exit_code": int(known.exit_code)}}
    return document, errors


def _in_use(status: SiteStatus) -> Document:
    version, closed = need(status.current), need(status.door)
    return {
        "version": version,
        "open_to_officers": None if closed is None else not closed,
        "officers": need(status.availability).to_json(),
        **_full_disk(status),
    }


def _clock(status: SiteStatus) -> Document | None:
    """What is wrong with the clock, by what was signed; None where nothing is."""
    newest = or_none(status.signed_at)
    found = clock_findings(status.now, newest, None)
    return {"code": found[0].code, "signed_at": newest} if found else None


def _full_disk(status: SiteStatus) -> Document:
    """What fails for want of room is told by others in their words, as a server that is away."""
    found = or_none(status.full_disk)
    if found is None:
        return {}
    return {"full_disk": {"path": str(found[0]), "free": found[1], "needed": MARGIN_BYTES}}


def _configuration(status: SiteStatus) -> Document:
    wrong = status.configuration
    if isinstance(wrong, Exception):  # a mistake, or why it could not be checked
        raise wrong
    return {"checked": True}


def _journal(status: SiteStatus) -> Document:
    holder, journal = need(status.at_work), need(status.journal)
    last, owed = journal.last, journal.owed
    return {
        "at_work": holder,
        "head": journal.head or None,
        "open_change": open_change(status),
        "owed_rollback": owed
        and {"version": owed.change.to_version, "tries": owed.tries, "by_itself": owed.by_itself},
        "last_change": change_document(last, journal.facts) if last else None,
        "order": journal.order and _order(journal.order),
        "holds": list(journal.holds),
        "bad_releases": [bad for bad in journal.bad_releases if not _over(status, journal, bad)],
        "approvals": _approvals(journal, or_none(status.needed), status.next),
        "rollback_approved": _back(journal, or_none(status.needed), or_none(status.current)),
        "approvals_used_up": list(journal.used_up),
        "confirmed_by": journal.facts.confirmed_by,
    }


def _order(order: Order) -> Document:
    """What somebody ordered and nobody has begun."""
    return {"id": order.id, "kind": order.kind.value, "who": order.person.who, "at": order.at}


def _approvals(
    journal: JournalFacts, needed: int | None, found: Assessment | None
) -> list[dict[str, object]]:
    """Return who approved which release, what comes first at the head; pure.

    Whether that still holds is known of what the service looked at after the last event alone.
    Nothing is told where it is not known how many have to approve: why not is told elsewhere.
    """
    if needed is None:
        return []
    seen = _as_it_is(found, journal)
    gone = seen.gone if seen else ()
    enough = approved_releases(journal.of_releases, needed)
    first = next((version for version in enough if version not in gone), None)
    rest = dict.fromkeys(one.version for one in reversed(journal.of_releases))
    rows: list[dict[str, object]] = []
    for version in dict.fromkeys((*enough, *rest)):
        mine = [one.approval for one in journal.of_releases if one.version == version]
        bindings = dict.fromkeys(approval.binding for approval in reversed(mine))
        counts = [count_approvals(mine, binding, needed) for binding in bindings]
        best = min(counts, key=lambda count: count.missing)
        if best.given:  # root counts as none where two have to
            of_it = seen.of(version) if seen else None
            rows.append(
                {
                    "version": version,
                    "who": [approval.who for approval in best.given],
                    "missing": best.missing,
                    "next": version == first,
                    "gone": version in gone,
                    "holds": None if of_it is None else of_it.binding == best.given[0].binding,
                }
            )
    return rows


def _back(
    journal: JournalFacts, needed: int | None, current: str | None
) -> dict[str, object] | None:
    """Return who approved going back from the release in use, and up to what loss; pure.

    None where nobody did, and where it is not known how many have to; and while a change is open or
    a rollback is owed, which nobody has to approve.
    """
    if needed is None or current is None or journal.change is not None or journal.owed is not None:
        return None
    given = [one for one in journal.of_rollbacks if Version(one.origin) == Version(current)]
    last = given[-1] if given else None
    people = journal.people(last.approval.binding if last else "", needed)
    if last is None or not people.given:  # root counts as none where two have to
        return None
    return {
        "from": last.origin,
        "version": last.target,
        "who": [approval.who for approval in people.given],
        "missing": people.missing,
        "accept_loss": loss_so_far(given, people),
    }


def _over(status: SiteStatus, journal: JournalFacts, bad: BadReleaseRecord) -> bool:
    """Whether a failure is history: the release came well to its end, or a newer one is in use."""
    well, current = journal.well_since.get(bad.version), or_none(status.current)
    if well is not None and well >= bad.last_at:
        return True
    same = bad.product == status.places.product
    return same and current is not None and Version(bad.version) < Version(current)


def lasting_failures(
    failures: Mapping[Action, ActionFailure], found: Assessment | None, status: SiteStatus
) -> Iterator[tuple[Action, ActionFailure]]:
    """Yield what the service did in vain and nobody has done since. Pure.

    Args:
        failures: As the service keeps them.
        found: What is next, as it found last.
        status: The parts :data:`REPORTED` of the site.
    """
    view, journal = or_none(status.view), or_none(status.journal)
    last = journal.last if journal else None
    went_well = last is not None and (last.committed or last.state is ChangeState.FINISHED)
    for deed, failure in failures.items():
        walked = went_well and last is not None and last.created_at >= failure.at
        over = {
            Action.CHECK: view is not None and view.checked_at >= failure.at,
            Action.RESUME: journal is not None
            and (journal.change is None or journal.change.created_at > failure.at),
            Action.PREPARE: walked or (found is not None and (not found.target or found.prepared)),
            Action.REHEARSE: walked
            or (found is not None and (not found.target or found.rehearsed is Rehearsed.PASSED)),
            Action.UPGRADE: walked
            or _tells(last, failure)
            or (found is not None and not found.target),
            Action.SELF_UPDATE: found is not None and found.agent is None,
            Action.COLLECT: found is not None and found.collect_at is None,
            Action.ORDER: True,  # whoever gave it was told
        }
        if not over.get(deed, False):
            yield deed, failure


def _tells(last: Change | None, failure: ActionFailure) -> bool:
    """Whether an undone change says of itself what failed: the next try would have come later."""
    if last is None or last.state is not ChangeState.UNDONE or last.ended_at is None:
        return False
    return last.ended_at <= failure.at < last.ended_at + DELAYS[0]


def _feed(status: SiteStatus) -> Document | None:
    view = need(status.view)
    if view is None:
        return None
    return {
        "checked_at": view.checked_at,
        "expires_at": view.expires_at,
        "stale": view.stale(status.now),
        "version": view.version,
        "versions": list(view.versions),
        "comes_next": _comes_next(status),
        "barred": list(_barred(status)),
        "withdrawn": list(view.withdrawn),
        "running_withdrawn": view.notices.get(str(need(status.current))),
        "brakes": [
            {"version": one.version, "until": one.ends, "owner": one.owner, "reason": one.reason}
            for one in or_none(status.brakes) or ()
        ],
    }


def _comes_next(status: SiteStatus) -> str | None:
    """The release for this site that the service found last; None where that is not known now."""
    seen = _as_it_is(status.next, need(status.journal))
    return seen.target if seen else None


def _barred(status: SiteStatus) -> Iterator[Document]:
    """Newer releases that the Secretariat keeps back, but for those that a brake tells of."""
    current, brakes = need(status.current), or_none(status.brakes) or ()
    for one in status.next.barred if status.next is not None else ():
        told = any(
            brake.version == one.version and one.why.startswith(f"{brake.reason} [{brake.owner}, ")
            for brake in brakes
        )
        if not told and current is not None and Version(one.version) > Version(current):
            yield {
                "version": one.version, "reason": one.reason, "why": one.why, "opens": one.opens,
            }  # fmt: skip


def _as_it_is(found: Assessment | None, journal: JournalFacts) -> Assessment | None:
    """What the service looked at after the last event; None where it has yet to look again."""
    return found if found is not None and found.event == journal.event else None


def _step(change: Change) -> tuple[StepName, StepState] | None:
    """The step that a change is in: the one that was touched last."""
    order = list(StepName)
    records = [
        r for r in change.steps.values() if r.state in (StepState.INTENDED, StepState.UNDOING)
    ]
    records = records or list(change.steps.values())
    if not records:
        return None
    record = max(records, key=lambda r: order.index(r.name))
    return record.name, record.state


def open_change(status: SiteStatus) -> Document | None:
    """Return the change that has not come to its end, and until when its release is watched.

    Args:
        status: The parts ``journal`` and ``soak_s`` of the site.
    """
    journal = need(status.journal)
    if journal.change is None:
        return None
    step = _step(journal.change)
    return {
        **change_document(journal.change, journal.facts),
        "step": step[0].value if step else None,
        "step_state": step[1].value if step else None,
        "watched_until": status.watched_until,
        "contracting": status.contracting,
    }


def step_seconds(record: StepRecord) -> float | None:
    """Seconds that a step took, None where it has not ended, was undone, or that is not known."""
    if record.ended_at is None or record.state is not StepState.DONE:
        return None
    return seconds_between(record.started_at, record.ended_at)


def history_report(journal: Journal, limit: int, before: str | None = None) -> Document:
    """Return changes, imports and failed rehearsals, each newest first; as much is read as told.

    Args:
        journal: The journal.
        limit: At most so many of each.
        before: Only changes that were begun before this one.

    Raises:
        KeyError: If the journal knows none of this id.
        JournalUnreadable: If it holds what no agent wrote.
    """
    from ncen_updater.agent.engine.rehearsal.stops import predicted_stops

    changes = journal.changes(limit) if before is None else _before(journal, before, limit)
    facts = {change.id: journal.facts(change.id) for change in changes}
    foretold = predicted_stops(journal, set(facts))
    return {
        "changes": [
            {
                **change_document(change, facts[change.id]),
                "predicted_stop_s": _range_document(foretold.get(change.id)),
                "turned_bad": bool(facts[change.id].soak_failed),
            }
            for change in changes
        ],
        "imports": [
            {"at": event.at, "kind": event.kind, **event.data}
            for event in _newest(journal, (IMPORTED, IMPORT_REFUSED), limit)
        ],
        "failed_rehearsals": list(_failed_rehearsals(journal, limit)),
        "accepted": [
            {
                "at": event.at,
                "version": event.data.get("release"),
                "by": event.data.get("by"),
                "reasons": event.data.get("reasons", []),
            }
            for event in _newest(journal, (RESTORED,), limit)
        ],
    }


def _failed_rehearsals(journal: Journal, limit: int) -> Iterator[Document]:
    """Rehearsals that failed, the newest first: no change tells of them."""
    known = {record.id: record for record in Rehearsals(journal).all(FAILED_AMONG)}
    for event in _newest(journal, (f"rehearsal-{RehearsalState.FAILED}",), limit):
        record = known.get(str(event.data.get("rehearsal")))
        if record is not None:
            yield {
                "at": event.at, "from": record.from_version, "version": record.to_version,
                "code": record.error_code, "error": event.data.get("error"),
            }  # fmt: skip


def _before(journal: Journal, change_id: str, limit: int) -> tuple[Change, ...]:
    """Changes that were begun before one, newest first."""
    ids = [row["id"] for row in journal.rows("SELECT id FROM changes ORDER BY rowid DESC")]
    if change_id not in ids:
        raise KeyError(change_id)
    begin = ids.index(change_id) + 1
    return tuple(map(journal.change, ids[begin : begin + limit]))


def _newest(journal: Journal, kinds: Sequence[str], limit: int) -> tuple[JournalEvent, ...]:
    """Events of some kinds, newest first."""
    wanted = ", ".join(f"'{kind}'" for kind in kinds)
    with reading(journal.path):
        rows = journal.rows(
            f"SELECT * FROM events WHERE kind IN ({wanted})"  # noqa: S608 - words of ours
            f" ORDER BY number DESC LIMIT {limit:d}"
        )
        return tuple(JournalEvent(row) for row in rows)


def _range_document(predicted: tuple[float, float] | None) -> Document | None:
    return None if predicted is None else {"low": predicted[0], "high": predicted[1]}


def _failure(events: Sequence[JournalEvent]) -> Document | None:
    """Where a change failed last, and by what."""
    failed = [e for e in events if e.kind == "step-failed"]
    if not failed:
        return None
    data = failed[-1].data
    return {"at": failed[-1].at, **{name: data.get(name) for name in ("step", "code", "error")}}


def _cut_off(events: Sequence[JournalEvent]) -> Document | None:
    """What a change was at when it was cut off last, and when somebody brought it to its end.

    Not of one that was only watched: there is nothing that failed.
    """
    found, step = None, None
    for event in events:
        if event.kind.startswith("step-"):
            step = event
        elif event.kind == RECOVERY and step is not None:
            name = str(step.data.get("step"))
            if name in _TORN:
                during = step.kind in _AT_WORK
                found = {"step": name, "at": step.at, "during": during, "resumed_at": event.at}
            step = None
    return found


def _taken_back_by(journal: Journal, change: Change) -> str | None:
    """The rollback that took an upgrade back, if one did."""
    with reading(journal.path):
        rows = journal.rows(
            "SELECT change, value FROM facts JOIN changes ON id = change"
            " WHERE name IN ('undoes', 'soak_of') ORDER BY changes.rowid DESC"
        )
        backs = dict.fromkeys(r["change"] for r in rows if stored_value(r["value"]) == change.id)
    for later in map(journal.change, backs):
        if later.state is ChangeState.FINISHED or later.committed:
            return later.id
    return None


def _ordered_by(journal: Journal, change: Change) -> str | None:
    """Who ordered a change: one order is carried out at a time.

    Reads the one row, however many orders there were. Times stand in UTC, so that their text is in
    their order.
    """
    at = change.created_at.astimezone(UTC).isoformat()
    with reading(journal.path):
        rows = journal.rows(
            "SELECT who FROM orders WHERE kind IN ('upgrade', 'rollback', 'resume')"  # noqa: S608
            f" AND taken_at <= '{at}' AND (ended_at IS NULL OR ended_at >= '{at}')"
            " ORDER BY id DESC LIMIT 1"
        )
    return rows[0]["who"] if rows else None


def _emergency(journal: Journal, change: Change, begun: int) -> Document | None:
    """Who went back without the approvals that it takes, and why; None where nobody did.

    It is written down right before the rollback begins, and nothing else comes between.
    """
    if change.kind is not ChangeKind.ROLLBACK:
        return None
    with reading(journal.path):
        rows = journal.rows(
            f"SELECT * FROM events WHERE kind IN ('{ROLLBACK_EMERGENCY}', 'begun')"  # noqa: S608
            f" AND number < {begun:d} ORDER BY number DESC LIMIT 1"
        )
        found = next(map(JournalEvent, rows), None)
    if found is None or found.kind != ROLLBACK_EMERGENCY:
        return None
    return {"by": str(found.data.get("by")), "reason": str(found.data.get("reason"))}


def change_report(journal: Journal, change_id: str) -> Document:
    """Return one change whole: steps, facts, events, and what they came to for people.

    Raises:
        KeyError: If the journal knows none of this id.
        JournalUnreadable: If it holds what no agent wrote.
    """
    from ncen_updater.agent.engine.rehearsal.stops import predicted_stop

    change = journal.change(change_id)
    require_zones(journal, change)
    facts = journal.facts(change_id)
    events = journal.events(change=change_id)
    return {
        **change_document(change, facts),
        "approved_by": list(ApprovalStore(journal).spent_on(change_id, facts.binding)),
        "ordered_by": _ordered_by(journal, change),
        "emergency": _emergency(journal, change, events[0].number) if events else None,
        "predicted_stop_s": _range_document(predicted_stop(journal, change_id)),
        "failure": _failure(events),
        "cut_off": _cut_off(events),
        "taken_back_by": _taken_back_by(journal, change),
        "steps": [
            {
                "name": record.name.value,
                "state": record.state.value,
                "started_at": record.started_at,
                "ended_at": record.ended_at,
                "seconds": step_seconds(record),
            }
            for record in sorted(change.steps.values(), key=lambda r: r.started_at)
        ],
        "facts": facts.to_json(),
        "events": [
            {"number": e.number, "at": e.at, "kind": e.kind, "data": e.data} for e in events
        ],
    }
