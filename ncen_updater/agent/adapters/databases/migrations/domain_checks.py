"""Domain checks of a manifest: run on the databases before and after a migration, then compared.

Running them needs an engine; comparing is pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ncen_updater.agent.adapters.databases.base import DatabaseEngine, DatabaseRef, DatabaseSelector
from ncen_updater.agent.adapters.databases.parallel import run_in_parallel
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import CHECK_RESULT_INVALID, QUERY_FAILED
from ncen_updater.formats.manifest import CheckRelation, CheckStage, DomainCheck, ReferenceMap
from ncen_updater.formats.sql import check_query_sql, split_statements

CheckValue = int | str | None


@dataclass(frozen=True)
class CheckFailure:
    """Failed check.

    Attributes:
        check: Its name, in plain words.
        database: Logical name of its database.
        text: The message with the values.
        before: Value before the migration, None if it was not run.
        after: Value after the migration, None if it was not run.
    """

    check: str
    database: str
    text: LazyText
    before: CheckValue = None
    after: CheckValue = None


@dataclass(frozen=True)
class UnmappedReferences:
    """Rows of a reference table that have no target in the new release.

    Attributes:
        name: Name of the map.
        database: Logical name of the database.
        strict: Whether such rows block.
        rows: Code and number of rows, as the manifest's SELECT returns them.
    """

    name: str
    database: str
    strict: bool
    rows: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        """Return the number of rows without a target."""
        return sum(count for _, count in self.rows)


def run_checks(
    engine: DatabaseEngine,
    select: DatabaseSelector,
    checks: Sequence[DomainCheck],
    side: CheckStage,
) -> dict[str, CheckValue]:
    """Run every check of a stage and return its value by name.

    Different databases are queried in parallel, the checks of one database in sequence.

    Args:
        engine: The site's databases.
        select: Selects the databases.
        checks: The manifest's checks.
        side: BEFORE or AFTER; for AFTER, ``sql_after`` is run if it is given.

    Raises:
        QUERY_FAILED: The server refused the query.
        CHECK_RESULT_INVALID: The result is not one row with one value.
    """
    asked = [check for check in checks if check.when in (side, CheckStage.BOTH)]
    chains: dict[str, list[DomainCheck]] = {}
    for check in asked:
        chains.setdefault(check.database, []).append(check)
    with engine.hold_sessions():
        found = run_in_parallel(
            {
                name: partial(_run_database_checks, engine, select(name), chain, side)
                for name, chain in chains.items()
            },
            cancel=engine.cancel_sessions,
        )
    return {check.name: found[check.database][check.name] for check in asked}


def _run_database_checks(
    engine: DatabaseEngine, place: DatabaseRef, checks: Sequence[DomainCheck], side: CheckStage
) -> dict[str, CheckValue]:
    values: dict[str, CheckValue] = {}
    for check in checks:
        sql = (check.sql_after or check.sql) if side is CheckStage.AFTER else check.sql
        rows = run_release_query(engine, place, sql)
        if len(rows) != 1 or len(rows[0]) != 1:
            shape = f"{len(rows)} x {len(rows[0])}" if rows else "0 x 0"
            raise DatabaseError(
                CHECK_RESULT_INVALID,
                check=check.name,
                database=check.database,
                shape=shape,
                detail=sql,
            )
        values[check.name] = _normalize_value(rows[0][0])
    return values


def run_release_query(
    engine: DatabaseEngine, database: DatabaseRef, sql: str
) -> list[tuple[object, ...]]:
    """Run one query of a release.

    Raises:
        QUERY_FAILED: It is not a permitted query, or the server refused it.
    """
    refused = check_query_sql(sql, engine.engine_name)
    if refused is not None:
        raise DatabaseError(QUERY_FAILED, database=database.name, sql=sql, detail=refused.reason)
    return engine.run_query(database, split_statements(sql, engine.engine_name)[0].text)


def _normalize_value(value: object) -> CheckValue:
    """Convert a driver's value to a type that a manifest can expect: integer, text or None."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (bool, int)):
        return int(value)
    text = str(value)
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdecimal() else text


