"""The agent's own tables in every database: ledger, state, and version.

The version table contains the newest migration, in the form of Alembic's table.

They are in the schema ``ncen_updater``, or have the prefix ``ncen_updater_`` if the engine has no
schemas. The application's role owns them, since migrations run as that role.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ncen_updater.agent.adapters.databases.base import (
    AppliedMigration,
    DatabaseMarker,
    MigrationDirection,
)
from ncen_updater.agent.model.errors import LedgerUnreadableError

AGENT_SCHEMA = "ncen_updater"
AGENT_PREFIX = "ncen_updater_"
PARKED_SCHEMA = "ncen_kept"
PARKED_PREFIX = f"{PARKED_SCHEMA}__"


@dataclass(frozen=True)
class LedgerTables:
    """Names and statements of these tables in one engine, with the driver's placeholders.

    Attributes:
        create: Statements that create them, run in order; safe to repeat.
        exists: Returns one row if the ledger exists.
        select_rows: Returns the columns of :class:`AppliedMigration`, oldest row first.
        insert_row: Inserts a ledger row, from the same columns in the same order.
        delete_change: Deletes every ledger row of a change.
        select_state: Returns release, generation, change; at most one row.
        upsert_state: Inserts or replaces the state row.
        delete_state: Deletes the state row.
        select_version: Returns the newest migration; no row if there is none.
        delete_versions: Deletes all its rows, and returns them.
        insert_version: Inserts one.
    """

    create: tuple[str, ...]
    exists: str
    select_rows: str
    insert_row: str
    delete_change: str
    select_state: str
    upsert_state: str
    delete_state: str
    select_version: str
    delete_versions: str
    insert_version: str


def build_ledger_tables(
    schema: str | None, prefix: str, placeholder: str, identity_type: str, exists: str
) -> LedgerTables:
    """Return the statements for an engine.

    Args:
        schema: Schema of the tables; None if the engine has no schemas.
        prefix: Prefix of their names.
        placeholder: The driver's placeholder for a value.
        identity_type: Type of an auto-increment column.
        exists: See :class:`LedgerTables`.
    """
    qualifier = f"{schema}." if schema else ""
    ledger, state = f"{qualifier}{prefix}ledger", f"{qualifier}{prefix}state"
    version = f"{qualifier}{prefix}alembic_version"
    columns = "id, direction, sha256, release, change, applied_at"
    typed = ", ".join(f"{name} text NOT NULL" for name in columns.split(", "))
    schemas = (f"CREATE SCHEMA IF NOT EXISTS {schema}",) if schema else ()
    return LedgerTables(
        create=(
            *schemas,
            f"CREATE TABLE IF NOT EXISTS {ledger} (seq {identity_type}, {typed})",
            f"CREATE TABLE IF NOT EXISTS {state} (one integer PRIMARY KEY CHECK (one = 1), "
            "release text NOT NULL, generation bigint NOT NULL, change text NOT NULL)",
            # Alembic's own column has 32 characters; ids here have up to 61.
            f"CREATE TABLE IF NOT EXISTS {version} (version_num varchar(100) PRIMARY KEY)",
        ),
        exists=exists,
        select_rows=f"SELECT {columns} FROM {ledger} ORDER BY seq",  # noqa: S608 - names are ours
        insert_row=f"INSERT INTO {ledger} ({columns}) "  # noqa: S608 - names are ours
        f"VALUES ({', '.join([placeholder] * 6)})",
        delete_change=f"DELETE FROM {ledger} WHERE change = {placeholder}",  # noqa: S608 - names are ours
        select_state=f"SELECT release, generation, change FROM {state}",  # noqa: S608 - ours
        upsert_state=f"INSERT INTO {state} (one, release, generation, change) "  # noqa: S608
        f"VALUES (1, {placeholder}, {placeholder}, {placeholder}) ON CONFLICT (one) DO UPDATE SET "
        "release = excluded.release, generation = excluded.generation, change = excluded.change",
        delete_state=f"DELETE FROM {state}",  # noqa: S608 - ours
        select_version=f"SELECT version_num FROM {version}",  # noqa: S608 - names are ours
        delete_versions=f"DELETE FROM {version} RETURNING version_num",  # noqa: S608 - ours
        insert_version=f"INSERT INTO {version} (version_num) VALUES ({placeholder})",  # noqa: S608 - ours
    )


def parse_ledger_rows(rows: Iterable[Sequence[object]]) -> tuple[AppliedMigration, ...]:
    """Return the ledger from the rows of ``LedgerTables.select_rows``.

    Raises:
        LedgerUnreadableError: If a row is invalid.
    """
    return tuple(_parse_ledger_row(row) for row in rows)


def _parse_ledger_row(row: Sequence[object]) -> AppliedMigration:
    try:
        direction = MigrationDirection(str(row[1]))
    except ValueError as error:
        raise LedgerUnreadableError(reason=f"{str(row[0])[:80]}: {str(row[1])[:80]!r}") from error
    return AppliedMigration(
        str(row[0]), direction, str(row[2]), str(row[3]), str(row[4]), str(row[5])
    )


def parse_state_row(rows: Sequence[Sequence[object]]) -> DatabaseMarker | None:
    """Return the state from the rows of ``LedgerTables.select_state``.

    Raises:
        LedgerUnreadableError: If it is invalid.
    """
    if not rows:
        return None
    release, generation, change = rows[0]
    try:
        number = int(str(generation))
    except ValueError as error:
        raise LedgerUnreadableError(reason=f"generation {str(generation)[:80]!r}") from error
    return DatabaseMarker(str(release), number, str(change))
