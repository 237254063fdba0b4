"""The way back in one sentence: in the plan, the rehearsal, the dossier and the rollback. Light."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ncen_updater.agent.adapters.databases.ways import Back
from ncen_updater.common.i18n import N_, Text

#: Of a change that leaves the databases as they are, forward and back.
ONLY_CODE = Text(
    N_("Only the code changes: no database is copied or migrated; officers are out for a restart.")
)

#: Of an upgrade whose program works on the live databases before the stop.
EXPANDS = Text(
    N_(
        "The databases are migrated before, while officers go on working; none is copied, and"
        " officers are out for a restart."
    )
)

_WORDS = {
    Back.KEEPS: N_("A rollback from {origin} to {target} keeps every record."),
    Back.RESTORES: N_(
        "A rollback from {origin} to {target} restores the databases of before, and loses what was"
        " entered since; the loss is counted and asked for first."
    ),
    Back.DEPENDS: N_(
        "A rollback from {origin} to {target} restores the databases of before, and loses what was"
        " entered since, unless the rehearsal shows that the release changes nothing in them."
    ),
}
#: Of a release that was not rehearsed yet: its files say so, and a rehearsal may find that less is.
_BY_ITS_FILES = N_(
    "By its files, a rollback from {origin} to {target} keeps every record; only a rehearsal shows"
    " what is lost of it."
)
_BUT = N_(
    "A rollback from {origin} to {target} keeps every record, but not what is entered in {objects}:"
    " how much that is, is counted and asked for first."
)


def stop_words(*, as_is: bool, expands: bool) -> Text | None:
    """Say what a stop spares that copies nothing; None where databases are copied; pure."""
    if expands:
        return EXPANDS
    return ONLY_CODE if as_is else None


def later_words(program: Sequence[str]) -> Text | None:
    """Say what works on the databases once the release was watched; None where nothing does; pure.

    Args:
        program: With its arguments.
    """
    if not program:
        return None
    words = N_(
        "Once the release has proved good, its program {program} brings the migrations to their end"
        " while officers work."
    )
    return Text(words, {"program": shlex.join(program)})


def way_words(
    back: Back, origin: object, target: object, loses: Sequence[str] = (), *, tried: bool = True
) -> Text:
    """Say the way back: one sentence for the plan, the dossier and the rollback itself; pure.

    Args:
        back: Which way.
        origin: The release that is left.
        target: The release that is gone back to.
        loses: Tables and columns whose new values the ways down do not keep.
        tried: Whether a rehearsal tried it, or a count says what is lost.
    """
    values = {"origin": str(origin), "target": str(target)}
    if back is Back.KEEPS and loses:
        return Text(_BUT, {**values, "objects": ", ".join(loses)})
    if back is Back.KEEPS and not tried:
        return Text(_BY_ITS_FILES, values)
    return Text(_WORDS[back], values)
