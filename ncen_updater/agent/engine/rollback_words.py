"""The way back in one sentence: in the plan, the rehearsal, the dossier and the rollback. Light."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ncen_updater.agent.adapters.databases.ways import RollbackKind
from ncen_updater.common.i18n import N_, LazyText

#: Of a change that leaves the databases as they are, forward and back.
CODE_ONLY_TEXT = LazyText(
    N_("Only the code changes: no database is copied or migrated; officers are out for a restart.")
)

#: Of an upgrade whose program works on the live databases before the stop.
EXPAND_TEXT = LazyText(
    N_(
        "The databases are migrated before, while officers go on working; none is copied, and"
        " officers are out for a restart."
    )
)

_PATH_TEXTS = {
    RollbackKind.KEEPS_RECORDS: N_("A rollback from {origin} to {target} keeps every record."),
    RollbackKind.RESTORES_PREVIOUS: N_(
        "A rollback from {origin} to {target} restores the databases of before, and loses what was"
        " entered since; the loss is counted and asked for first."
    ),
    RollbackKind.DEPENDS_ON_MIGRATOR: N_(
        "A rollback from {origin} to {target} restores the databases of before, and loses what was"
        " entered since, unless the rehearsal shows that the release changes nothing in them."
    ),
}
#: Of a release that was not rehearsed yet: its files say so, and a rehearsal may find that less is.
_UNREHEARSED_TEXT = N_(
    "By its files, a rollback from {origin} to {target} keeps every record; only a rehearsal shows"
    " what is lost of it."
)
_PARTIAL_LOSS_TEXT = N_(
    "A rollback from {origin} to {target} keeps every record, but not what is entered in {objects}:"
    " how much that is, is counted and asked for first."
)


def describe_copy_free_downtime(*, no_copy: bool, expands: bool) -> LazyText | None:
    """Say what a stop spares that copies nothing; None where databases are copied; pure."""
    if expands:
        return EXPAND_TEXT
    return CODE_ONLY_TEXT if no_copy else None


def describe_contract(program: Sequence[str]) -> LazyText | None:
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
    return LazyText(words, {"program": shlex.join(program)})


def describe_rollback(
    path: RollbackKind,
    origin: object,
    target: object,
    loses: Sequence[str] = (),
    *,
    rehearsed: bool = True,
) -> LazyText:
    """Say the way back: one sentence for the plan, the dossier and the rollback itself; pure.

    Args:
        path: Which way.
        origin: The release that is left.
        target: The release that is gone back to.
        loses: Tables and columns whose new values the ways down do not keep.
        rehearsed: Whether a rehearsal tried it, or a count says what is lost.
    """
    values = {"origin": str(origin), "target": str(target)}
    if path is RollbackKind.KEEPS_RECORDS and loses:
        return LazyText(_PARTIAL_LOSS_TEXT, {**values, "objects": ", ".join(loses)})
    if path is RollbackKind.KEEPS_RECORDS and not rehearsed:
        return LazyText(_UNREHEARSED_TEXT, values)
    return LazyText(_PATH_TEXTS[path], values)
