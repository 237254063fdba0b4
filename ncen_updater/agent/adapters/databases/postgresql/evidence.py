"""What exists for a change, decided from names, comments and control rows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ncen_updater.agent.adapters.databases.base import ChangeRef, DatabaseRole, Evidence, Marker
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    DatabaseRow,
    is_committed,
    next_name,
    parse_marker,
    parse_name,
    prev_name,
)
from ncen_updater.agent.adapters.databases.postgresql.control import (
    FenceRecord,
    SwapEvent,
    SwapRecord,
)
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import DATABASE_UNKNOWN, MARKERS_DISAGREE


def at_rest(
    names: Mapping[str, str], found: Mapping[str, DatabaseRow], fences: Mapping[str, FenceRecord]
) -> Evidence:
    """Return what there is to say of the live set alone; see :func:`decide`.

    Whether it is closed the catalogue alone says: a fence that was written down may be long over.
    """
    live = names.values()
    there = {name: found[name] for name in live if name in found and found[name].valid}
    closed = tuple(name for name, row in there.items() if not row.allow)
    return Evidence(
        swapped=False,
        fenced=bool(closed),
        missing=tuple(name for name in live if name not in there),
        closed=closed,
        fenced_by=tuple(sorted({fences[name].change for name in live if name in fences})),
    )


def decide(
    change: ChangeRef,
    names: Mapping[str, str],
    found: Mapping[str, DatabaseRow],
    record: SwapRecord | None,
    *,
    committed: bool = False,
) -> Evidence:
    """Return the evidence.

    Args:
        change: The change.
        names: Logical to physical names.
        found: All databases of the server.
        record: The control database's last word on the change's swap.
        committed: Whether the control database says that the change was committed.
    """
    live = [found[physical] for physical in names.values() if physical in found]
    comments = [row.comment for row in live]
    marks = [parse_marker(comment) for comment in comments]
    if record is not None:
        swapped = record.event is SwapEvent.OVER
    else:
        # The control database is gone or was never there: the comments were written with it.
        swapped = bool(marks) and all(mark and mark.change == change.id for mark in marks)
    return replace(
        at_rest(names, found, {}),
        swapped=swapped,
        candidates=tuple(n for n, p in names.items() if next_name(p, change.id) in found),
        previous=tuple(n for n, p in names.items() if prev_name(p, change.id) in found),
        # Either word is enough: one that is lost must not let officers' records be cut away.
        committed=committed or any(is_committed(comment, change.id) for comment in comments),
        later=any(mark is not None and is_later(mark, change) for mark in marks),
    )


def is_later(mark: Marker, change: ChangeRef) -> bool:
    """Whether a marker is that of a change that came after this one."""
    return mark.change != change.id and mark.generation >= change.generation


def set_marker(
    names: Mapping[str, str],
    found: Mapping[str, DatabaseRow],
    standing: Marker | None = None,
    inside: Callable[[str], Marker | None] = lambda _name: None,
) -> Marker | None:
    """Return what all live databases say.

    A comment is easily lost: anybody's own takes its place, and a plain backup does not bring it
    back. So what the control database says of the set counts for a database whose comment says
    something else, where what lies inside that database says the same.

    Args:
        names: Logical to physical names.
        found: All databases of the server.
        standing: What the control database says of the set.
        inside: Asked what lies in a database, by its logical name, where comments do not agree.

    Raises:
        MarkersDisagree: If one is missing or says something else.
    """
    marks: dict[str, Marker | None] = {}
    for name, physical in names.items():
        row = found.get(physical)
        if not any(each in found for each in names.values()):
            raise DatabaseError(DATABASE_UNKNOWN, database=physical)
        if row is None or not row.valid:
            raise DatabaseError(
                MARKERS_DISAGREE, reason=Text(N_("{database} is missing"), {"database": name})
            )
        marks[name] = parse_marker(row.comment)
    first = next(iter(marks.values()))
    if set(marks.values()) == {first} and (first is not None or standing is None):
        return first
    if standing is not None:
        states = {name: inside(name) for name in names}
        if all(standing in (marks[name], states[name]) for name in names):
            return standing
        # Made anew under the old names, and never cut over since.
        said_nothing = not any(marks.values())
        if said_nothing and not any(mark and mark.generation for mark in states.values()):
            return None
    said = "; ".join(f"{name}: {_said(mark)}" for name, mark in marks.items())
    raise DatabaseError(MARKERS_DISAGREE, reason=said)


def _said(mark: Marker | None) -> str:
    return f"{mark.release} ({mark.generation})" if mark else "-"


def leftovers(
    names: Mapping[str, str], found: Mapping[str, DatabaseRow]
) -> tuple[tuple[str, DatabaseRole, str], ...]:
    """Return every candidate and previous of the set.

    Args:
        names: Logical to physical names.
        found: All databases of the server.
    """
    parsed = (parse_name(datname, names) for datname in found)
    return tuple(sorted({item for item in parsed if item is not None}))
