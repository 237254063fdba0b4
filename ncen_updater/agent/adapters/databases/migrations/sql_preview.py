"""A plan as SQL text, for the eyes of a national DBA: what runs, in the order in which it runs."""

from __future__ import annotations

from collections.abc import Sequence

from ncen_updater.agent.adapters.databases.base import (
    MigrationDirection,
    MigrationPlan,
    MigrationSet,
    SqlMigration,
)
from ncen_updater.agent.adapters.databases.engines import get_engine_descriptor
from ncen_updater.agent.adapters.databases.migrations.planner import read_sql


def render_plan_sql(
    plan: MigrationPlan,
    engine: str,
    target: MigrationSet,
    current: MigrationSet | None = None,
    change: str = "<change>",
) -> str:
    """Return every statement of a plan with its database, time-outs, transaction and ledger row.

    Args:
        plan: What will run.
        engine: A name of :data:`.engines.ENGINES`.
        target: The release to reach, for limits and ``verify`` files.
        current: The release that runs now, for those of ``down`` files.
        change: Id of the change, where it is known already.
    """
    lines = [f"-- Release {target.release}, {engine}: {len(plan.steps)} migrations"]
    for database, migration, reason in plan.irreversible:
        lines.append(f"-- {database}: {migration} has no way down: {_join_lines(reason)}")
    if target.migrator is not None:
        lines.append(f"-- The application's own migrator runs: {' '.join(target.migrator.argv)}")
    if target.contract_program is not None:
        words = "-- It brings its migrations to their end with:"
        lines.append(f"{words} {' '.join(target.contract_program.argv)}")
    kind = get_engine_descriptor(engine)
    for step in plan.steps:
        source = target if step.direction is MigrationDirection.UP else current
        item = _find_migration(source.databases.get(step.database, ()) if source else (), step.id)
        limits = item.migration if item else None
        lines += [
            "",
            f"-- database {step.database}, migration {step.id}, {step.direction.value}",
            f"-- sha256 {step.sha256}",
        ]
        lock = limits.lock_timeout_ms if limits else 0
        statement = limits.statement_timeout_ms if limits else 0
        alone = limits is not None and not limits.transactional
        text = step.sql.rstrip()
        if alone:
            lines += [
                "-- outside a transaction:",
                *kind.format_timeouts(lock, statement, in_transaction=False),
                text,
            ]
        lines += [kind.begin_statement, *kind.format_timeouts(lock, statement, in_transaction=True)]
        if not alone:
            lines += [text, *kind.pre_commit_statements]
        if step.direction is MigrationDirection.UP and item is not None and item.verify is not None:
            lines += ["-- each of these must return no row:", read_sql(item.verify).rstrip()]
        values = (step.id, step.direction.value, step.sha256, target.release, change, "<time>")
        insert = kind.ledger_tables.insert_row.split(" VALUES ", 1)[0]
        lines.append(f"{insert} VALUES ({', '.join(_quote_literal(value) for value in values)});")
        lines += ["-- and the version row of Alembic", "COMMIT;"]
    return "\n".join(lines) + "\n"


def _find_migration(migrations: Sequence[SqlMigration], name: str) -> SqlMigration | None:
    return next((item for item in migrations if item.migration.id == name), None)


def _quote_literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _join_lines(text: str) -> str:
    return " ".join(text.split())
