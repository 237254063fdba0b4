"""Domain checks of a manifest: run on the databases before and after a migration, then compared.

Running them needs an engine; comparing is pure. Queries of reference maps are run here, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from ncen_updater.agent.adapters.databases.base import DatabaseEngine, DatabaseRef, DatabaseSelector
from ncen_updater.agent.adapters.databases.parallel import run_in_parallel
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import CHECK_RESULT_INVALID, QUERY_FAILED
from ncen_updater.formats.manifest import CheckRelation, CheckStage, DomainCheck, ReferenceMap
from ncen_updater.formats.sql import check_query_sql, split_statements

#: Value of a check; a number that is no integer is a decimal text.
CheckValue = int | str | None

ORDER_RELATIONS = (CheckRelation.NOT_LESS, CheckRelation.NOT_MORE)
_RELATION_FAILURES = {
    CheckRelation.EQUAL: N_("check '{check}' changed from {before} to {after}"),
    CheckRelation.NOT_LESS: N_("check '{check}' decreased from {before} to {after}"),
    CheckRelation.NOT_MORE: N_("check '{check}' increased from {before} to {after}"),
}


@dataclass(frozen=True)
class CheckFailure:
    """Failed check.

    Attributes:
        check: Its name.
        database: Logical name of its database.
        text: The message with the values.
        before: Value before the migration; None if it was not run, or if it is NULL.
        after: The same after the migration.
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
        rows: Code and number of rows, as the map's query returns them.
    """

    name: str
    database: str
    strict: bool
    rows: tuple[tuple[str, int], ...]


def run_checks(
    engine: DatabaseEngine,
    select: DatabaseSelector,
    checks: Sequence[DomainCheck],
    stage: CheckStage,
) -> dict[str, CheckValue]:
    """Run every check of a stage and return its value by name.

    Different databases are queried in parallel, the checks of one database in sequence.

    Args:
        engine: The site's databases.
        select: Selects the databases.
        checks: The manifest's checks.
        stage: BEFORE or AFTER; for AFTER, ``sql_after`` is run if it is given.

    Raises:
        QUERY_FAILED: It is not a permitted query, or the server refused it.
        CHECK_RESULT_INVALID: The result is not one row with one value, or a value that is compared
            by order is no number.
    """
    due = [check for check in checks if check.when in (stage, CheckStage.BOTH)]
    checks_by_database: dict[str, list[DomainCheck]] = {}
    for check in due:
        checks_by_database.setdefault(check.database, []).append(check)
    with engine.hold_sessions():
        values = run_in_parallel(
            {
                name: partial(_run_database_checks, engine, select(name), its_checks, stage)
                for name, its_checks in checks_by_database.items()
            },
            cancel=engine.cancel_sessions,
        )
    return {check.name: values[check.database][check.name] for check in due}


def _run_database_checks(
    engine: DatabaseEngine, database: DatabaseRef, checks: Sequence[DomainCheck], stage: CheckStage
) -> dict[str, CheckValue]:
    values: dict[str, CheckValue] = {}
    after = stage is CheckStage.AFTER
    queries = [(check.sql_after or check.sql) if after else check.sql for check in checks]
    results = run_release_queries(engine, database, queries)
    for check, sql, rows in zip(checks, queries, results, strict=True):
        if len(rows) != 1 or len(rows[0]) != 1:
            shape = f"{len(rows)} x {len(rows[0])}" if rows else "0 x 0"
            problem = LazyText(N_("{shape} values instead of one"), {"shape": shape})
            raise _make_result_error(check, problem, sql)
        value = rows[0][0]
        if check.relation in ORDER_RELATIONS and not _is_number(value):
            problem = LazyText(
                N_("'{relation}' compares numbers only"), {"relation": check.relation.value}
            )
            raise _make_result_error(check, problem, sql)
        values[check.name] = _normalize_value(value)
    return values


def _make_result_error(
    item: DomainCheck | ReferenceMap, problem: LazyText, sql: str
) -> DatabaseError:
    return DatabaseError(
        CHECK_RESULT_INVALID, check=item.name, database=item.database, problem=problem, detail=sql
    )


def run_release_queries(
    engine: DatabaseEngine, database: DatabaseRef, queries: Sequence[str]
) -> list[list[tuple[object, ...]]]:
    """Run queries of a release; none runs if one of them is not permitted.

    Raises:
        QUERY_FAILED: One is not a permitted query, or the server refused it.
    """
    statements: list[str] = []
    for sql in queries:
        refusal = check_query_sql(sql, engine.engine_name)
        if refusal is not None:
            raise DatabaseError(
                QUERY_FAILED, database=database.name, sql=sql, detail=refusal.reason
            )
        statements.append(split_statements(sql, engine.engine_name)[0].text)
    return engine.run_queries(database, statements)


def run_release_query(
    engine: DatabaseEngine, database: DatabaseRef, sql: str
) -> list[tuple[object, ...]]:
    """Run one query of a release; see :func:`run_release_queries`."""
    return run_release_queries(engine, database, [sql])[0]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and Decimal(value).is_finite()


def _normalize_value(value: object) -> CheckValue:
    """Convert a driver's value to a value of a check; equal numbers get equal values."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return int(value)  # true is 1
    if not _is_number(value):
        return str(value)
    # repr(): the shortest text that gives the same float.
    text = format(value if isinstance(value, Decimal) else Decimal(repr(value)), "f")
    if "." in text:
        text = text.rstrip("0").removesuffix(".")
    return text if "." in text else int(text)


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
    failures: list[CheckFailure] = []
    for check in checks:
        stages = [(CheckStage.BEFORE, before), (CheckStage.AFTER, after)]
        required = [results for stage, results in stages if check.when in (stage, CheckStage.BOTH)]
        old, new = before.get(check.name), after.get(check.name)
        values: dict[str, object] = {"check": check.name, "before": old, "after": new}
        template: str | None = None
        if any(check.name not in results for results in required):
            template = N_(
                "check '{check}' has no result on one side (before: {before}, after: {after})"
            )
        elif check.relation is not None:
            if not _relation_holds(check.relation, old, new):
                template = _RELATION_FAILURES[check.relation]
        elif any(results[check.name] != check.expect for results in required):
            values["expect"] = check.expect
            template = N_("check '{check}' must be {expect} (before: {before}, after: {after})")
        if template is not None:
            failures.append(
                CheckFailure(check.name, check.database, LazyText(template, values), old, new)
            )
    return tuple(failures)


