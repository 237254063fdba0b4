"""What exists for a change, decided from names, comments and control rows. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ncen_updater.databases.base import ChangeRef, Evidence, Marker, Role
from ncen_updater.databases.errors import MarkersDisagree
from ncen_updater.databases.postgresql.catalogue import DatabaseRow
from ncen_updater.databases.postgresql.control import Event, Record
from ncen_updater.databases.postgresql.naming import (
    next_name,
    parse_marker,
    parse_name,
    prev_name,
)
from ncen_updater.i18n import N_, Text

__all__ = ["decide", "leftovers", "set_marker"]


def decide(
    change: ChangeRef,
    names: Mapping[str, str],
    found: Mapping[str, DatabaseRow],
    fenced: Collection[str],
    record: Record | None,
) -> Evidence:
    """Return the evidence.

    Args:
        change: The change.
        names: Logical to physical names.
        found: All databases of the server.
        fenced: Physical names that the control database wants restored.
        record: The control database's last word on the change's swap.
    """
    live = {name: found.get(physical) for name, physical in names.items()}
    if record is not None:
        swapped = record.event is Event.OVER
    else:
        # The control database is gone or was never there: the comments were written with it.
        marks = [parse_marker(row.comment) for row in live.values() if row is not None]
        swapped = bool(marks) and all(mark and mark.change == change.id for mark in marks)
    return Evidence(
        swapped=swapped,
        fenced=any(
            row is not None and (not row.allow or row.name in fenced) for row in live.values()
        ),
        candidates=tuple(n for n, p in names.items() if next_name(p, change.id) in found),
        previous=tuple(n for n, p in names.items() if prev_name(p, change.id) in found),
        missing=tuple(name for name, row in live.items() if row is None or not row.valid),
    )


def set_marker(names: Mapping[str, str], found: Mapping[str, DatabaseRow]) -> Marker | None:
    """Return what all live databases say.

    Raises:
        MarkersDisagree: If one is missing or says something else.
    """
    marks: dict[str, Marker | None] = {}
    for name, physical in names.items():
        row = found.get(physical)
        if row is None or not row.valid:
            raise MarkersDisagree(reason=Text(N_("{database} is missing"), {"database": name}))
        marks[name] = parse_marker(row.comment)
    if len(set(marks.values())) > 1:
        said = "; ".join(
            f"{name}: {mark.release} ({mark.generation})" if mark else f"{name}: -"
            for name, mark in marks.items()
        )
        raise MarkersDisagree(reason=said)
    return next(iter(marks.values()))


def leftovers(
    names: Mapping[str, str], found: Mapping[str, DatabaseRow]
) -> tuple[tuple[str, Role, str], ...]:
    """Return every candidate and previous of the set."""
    parsed = (parse_name(datname, names) for datname in found)
    return tuple(sorted(item for item in parsed if item is not None))
