"""Migration of the candidates: run the checks, migrate, run them again, compare.

The step *migrate* of a change and a rehearsal both call this module, so a change runs exactly what
was rehearsed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

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
    """Result of migrating the candidates.

    Attributes:
        checks_before: Values of the checks before the migrations.
        checks_after: Values of the checks after them.
        fingerprints_before: Fingerprints of the schemas before.
        fingerprints: Fingerprints of the schemas after.
        schema_kinds: Fingerprints of each kind of schema object after.
        wrote_rows: Whether a migration wrote rows, or a contract program will run later.
    """

    checks_before: Mapping[str, CheckValue]
    checks_after: Mapping[str, CheckValue]
    fingerprints_before: Mapping[str, str]
    fingerprints: Mapping[str, str]
    schema_kinds: Mapping[str, Mapping[str, str]]
    wrote_rows: bool

    @property
    def is_unchanged(self) -> bool:
        """Return whether neither schemas nor rows changed."""
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
    """Migrate the candidates of a change, and run the domain checks before and after.

    Args:
        engine: The databases.
        change: The change.
        checks: Checks of the newer release.
        target: Target of the migration; see :func:`build_down_target` for a down migration.
        origin: Migrations of the release that is replaced.
        progress: Receives progress reports.
        up: Whether the target is the newer release; otherwise the checks are reversed.

    Raises:
        DomainChecksError: If a check fails.
        UpdaterError: If a migration or a query fails.
    """
    checks = checks if up else _reverse_checks(checks)
    with engine.hold_sessions(migrating=True):
        before, schemas_before = _inspect_candidates(engine, change, checks, CheckStage.BEFORE)
        wrote = engine.migrate(change, target, origin, progress)
        # A contract program, which runs after the commit, also changes the databases.
        wrote = wrote or target.contract_program is not None
        after, schemas_after = _inspect_candidates(engine, change, checks, CheckStage.AFTER)
        failures = compare_checks(checks, before, after)
        if failures:
            raise DomainChecksError(problems=join_texts(failure.text for failure in failures))
    return MigrationResult(
        before,
        after,
        schemas_before.fingerprints,
        schemas_after.fingerprints,
        schemas_after.kinds,
        wrote,
    )


def _inspect_candidates(
    engine: DatabaseEngine, change: ChangeRef, checks: Sequence[DomainCheck], stage: CheckStage
) -> tuple[Mapping[str, CheckValue], DatabaseSchemas]:
    """Run the checks of a stage and read the schemas, in parallel, since users may be waiting."""
    values: dict[str, CheckValue] = {}
    schemas: list[DatabaseSchemas] = []
    tasks: Mapping[str, Callable[[], None]] = {
        "checks": lambda: values.update(run_checks(engine, change.get_candidate, checks, stage)),
        "schemas": lambda: schemas.append(read_schemas(engine, change.get_candidate)),
    }
    run_in_parallel(tasks, cancel=engine.cancel_sessions)
    return values, schemas[0]


def mark_without_migrating(engine: DatabaseEngine, change: ChangeRef) -> DatabaseSchemas:
    """Mark candidates as those of another release without migrating them; return their schemas."""
    engine.mark_candidates(change)
    return read_schemas(engine, change.get_candidate)


def build_down_target(
    engine: DatabaseEngine,
    change: ChangeRef,
    newer: MigrationSet,
    older: MigrationSet,
    undone_change: str,
    ledger_rows_before: Mapping[str, int] | None = None,
) -> MigrationSet:
    """Return the target of a down migration: files only, never a program.

    Args:
        engine: The databases.
        change: The change that owns the candidates.
        newer: Migrations of the newer release.
        older: Migrations of the release before it.
        undone_change: The change that installed the newer release.
        ledger_rows_before: Number of ledger rows that this change found, by database; by default
            all rows with its id are its own.
    """
    ledgers = {
        name: [
            row if position >= (ledger_rows_before or {}).get(name, 0) else replace(row, change="")
            for position, row in enumerate(engine.read_ledger(change.get_candidate(name)))
        ]
        for name in engine.names
    }
    return build_rollback_target(engine.names, ledgers, newer, older, undone_change)


def _reverse_checks(checks: Sequence[DomainCheck]) -> tuple[DomainCheck, ...]:
    """Swap before and after, for a down migration.

    Only checks with a relation can be reversed: an expected value applies to the newer schema
    alone.
    """
    return tuple(
        check.model_copy(
            update={
                "sql": check.sql_after or check.sql,
                "sql_after": check.sql,
                "relation": REVERSED_COMPARISONS[check.relation],
            }
        )
        for check in checks
        if check.relation is not None
    )