def _relation_holds(relation: CheckRelation, before: CheckValue, after: CheckValue) -> bool:
    if relation is CheckRelation.EQUAL:
        return before == after
    old, new = Decimal(str(before)), Decimal(str(after))
    return new >= old if relation is CheckRelation.NOT_LESS else new <= old


def find_unmapped_references(
    engine: DatabaseEngine, select: DatabaseSelector, maps: Sequence[ReferenceMap]
) -> tuple[UnmappedReferences, ...]:
    """Return the reference maps with rows without a target; empty if all rows are mapped.

    Raises:
        QUERY_FAILED: It is not a permitted query, or the server refused it.
        CHECK_RESULT_INVALID: A row is not a code and a number of rows.
    """
    unmapped: list[UnmappedReferences] = []
    for item in maps:
        rows: list[tuple[str, int]] = []
        for row in run_release_query(engine, select(item.database), item.unmapped):
            count = _normalize_value(row[1]) if len(row) == 2 else None
            if not isinstance(count, int):
                problem = LazyText(N_("a row is not a code and a number of rows"))
                raise _make_result_error(item, problem, item.unmapped)
            rows.append((str(row[0]), count))
        if rows:
            unmapped.append(UnmappedReferences(item.name, item.database, item.strict, tuple(rows)))
    return tuple(unmapped)


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
    count = _normalize_value(rows[0][0]) if len(rows) == 1 and len(rows[0]) == 1 else None
    if not isinstance(count, int):
        raise _make_result_error(item, LazyText(N_("it is not one number")), item.affected)
    return count
