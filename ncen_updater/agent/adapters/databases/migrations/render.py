"""A plan as SQL text, for the eyes of a national DBA: what runs, in the order in which it runs."""

from __future__ import annotations

from collections.abc import Sequence

from ncen_updater.agent.adapters.databases.base import (
    Direction,
    MigrationPlan,
    MigrationSet,
    SqlMigration,
)
from ncen_updater.agent.adapters.databases.engines import kind_of
from ncen_updater.agent.adapters.databases.migrations.planner import read_sql


def render_sql(
    plan: MigrationPlan,
    engine: str,
    target: MigrationSet,
    origin: MigrationSet | None = None,
    change: str = "<change>",
) -> str:
    """Return every statement of a plan with its database, time-outs, transaction and ledger row.

    Args:
        plan: What will run.
        engine: A name of :data:`.engines.ENGINES`.
        target: The release to reach, for limits and ``verify`` files.
        origin: The release that runs now, for those of ``down`` files.
        change: Id of the change, where it is known already.
    """
    lines = [f"-- Release {target.release}, {engine}: {len(plan.steps)} migrations"]
    for database, migration, reason in plan.irreversible:
        lines.append(f"-- {database}: {migration} has no way down: {_one_line(reason)}")
    if target.command is not None:
        lines.append(f"-- The application's own migrator runs: {' '.join(target.command.argv)}")
    if target.contract is not None:
        words = "-- It brings its migrations to their end with:"
        lines.append(f"{words} {' '.join(target.contract.argv)}")
    kind = kind_of(engine)
    for step in plan.steps:
        source = target if step.direction is Direction.UP else origin
        item = _find(source.databases.get(step.database, ()) if source else (), step.id)
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
                *kind.limits(lock, statement, inside=False),
                text,
            ]
        lines += [kind.begin, *kind.limits(lock, statement, inside=True)]
        if not alone:
            lines += [text, *kind.before_commit]
        if step.direction is Direction.UP and item is not None and item.verify is not None:
            lines += ["-- each of these must return no row:", read_sql(item.verify).rstrip()]
        values = (step.id, step.direction.value, step.sha256, target.release, change, "<time>")
        insert = kind.tables.insert.split(" VALUES ", 1)[0]
        lines.append(f"{insert} VALUES ({', '.join(_quoted(value) for value in values)});")
        lines += ["-- and the version row of Alembic", "COMMIT;"]
    return "\n".join(lines) + "\n"


def _find(migrations: Sequence[SqlMigration], name: str) -> SqlMigration | None:
    return next((item for item in migrations if item.migration.id == name), None)


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _one_line(text: str) -> str:
    return " ".join(text.split())