_RELATION_FAILURES = {
    CheckRelation.EQUAL: N_("check '{check}' changed from {before} to {after}"),
    CheckRelation.NOT_LESS: N_("check '{check}' decreased from {before} to {after}"),
    CheckRelation.NOT_MORE: N_("check '{check}' increased from {before} to {after}"),
}


def compare_checks(
    checks: Sequence[DomainCheck], before: Mapping[str, CheckValue], after: Mapping[str, CheckValue]
) -> tuple[CheckFailure, ...]:
    """Return the failed checks; a check without a value counts as failed.

    Args:
        checks: The manifest's checks.
        before: Result of :func:`run_checks` for BEFORE; if that stage was not run, leave out its
            checks.
        after: The same for AFTER.
    """
    found: list[CheckFailure] = []
    for check in checks:
        sides = [(CheckStage.BEFORE, before), (CheckStage.AFTER, after)]
        asked = [values for side, values in sides if check.when in (side, CheckStage.BOTH)]
        left, right = before.get(check.name), after.get(check.name)
        values: dict[str, object] = {"check": check.name, "before": left, "after": right}
        what: str | None = None
        if any(check.name not in values_ for values_ in asked):
            what = N_(
                "check '{check}' has no result on one side (before: {before}, after: {after})"
            )
        elif check.relation is not None:
            if not _relation_holds(check.relation, left, right):
                what = _RELATION_FAILURES[check.relation]
        elif any(values_[check.name] != check.expect for values_ in asked):
            values["expect"] = check.expect
            what = N_("check '{check}' must be {expect} (before: {before}, after: {after})")
        if what is not None:
            found.append(
                CheckFailure(check.name, check.database, LazyText(what, values), left, right)
            )
    return tuple(found)


def _relation_holds(relation: CheckRelation, before: CheckValue, after: CheckValue) -> bool:
    if relation is CheckRelation.EQUAL:
        return before == after
    if not isinstance(before, int) or not isinstance(after, int):
        return False
    return after >= before if relation is CheckRelation.NOT_LESS else after <= before


def find_unmapped_references(
    engine: DatabaseEngine, select: DatabaseSelector, maps: Sequence[ReferenceMap]
) -> tuple[UnmappedReferences, ...]:
    """Return the reference maps with rows without a target; empty if all rows are mapped.

    Raises:
        QUERY_FAILED: The server refused the query.
        CHECK_RESULT_INVALID: The result is not code and count.
    """
    found: list[UnmappedReferences] = []
    for item in maps:
        rows: list[tuple[str, int]] = []
        for row in run_release_query(engine, select(item.database), item.unmapped):
            if len(row) != 2:
                raise _make_count_error(item, item.unmapped, f"1 x {len(row)}")
            rows.append((str(row[0]), _parse_count(item, item.unmapped, row[1])))
        if rows:
            found.append(UnmappedReferences(item.name, item.database, item.strict, tuple(rows)))
    return tuple(found)


def count_affected_rows(
    engine: DatabaseEngine, select: DatabaseSelector, item: ReferenceMap
) -> int | None:
    """Return the number of rows that get a new code; None if the map has no query for it.

    Raises:
        QUERY_FAILED: The server refused the query.
        CHECK_RESULT_INVALID: The result is not one number.
    """
    if item.affected is None:
        return None
    rows = run_release_query(engine, select(item.database), item.affected)
    if len(rows) != 1 or len(rows[0]) != 1:
        shape = f"{len(rows)} x {len(rows[0])}" if rows else "0 x 0"
        raise _make_count_error(item, item.affected, shape)
    return _parse_count(item, item.affected, rows[0][0])


def _parse_count(item: ReferenceMap, sql: str, value: object) -> int:
    count = _normalize_value(value)
    if not isinstance(count, int):
        raise _make_count_error(item, sql, "NULL" if count is None else str(count))
    return count


def _make_count_error(item: ReferenceMap, sql: str, shape: str) -> DatabaseError:
    return DatabaseError(
        CHECK_RESULT_INVALID, check=item.name, database=item.database, shape=shape, detail=sql
    )
