"""Names of candidates and previous databases, and the marker in a database's comment. All pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ncen_updater.agent.databases.base import (
    Candidate,
    ChangeRef,
    DatabaseRole,
    Marker,
    Place,
    Previous,
)

MAX_NAME_BYTES = 63  # NAMEDATALEN - 1; the server cuts a longer name with no more than a notice

_CHANGE = "[a-z2-7]{8}"
_NAME = re.compile(rf"^(?P<physical>.+)__(?P<role>next|prev)_(?P<change>{_CHANGE})$")
_KEPT = re.compile(rf"^(?P<physical>.+)__kept_(?P<change>{_CHANGE})$")
_MARKER = re.compile(
    r"\n?\[ncen-updater release=(?P<release>\S+) generation=(?P<generation>\d+) "
    r"change=(?P<change>\S+?)(?P<committed> committed)?\]$"
)
_COPY = re.compile(r"\n?\[ncen-updater copy change=(?P<change>\S+)\]$")


def next_name(physical: str, change_id: str) -> str:
    """Name of the candidate."""
    return f"{physical}__next_{change_id}"


def prev_name(physical: str, change_id: str) -> str:
    """Name of the previous database."""
    return f"{physical}__prev_{change_id}"


def kept_name(physical: str, change_id: str) -> str:
    """Name of what was live and is set aside: nothing drops it but a person's word."""
    return f"{physical}__kept_{change_id}"


def parse_kept(datname: str, names: Mapping[str, str]) -> tuple[str, str] | None:
    """Return (change id, logical name) of a database that was set aside, None for any other."""
    match = _KEPT.match(datname)
    logical = {physical: name for name, physical in names.items()}
    if match is None or match["physical"] not in logical:
        return None
    return match["change"], logical[match["physical"]]


def database_name(place: Place, physical: str) -> str:
    """Name of a database in the server."""
    if isinstance(place, Previous):
        return prev_name(physical, place.change.id)
    if isinstance(place, Candidate):
        return next_name(physical, place.change.id)
    return physical


def parse_name(datname: str, names: Mapping[str, str]) -> tuple[str, DatabaseRole, str] | None:
    """Return (change id, role, logical name) of a candidate or previous, None for any other.

    Args:
        datname: A name in the server.
        names: Logical to physical names of this site.
    """
    match = _NAME.match(datname)
    if match is None:
        return None
    role = DatabaseRole.CANDIDATE if match["role"] == "next" else DatabaseRole.PREVIOUS
    for logical, physical in names.items():
        if physical == match["physical"]:
            return match["change"], role, logical
    return None


def parse_marker(comment: str | None) -> Marker | None:
    """Return the marker in a comment."""
    match = _MARKER.search(comment or "")
    if match is None:
        return None
    return Marker(match["release"], int(match["generation"]), match["change"])


def _own(comment: str) -> str:
    """Return what is before all markers."""
    while match := _MARKER.search(comment):
        comment = comment[: match.start()]
    return comment


def live_comment(comment: str | None, change: ChangeRef) -> str:
    """Return the operator's own comment with the change's marker after it."""
    own = _own(_COPY.sub("", comment or ""))
    marker = (
        f"[ncen-updater release={change.release} generation={change.generation} change={change.id}]"
    )
    return f"{own}\n{marker}" if own else marker


def lent_comment(comment: str | None, change: ChangeRef) -> str:
    """Return a live database's comment with the change's marker behind the one it has.

    The last one counts. The one before it says what going back restores.
    """
    marker = live_comment(None, change)
    return f"{comment}\n{marker}" if comment else marker


def returned_comment(comment: str | None) -> str | None:
    """Return the comment as it was before :func:`lent_comment`."""
    return _MARKER.sub("", comment or "") or None


def settled_comment(comment: str | None) -> str | None:
    """Return a comment with its last marker alone."""
    match = _MARKER.search(comment or "")
    if comment is None or match is None:
        return comment
    own = _own(comment[: match.start()])
    return f"{own}\n{match[0].lstrip()}" if own else match[0].lstrip()


def committed_comment(comment: str | None) -> str | None:
    """Return the comment with a marker that says committed; as it was where there is no marker."""
    match = _MARKER.search(comment or "")
    if comment is None or match is None or match["committed"]:
        return comment
    return comment[:-1] + " committed]"


def is_committed(comment: str | None, change_id: str) -> bool:
    """Whether the comment says that this change was committed."""
    match = _MARKER.search(comment or "")
    return match is not None and match["change"] == change_id and bool(match["committed"])


def copied_comment(comment: str | None, change_id: str) -> str:
    """Return a comment that says that the database is a whole copy; the rest as it was."""
    own = original_comment(comment) or ""
    mark = f"[ncen-updater copy change={change_id}]"
    return f"{own}\n{mark}" if own else mark


def is_copy_of(comment: str | None, change_id: str) -> bool:
    """Whether the comment says that the database is a whole copy made by this change."""
    match = _COPY.search(comment or "")
    return match is not None and match["change"] == change_id


def original_comment(comment: str | None) -> str | None:
    """Return the comment without the mark of a copy; None where nothing is left."""
    return _COPY.sub("", comment or "") or None
