"""What *migrate* does to candidates: ask the checks, migrate, ask again, compare.

The step of a change and a rehearsal both call it: what was rehearsed is what will run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ncen_updater.agent.adapters.databases.base import ChangeRef, DatabaseEngine, MigrationSet
from ncen_updater.agent.adapters.databases.migrations.checks import Value, ask, compare
from ncen_updater.agent.adapters.databases.migrations.planner import way_target
from ncen_updater.agent.adapters.databases.side_by_side import side_by_side
from ncen_updater.agent.engine.fingerprints import Schemas, fingerprints_of, schemas_of
from ncen_updater.agent.model.errors import ChecksFailed
from ncen_updater.common.progress import Progress
from ncen_updater.formats.manifest import Check, Compare, When

FLIPPED = {
    Compare.EQUAL: Compare.EQUAL,
    Compare.NOT_LESS: Compare.NOT_MORE,
    Compare.NOT_MORE: Compare.NOT_LESS,
}


@dataclass(frozen=True)
class Migrated:
    """What was found of candidates that were migrated.

    Attributes:
        before: The values of the checks on the copies.
        after: The same on what became of them.
        as_copied: Fingerprints of the copies.
        fingerprints: Of what became of them.
        kinds: Of each kind of things in them.
        wrote: Whether a migration wrote rows, or a program of the release is still to come.
    """

    before: Mapping[str, Value]
    after: Mapping[str, Value]
    as_copied: Mapping[str, str]
    fingerprints: Mapping[str, str]
    kinds: Mapping[str, Mapping[str, str]]
    wrote: bool

    @property
    def unchanged(self) -> bool:
        """Whether neither schema nor rows are others."""
        return not self.wrote and self.fingerprints == self.as_copied


def migrate_and_check(
    engine: DatabaseEngine,
    change: ChangeRef,
    checks: Sequence[Check],
    target: MigrationSet,
    origin: MigrationSet,
    progress: Progress,
    *,
    up: bool,
) -> Migrated:
    """Bring the candidates of a change to a schema, and check what the data mean.

    Args:
        engine: The databases.
        change: Whose candidates.
        checks: Of the newer release.
        target: What is migrated to; see :func:`down_target` for a way down.
        origin: Migrations of the release that is left.
        progress: Told what runs.
        up: Whether the target is the newer release; else the checks are read backwards.

    Raises:
        ChecksFailed: If a check does not hold.
        UpdaterError: If a migration or a question fails.
    """
    checks = checks if up else _backwards(checks)
    with engine.held():
        acts: Mapping[str, Callable[[], Mapping[str, Value]]] = {
            "checks": partial(ask, engine, change.candidate, checks, When.BEFORE),
            # Beside the checks, since officers may be out.
            "schemas": partial(fingerprints_of, engine, change.candidate),
        }
        asked = side_by_side(acts, halt=engine.halt)
        before, as_copied = asked["checks"], asked["schemas"]
        wrote = engine.migrate(change, target, origin, progress)
        # What is still to come, once officers are in, does not leave them as they were either.
        wrote = wrote or target.contract is not None
        after = ask(engine, change.candidate, checks, When.AFTER)
        failures = compare(checks, before, after)
        if failures:
            raise ChecksFailed(problems="; ".join(str(failure.what) for failure in failures))
        found = schemas_of(engine, change.candidate)
    copied = {name: str(text) for name, text in as_copied.items()}
    return Migrated(before, after, copied, found.fingerprints, found.kinds, wrote)


def mark_only(engine: DatabaseEngine, change: ChangeRef) -> Schemas:
    """Give candidates to another release as they are; return their schemas."""
    engine.mark(change)
    return schemas_of(engine, change.candidate)


def down_target(
    engine: DatabaseEngine,
    change: ChangeRef,
    newer: MigrationSet,
    older: MigrationSet,
    undoes: str,
    stood: Mapping[str, int] | None = None,
) -> MigrationSet:
    """Return what a way down leads to: files only, never a program.

    Args:
        engine: The databases.
        change: Whose candidates.
        newer: Migrations of the release that is left.
        older: Those of the release before.
        undoes: The change that brought the newer one.
        stood: By database, how many rows of the ledger that change found; all rows that carry its
            id are its own by default.
    """
    ledgers = {
        name: [
            row if place >= (stood or {}).get(name, 0) else replace(row, change="")
            for place, row in enumerate(engine.applied(change.candidate(name)))
        ]
        for name in engine.names
    }
    return way_target(engine.names, ledgers, newer, older, undoes)


def _backwards(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Exchange before and after, for a way down.

    Only relations have a meaning backwards: an expected value speaks of the newer schema alone.
    """
    return tuple(
        check.model_copy(
            update={
                "sql": check.sql_after or check.sql,
                "sql_after": check.sql,
                "compare": FLIPPED[check.compare],
            }
        )
        for check in checks
        if check.compare is not None
    )
