"""What the disk and the journal say of a site, as documents: for ``status``, ``history`` and JSON.

Standard library only: this module is on the path of ``status``.
"""

from __future__ import annotations

from ncen_updater.agent.engine.outcome import change_document, seconds_between
from ncen_updater.agent.journal.change import Change, ChangeState, StepName, StepRecord, StepState
from ncen_updater.agent.journal.facts import ChangeFacts
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.names import IMPORT_REFUSED, IMPORTED
from ncen_updater.agent.journal.site_history import BadReleaseRecord
from ncen_updater.agent.status import JournalFacts, SiteStatus, need, or_none
from ncen_updater.common.documents import error_document
from ncen_updater.common.errors import UpdaterError

__all__ = ["REPORTED", "change_report", "history_report", "site_report", "step_seconds"]

Document = dict[str, object]


#: Parts of a site that :func:`site_report` tells of.
REPORTED = frozenset({"current", "door", "at_work", "journal", "view", "brakes"})


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
    parts = {"running": _in_use, "journal": _journal, "feed": _feed}
    errors: list[UpdaterError] = []
    for name, part in parts.items():
        try:
            document[name] = part(status)
        except (UpdaterError, OSError) as error:
            known = error if isinstance(error, UpdaterError) else UpdaterError(detail=str(error))
            errors.append(known)
            said = error_document(known, [], language)
            document[name] = {"error": {**said, "exit_code": int(known.exit_code)}}
    return document, errors


def _in_use(status: SiteStatus) -> Document:
    version, closed = need(status.current), need(status.door)
    return {"version": version, "open_to_officers": None if closed is None else not closed}


def _journal(status: SiteStatus) -> Document:
    holder, journal = need(status.at_work), need(status.journal)
    change, last, owed = journal.change, journal.last, journal.owed
    return {
        "at_work": holder,
        "head": journal.head or None,
        "open_change": _open_document(change, journal.facts) if change else None,
        "owed_rollback": owed
        and {"version": owed.change.to_version, "tries": owed.tries, "by_itself": owed.by_itself},
        "last_change": change_document(last, journal.facts) if last else None,
        "holds": list(journal.holds),
        "bad_releases": [bad for bad in journal.bad_releases if not _well_since(journal, bad)],
    }


def _well_since(journal: JournalFacts, bad: BadReleaseRecord) -> bool:
    """Whether a release that failed here came to its end well after that."""
    last = journal.last
    return (
        last is not None
        and last.state is ChangeState.FINISHED
        and last.to_version == bad.version
        and last.ended_at is not None
        and last.ended_at >= bad.last_at
    )


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
        "withdrawn": list(view.withdrawn),
        "running_withdrawn": view.notices.get(str(need(status.current))),
        "brakes": [
            {"version": one.version, "until": one.ends, "owner": one.owner, "reason": one.reason}
            for one in or_none(status.brakes) or ()
        ],
    }


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


def _open_document(change: Change, facts: ChangeFacts) -> Document:
    step = _step(change)
    return {
        **change_document(change, facts),
        "step": step[0].value if step else None,
        "step_state": step[1].value if step else None,
    }


def step_seconds(record: StepRecord) -> float | None:
    """Seconds that a step took, None where it has not ended, was undone, or that is not known."""
    if record.ended_at is None or record.state is not StepState.DONE:
        return None
    return seconds_between(record.started_at, record.ended_at)


def history_report(journal: Journal, limit: int) -> Document:
    """Return changes and imports, each newest first."""
    ended = [e for e in journal.events() if e.kind in (IMPORTED, IMPORT_REFUSED)]
    return {
        "changes": [change_document(c, journal.facts(c.id)) for c in journal.changes(limit)],
        "imports": [{"at": e.at, "kind": e.kind, **e.data} for e in ended[::-1][:limit]],
    }


def change_report(journal: Journal, change_id: str) -> Document:
    """Return one change whole: steps, facts, events.

    Raises:
        KeyError: If the journal knows none of this id.
    """
    change = journal.change(change_id)
    facts = journal.facts(change_id)
    return {
        **change_document(change, facts),
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
            {"number": e.number, "at": e.at, "kind": e.kind, "data": e.data}
            for e in journal.events(change=change_id)
        ],
    }
