"""What has to run to come from a ledger to a release: pure but for the reading of the files.

The ledger is a list of acts, oldest first: a ``down`` cancels the ``up`` before it. What remains is
the *effective state*, a stack. A release can be reached when its list and the stack begin alike;
what stands on the stack beyond that is undone, newest first, with the files of the release that
runs now, and what the release has beyond that is done, in order. Anything else is refused: an
edited file, an unknown migration, or one that is missing below another that is applied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from packaging.version import Version

from ncen_updater.databases.base import (
    AppliedMigration,
    Direction,
    MigrationPlan,
    MigrationSet,
    PlannedMigration,
    SqlMigration,
)
from ncen_updater.databases.errors import MigrationRefused
from ncen_updater.i18n import N_, Text

__all__ = [
    "Reason",
    "by_id",
    "command_without_way_back",
    "effective",
    "plan_steps",
    "read_sql",
    "without_way_down",
]


class Reason(StrEnum):
    """Why a ledger and a release do not fit; the value is the sentence shown."""

    LEDGER_BROKEN = N_("its record of migrations contradicts itself at {migration}.")
    EDITED = N_("migration {migration} was changed after it had been applied.")
    UNKNOWN = N_("migration {migration} was applied, and no release at hand contains it.")
    HOLE = N_("migration {migration} is missing although a later one was applied.")
    OUT_OF_ORDER = N_("migration {migration} would have to be undone below a later one.")
    NO_WAY_DOWN = N_("migration {migration} cannot be undone.")
    STALE_PLAN = N_("it changed after the plan was made; look at migration {migration}.")


def refused(database: str, reason: Reason, migration: str) -> MigrationRefused:
    """Return the error for one reason."""
    text = Text(str(reason), {"migration": migration})
    return MigrationRefused(
        database=database, reason=text, kind=reason.name.lower(), migration=migration
    )


def read_sql(path: Path) -> str:
    """Return a migration file's text; the loader has checked size and encoding."""
    return path.read_bytes().decode("utf-8")


def by_id(
    target: Sequence[SqlMigration], origin: Sequence[SqlMigration] | None
) -> dict[str, SqlMigration]:
    """Return the migrations of both releases by id; the target's where both have one."""
    return {m.migration.id: m for m in (*(origin or ()), *target)}


def effective(database: str, applied: Sequence[AppliedMigration]) -> tuple[AppliedMigration, ...]:
    """Return the ``up`` rows that stand, oldest first.

    Raises:
        MigrationRefused: If a row undoes what is not on top, or applies what is applied.
    """
    stack: list[AppliedMigration] = []
    for row in applied:
        if row.direction is Direction.UP:
            if any(row.id == other.id for other in stack):
                raise refused(database, Reason.LEDGER_BROKEN, row.id)
            stack.append(row)
        elif stack and stack[-1].id == row.id:
            stack.pop()
        else:
            raise refused(database, Reason.LEDGER_BROKEN, row.id)
    return tuple(stack)


def _check_known(
    database: str,
    stack: Sequence[AppliedMigration],
    target: Mapping[str, SqlMigration],
    origin: Mapping[str, SqlMigration],
) -> None:
    for row in stack:
        known = [m for m in (target.get(row.id), origin.get(row.id)) if m is not None]
        if not known:
            raise refused(database, Reason.UNKNOWN, row.id)
        if any(m.up_sha256 != row.sha256 for m in known):
            raise refused(database, Reason.EDITED, row.id)


def _check_order(
    database: str, above: Sequence[AppliedMigration], missing: Sequence[SqlMigration]
) -> None:
    """Refuse a target that shares a migration with the stack beyond the common beginning."""
    beyond = {m.migration.id for m in missing}
    for place, row in enumerate(above):
        if row.id in beyond:
            if place == 0:
                raise refused(database, Reason.HOLE, missing[0].migration.id)
            raise refused(database, Reason.OUT_OF_ORDER, above[0].id)


def plan_steps(
    database: str,
    applied: Sequence[AppliedMigration],
    target: Sequence[SqlMigration],
    origin: Sequence[SqlMigration] | None,
    *,
    read: Callable[[Path], str] = read_sql,
) -> MigrationPlan:
    """Say what runs to bring a database from its ledger to a release.

    Args:
        database: Logical name.
        applied: The ledger, oldest first.
        target: Migrations of the release to reach, in order.
        origin: Migrations of the release that runs now; needed only where the way leads down.
        read: Returns a file's text.

    Returns:
        The steps, downs first. ``irreversible`` names the migrations in the range without a way
        down: among those to be undone (then there is no such way, see :func:`without_way_down`) and
        among those to be applied (then there will be no way back that keeps records).

    Raises:
        MigrationRefused: If ledger and releases do not fit together; ``values["kind"]`` says why.
    """
    stack = effective(database, applied)
    known_target = {m.migration.id: m for m in target}
    known_origin = {m.migration.id: m for m in origin or ()}
    _check_known(database, stack, known_target, known_origin)
    common = 0
    while common < min(len(stack), len(target)) and stack[common].id == target[common].migration.id:
        common += 1
    above, missing = stack[common:], target[common:]
    _check_order(database, above, missing)

    steps: list[PlannedMigration] = []
    irreversible: list[tuple[str, str, str]] = []
    for row in reversed(above):
        item = known_origin[row.id]
        if item.down is None or item.down_sha256 is None:
            irreversible.append((database, row.id, item.migration.irreversible or ""))
        else:
            steps.append(_step(database, Direction.DOWN, item, item.down, item.down_sha256, read))
    for item in missing:
        steps.append(_step(database, Direction.UP, item, item.up, item.up_sha256, read))
        if item.down is None:
            reason = item.migration.irreversible or ""
            irreversible.append((database, item.migration.id, reason))
    return MigrationPlan(tuple(steps), tuple(irreversible))


def _step(
    database: str,
    direction: Direction,
    item: SqlMigration,
    path: Path,
    sha256: str,
    read: Callable[[Path], str],
) -> PlannedMigration:
    return PlannedMigration(database, direction, item.migration.id, path, sha256, read(path))


def command_without_way_back(
    names: Sequence[str], target: MigrationSet, origin: MigrationSet | None
) -> tuple[tuple[str, str, str], ...]:
    """Say that an application's own migrator, run or to be undone, has no way back.

    What the ledger says does not count here: a program writes no row into it, so that the ledger of
    the release before the program looks as if nothing had to be undone.

    Returns:
        As :attr:`MigrationPlan.irreversible`; empty where files alone lead from one to the other.
    """
    undone = origin is not None and Version(origin.release) > Version(target.release)
    command = origin.command if undone and origin is not None else target.command
    command = command or target.command
    return tuple((name, command.argv[0], command.no_way_back) for name in names) if command else ()


def without_way_down(plan: MigrationPlan) -> tuple[tuple[str, str, str], ...]:
    """Return the irreversible migrations that would have to be undone: the plan cannot run."""
    going_up = {(s.database, s.id) for s in plan.steps if s.direction is Direction.UP}
    return tuple(item for item in plan.irreversible if item[:2] not in going_up)
