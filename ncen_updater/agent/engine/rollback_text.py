"""The way back in one sentence: in the plan, the rehearsal, the dossier and the rollback. Light."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ncen_updater.agent.adapters.databases.ways import RollbackKind
from ncen_updater.common.i18n import N_, LazyText

#: Of a change that leaves the databases as they are, forward and back.
CODE_ONLY_TEXT = LazyText(
    N_("Code only: databases are not copied or migrated; downtime is one restart.")
)

#: Of an upgrade whose program works on the live databases before the stop.
EXPAND_TEXT = LazyText(
    N_("The databases are migrated before the downtime and not copied; downtime is one restart.")
)

_PATH_TEXTS = {
    RollbackKind.KEEPS_RECORDS: N_("Rollback from {origin} to {target} keeps all records."),
    RollbackKind.RESTORES_PREVIOUS: N_(
        "Rollback from {origin} to {target} restores the previous databases; records"
        " entered since the upgrade are lost."
    ),
    RollbackKind.DEPENDS_ON_MIGRATOR: N_(
        "Rollback from {origin} to {target} may lose records entered since the upgrade; a"
        " rehearsal shows whether it does."
    ),
}
#: Of a release that was not rehearsed yet: its files say so, and a rehearsal may find that less is.
_UNREHEARSED_TEXT = N_(
    "Rollback from {origin} to {target} keeps all records, according to the release;"
    " confirm by a rehearsal."
)
_PARTIAL_LOSS_TEXT = N_(
    "Rollback from {origin} to {target} keeps all records except values entered in {objects}."
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
    words = N_("After the soak period, {program} completes the migrations without downtime.")
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
