"""What the disk and the journal say of a site, as documents: for ``status``, ``history`` and JSON.

Standard library only: this module is on the path of ``status``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from ncen_updater.agent.config.paths import Places
from ncen_updater.agent.config.read import read_config
from ncen_updater.agent.engine.lock import lock_holder
from ncen_updater.agent.engine.outcome import change_document, seconds_between
from ncen_updater.agent.engine.pending_rollback import pending_rollback
from ncen_updater.agent.journal.change import Change, StepName, StepRecord, StepState
from ncen_updater.agent.journal.facts import NO_FACTS
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.names import IMPORT_REFUSED, IMPORTED, JOURNAL, LOCK
from ncen_updater.agent.journal.site_history import SiteHistory
from ncen_updater.agent.slots.link import current_version
from ncen_updater.common.documents import error_document
from ncen_updater.common.errors import UpdaterError
from ncen_updater.feed.last_view import read_last_view, view_path

__all__ = ["change_report", "door_closed", "history_report", "site_report", "step_seconds"]

Document = dict[str, object]


def site_report(
    config: Path, places: Places, now: datetime, language: str
) -> tuple[Document, list[UpdaterError]]:
    """Say what runs, what the agent did last, and what is on offer; opens no connection.

    Args:
        config: The configuration file.
        places: What it says of places.
        now: The time.
        language: Of errors that stand in the place of what could not be had.

    Returns:
        The document, and these errors.
    """
    document: Document = {
        "site": places.site,
        "country": places.country,
        "product": places.product,
        "at": now,
    }
    parts: dict[str, Callable[[], Document | None]] = {
        "running": lambda: _in_use(config, places),
        "journal": lambda: _journal(places, now),
        "feed": lambda: _feed(places, now),
    }
    errors: list[UpdaterError] = []
    for name, part in parts.items():
        try:
            document[name] = part()
        except (UpdaterError, OSError) as error:
            known = error if isinstance(error, UpdaterError) else UpdaterError(detail=str(error))
            errors.append(known)
            document[name] = {"error": error_document(known, [], language)}
    return document, errors


def door_closed(config: Path) -> bool | None:
    """Whether the door's file is there; None if the configuration names none."""
    data = read_config(config).data
    paths, application = data.get("paths", {}), data.get("application", {})
    name = application.get("door_file") if isinstance(application, dict) else None
    root = paths.get("root", "/") if isinstance(paths, dict) else None
    if not isinstance(name, str) or not isinstance(root, str):
        return None
    try:
        (Path(root) / name).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _in_use(config: Path, places: Places) -> Document:
    version = current_version(places.slots, places.current)
    closed = door_closed(config)
    return {
        "version": str(version) if version else None,
        "open_to_officers": None if closed is None else not closed,
    }


def _journal(places: Places, now: datetime) -> Document:
    holder = lock_holder(places.state / LOCK)
    with Journal.open(places.state / JOURNAL, read_only=True) as journal:
        change = journal.open_change()
        recent = journal.changes(1)
        facts = journal.facts(recent[0].id) if recent else NO_FACTS
        memory, owed = SiteHistory(journal), pending_rollback(journal)
        return {
            "at_work": holder,
            "open_change": _open_document(change) if change else None,
            "owed_rollback": owed
            and {
                "version": owed.change.to_version,
                "tries": owed.tries,
                "by_itself": owed.by_itself,
            },
            "last_change": change_document(recent[0], facts) if recent else None,
            "holds": list(memory.holds_in_force(now)),
            "bad_releases": list(memory.bad_releases()),
        }


def _feed(places: Places, now: datetime) -> Document | None:
    view = read_last_view(view_path(places.received, places.product))
    if view is None:
        return None
    running = current_version(places.slots, places.current)
    return {
        "checked_at": view.checked_at,
        "expires_at": view.expires_at,
        "stale": view.stale(now),
        "version": view.version,
        "versions": list(view.versions),
        "withdrawn": list(view.withdrawn),
        "running_withdrawn": view.notices.get(str(running)),
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


def _open_document(change: Change) -> Document:
    step = _step(change)
    return {
        **change_document(change),
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
