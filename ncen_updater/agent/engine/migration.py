"""Migration of the candidates: run the checks, migrate, run them again, compare.

The step of a change and a rehearsal both call it: what was rehearsed is what will run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ncen_updater.agent.adapters.databases.base import ChangeRef, DatabaseEngine, MigrationSet
from ncen_updater.agent.adapters.databases.migrations.domain_checks import (
    CheckValue,
    compare_checks,
    run_checks,
)
from ncen_updater.agent.adapters.databases.migrations.planner import build_rollback_target
from ncen_updater.agent.adapters.databases.parallel import run_in_parallel
from ncen_updater.agent.engine.schema_fingerprints import (
    DatabaseSchemas,
    read_fingerprints,
    read_schemas,
)
from ncen_updater.agent.model.errors import DomainChecksError
from ncen_updater.common.i18n import join_texts
from ncen_updater.common.progress import ProgressListener
from ncen_updater.formats.manifest import CheckRelation, CheckStage, DomainCheck

REVERSED_COMPARISONS = {
    CheckRelation.EQUAL: CheckRelation.EQUAL,
    CheckRelation.NOT_LESS: CheckRelation.NOT_MORE,
    CheckRelation.NOT_MORE: CheckRelation.NOT_LESS,
}


@dataclass(frozen=True)
class MigrationResult:
    """What was found of candidates that were migrated.

    Attributes:
        checks_before: The values of the checks on the copies.
        checks_after: The same on what became of them.
        fingerprints_before: Fingerprints of the copies.
        fingerprints: Of what became of them.
        schema_kinds: Of each kind of things in them.
        wrote_rows: Whether a migration wrote rows, or a program of the release is still to come.
    """

    checks_before: Mapping[str, CheckValue]
    checks_after: Mapping[str, CheckValue]
    fingerprints_before: Mapping[str, str]
    fingerprints: Mapping[str, str]
    schema_kinds: Mapping[str, Mapping[str, str]]
    wrote_rows: bool

    @property
    def is_unchanged(self) -> bool:
        """Return whether neither schema nor rows are others."""
        return not self.wrote_rows and self.fingerprints == self.fingerprints_before


def migrate_and_check(
    engine: DatabaseEngine,
    change: ChangeRef,
    checks: Sequence[DomainCheck],
    target: MigrationSet,
    origin: MigrationSet,
    progress: ProgressListener,
    *,
    up: bool,
) -> MigrationResult:
    """Bring the candidates of a change to a schema, and check what the data mean.

    Args:
        engine: The databases.
        change: Whose candidates.
        checks: Of the newer release.
        target: What is migrated to; see :func:`build_down_target` for a down migration.
        origin: Migrations of the release that is left.
        progress: Told what runs.
        up: Whether the target is the newer release; else the checks are read backwards.

    Raises:
        DomainChecksError: If a check does not hold.
        UpdaterError: If a migration or a question fails.
    """
    checks = checks if up else _reverse_checks(checks)
    with engine.hold_sessions(migrating=True):
        acts: Mapping[str, Callable[[], Mapping[str, CheckValue]]] = {
            "checks": partial(run_checks, engine, change.get_candidate, checks, CheckStage.BEFORE),
            # Beside the checks, since users may be out.
            "schemas": partial(read_fingerprints, engine, change.get_candidate),
        }
        asked = run_in_parallel(acts, cancel=engine.cancel_sessions)
        before, as_copied = asked["checks"], asked["schemas"]
        wrote = engine.migrate(change, target, origin, progress)
        # What is still to come, once users are in, does not leave them as they were either.
        wrote = wrote or target.contract_program is not None
        after = run_checks(engine, change.get_candidate, checks, CheckStage.AFTER)
        failures = compare_checks(checks, before, after)
        if failures:
            raise DomainChecksError(problems=join_texts(failure.text for failure in failures))
        found = read_schemas(engine, change.get_candidate)
    copied = {name: str(text) for name, text in as_copied.items()}
    return MigrationResult(before, after, copied, found.fingerprints, found.kinds, wrote)


def mark_without_migrating(engine: DatabaseEngine, change: ChangeRef) -> DatabaseSchemas:
    """Give candidates to another release as they are; return their schemas."""
    engine.mark_candidates(change)
    return read_schemas(engine, change.get_candidate)


def build_down_target(
    engine: DatabaseEngine,
    change: ChangeRef,
    newer: MigrationSet,
    older: MigrationSet,
    undoes: str,
    ledger_rows_before: Mapping[str, int] | None = None,
) -> MigrationSet:
    """Return what a down migration leads to: files only, never a program.

    Args:
        engine: The databases.
        change: Whose candidates.
        newer: Migrations of the release that is left.
        older: Those of the release before.
        undoes: The change that brought the newer one.
        ledger_rows_before: By database, how many rows of the ledger that change found; all rows
            that carry its id are its own by default.
    """
    ledgers = {
        name: [
            row if place >= (ledger_rows_before or {}).get(name, 0) else replace(row, change="")
            for place, row in enumerate(engine.read_ledger(change.get_candidate(name)))
        ]
        for name in engine.names
    }
    return build_rollback_target(engine.names, ledgers, newer, older, undoes)


def _reverse_checks(checks: Sequence[DomainCheck]) -> tuple[DomainCheck, ...]:
    """Exchange before and after, for a down migration.

    Only relations have a meaning backwards: an expected value speaks of the newer schema alone.
    """
    return tuple(
        check.model_copy(
            update={
                "sql": check.sql_after or check.sql,
                "sql_after": check.sql,
                "compare": REVERSED_COMPARISONS[check.relation],
            }
        )
        for check in checks
        if check.relation is not None
    )
