"""What exists for a change, decided from names, comments and control rows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ncen_updater.agent.adapters.databases.base import (
    ChangeEvidence,
    ChangeRef,
    DatabaseMarker,
    DatabaseRole,
)
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    DatabaseRow,
    candidate_name,
    is_committed,
    parse_marker,
    parse_name,
    previous_name,
)
from ncen_updater.agent.adapters.databases.postgresql.control import (
    CutOverEvent,
    CutOverRecord,
    FenceState,
)
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import DATABASE_UNKNOWN, MARKERS_DISAGREE


def describe_live_set(
    names: Mapping[str, str], found: Mapping[str, DatabaseRow], fences: Mapping[str, FenceState]
) -> ChangeEvidence:
    """Return what there is to say of the live set alone; see :func:`decide_evidence`.

    Whether it is closed the catalogue alone says: a fence that was written down may be long over.
    """
    live = names.values()
    there = {name: found[name] for name in live if name in found and found[name].is_valid}
    closed = tuple(name for name, row in there.items() if not row.allow_connections)
    return ChangeEvidence(
        is_cut_over=False,
        fenced=bool(closed),
        missing=tuple(name for name in live if name not in there),
        closed=closed,
        fenced_by=tuple(sorted({fences[name].change for name in live if name in fences})),
    )


def decide_evidence(
    change: ChangeRef,
    names: Mapping[str, str],
    databases: Mapping[str, DatabaseRow],
    record: CutOverRecord | None,
    *,
    committed: bool = False,
) -> ChangeEvidence:
    """Return the evidence.

    Args:
        change: The change.
        names: Logical to physical names.
        databases: All databases of the server.
        record: The control database's last word on the change's swap.
        committed: Whether the control database says that the change was committed.
    """
    live = [databases[physical] for physical in names.values() if physical in databases]
    comments = [row.comment for row in live]
    marks = [parse_marker(comment) for comment in comments]
    if record is not None:
        swapped = record.event is CutOverEvent.CUT_OVER
    else:
        # The control database is gone or was never there: the comments were written with it.
        swapped = bool(marks) and all(mark and mark.change == change.id for mark in marks)
    return replace(
        describe_live_set(names, databases, {}),
        is_cut_over=swapped,
        candidates=tuple(n for n, p in names.items() if candidate_name(p, change.id) in databases),
        previous=tuple(n for n, p in names.items() if previous_name(p, change.id) in databases),
        # Either word is enough: one that is lost must not let officers' records be cut away.
        committed=committed or any(is_committed(comment, change.id) for comment in comments),
        superseded=any(mark is not None and is_later(mark, change) for mark in marks),
    )


def is_later(mark: DatabaseMarker, change: ChangeRef) -> bool:
    """Whether a marker is that of a change that came after this one."""
    return mark.change != change.id and mark.generation >= change.generation


def reconcile_markers(
    names: Mapping[str, str],
    found: Mapping[str, DatabaseRow],
    recorded: DatabaseMarker | None = None,
    inside: Callable[[str], DatabaseMarker | None] = lambda _name: None,
) -> DatabaseMarker | None:
    """Return what all live databases say.

    A comment is easily lost: anybody's own takes its place, and a plain backup does not bring it
    back. So what the control database says of the set counts for a database whose comment says
    something else, where what lies inside that database says the same.

    Args:
        names: Logical to physical names.
        found: All databases of the server.
        recorded: What the control database says of the set.
        inside: Asked what lies in a database, by its logical name, where comments do not agree.

    Raises:
        MARKERS_DISAGREE: If one is missing or says something else.
    """
    marks: dict[str, DatabaseMarker | None] = {}
    for name, physical in names.items():
        row = found.get(physical)
        if not any(each in found for each in names.values()):
            raise DatabaseError(DATABASE_UNKNOWN, database=physical)
        if row is None or not row.is_valid:
            raise DatabaseError(
                MARKERS_DISAGREE,
                reason=LazyText(N_("database {database} not found"), {"database": name}),
            )
        marks[name] = parse_marker(row.comment)
    first = next(iter(marks.values()))
    if set(marks.values()) == {first} and (first is not None or recorded is None):
        return first
    if recorded is not None:
        states = {name: inside(name) for name in names}
        if all(recorded in (marks[name], states[name]) for name in names):
            return recorded
        # Made anew under the old names, and never cut over since.
        no_output = not any(marks.values())
        if no_output and not any(mark and mark.generation for mark in states.values()):
            return None
    text = "; ".join(f"{name}: {_format_marker(mark)}" for name, mark in marks.items())
    raise DatabaseError(MARKERS_DISAGREE, reason=text)


def _format_marker(mark: DatabaseMarker | None) -> str:
    return f"{mark.release} ({mark.generation})" if mark else "-"


def list_leftovers(
    names: Mapping[str, str], found: Mapping[str, DatabaseRow]
) -> tuple[tuple[str, DatabaseRole, str], ...]:
    """Return every candidate and previous of the set.

    Args:
        names: Logical to physical names.
        found: All databases of the server.
    """
    parsed = (parse_name(datname, names) for datname in found)
    return tuple(sorted({item for item in parsed if item is not None}))
