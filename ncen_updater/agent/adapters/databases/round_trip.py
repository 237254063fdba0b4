"""Round-trip test: sample values in copies, and which of them survive a rollback. Pure.

The text of a down migration is analysed elsewhere; here its effect is measured. On the copies of a
rehearsal, rows get values that no user could have entered; then the rollback runs, and the upgrade
again. A value that is in its old column after the rollback was preserved; one that is in its new
column after the second upgrade was parked and restored; any other is lost.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ncen_updater.common.json_records import JsonRecord
from ncen_updater.formats.data_loss import DataLoss

#: Maximum number of rows of a table that get values.
MAX_ROWS = 25
#: Time limit for writing values into one database.
MAX_WRITE_SECONDS = 60.0
#: Longer values are stored as their beginning and a digest.
_MAX_STORED_LENGTH = 200
_LONGEST_TEXT = 60
_DATE = re.compile(r"\d{4}-\d\d-\d\d")

RowKey = tuple[str, ...]
#: Keys of rows, by table.
RowKeys = Mapping[str, Collection[RowKey]]
#: Number of rows without a sample value and the reason, by column.
UntestedCounts = Mapping[str, "Counter[UntestedReason]"]


class UntestedReason(StrEnum):
    """Reason why a row of a column got no sample value."""

    KEY = "key"  # the column identifies the row
    NO_KEY = "no-key"  # the rows of the table cannot be identified
    COMPUTED = "computed"  # the database computes the value
    TYPE = "type"  # no sample value is known for the type
    REFUSED = "refused"  # rejected by a constraint or a trigger
    EMPTY = "empty"  # the table is empty, and its constraints reject a row
    TIME = "time"  # the time limit was reached
    WRITTEN_BY_RELEASE = "own"  # the release itself writes the value
    NOT_COMPLETED = "unseen"  # rollback or upgrade failed with the values


@dataclass(frozen=True)
class TableSample:
    """A few rows of one table.

    Attributes:
        key: Columns of the primary key; empty if there is none, and then there are no rows.
        types: Type of each column, in the engine's words.
        rows: Values of the rows by key; long values shortened with a digest.
    """

    key: tuple[str, ...]
    types: Mapping[str, str]
    rows: Mapping[RowKey, Mapping[str, str | None]] = field(default_factory=dict)


#: Samples by table name, as shown in messages.
DatabaseSample = Mapping[str, TableSample]


@dataclass(frozen=True)
class ColumnRoundTrip(JsonRecord):
    """Result for one column.

    Attributes:
        column: ``database.table.column``.
        preserved: Rows whose value was in the tables of the older release.
        restored: Rows whose value was not, but was in its column again after the second upgrade.
        lost: Rows whose value was in neither.
        refused: Rows with a value that makes the rollback fail.
        untested: Rows without a sample value, by reason.
    """

    column: str
    preserved: int = 0
    restored: int = 0
    lost: int = 0
    refused: int = 0
    untested: Mapping[UntestedReason, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RoundTripResult(JsonRecord):
    """Result for one rollback.

    Attributes:
        columns: Every column of the tables of the newer release.
        failure: Error of the rollback or upgrade with the sample values, if one failed.
    """

    columns: tuple[ColumnRoundTrip, ...] = ()
    failure: str | None = None

    def count_values(self, what: str) -> int:
        """Count ``preserved``, ``restored``, ``lost`` or ``refused`` values over all columns."""
        return sum(int(getattr(column, what)) for column in self.columns)

    def list_columns(self, what: str) -> tuple[str, ...]:
        """Return the columns with ``preserved``, ``restored``, ``lost`` or ``refused`` values."""
        return tuple(column.column for column in self.columns if getattr(column, what))

    @property
    def count_untested(self) -> Mapping[UntestedReason, int]:
        """Return the number of columns without any tested row, by the first reason."""
        found: Counter[UntestedReason] = Counter()
        for column in self.columns:
            tested = column.preserved + column.restored + column.lost + column.refused
            if not tested and column.untested:
                found[next(iter(column.untested))] += 1
        return found


# ---- sample values -------------------------------------------------------------------------------


def make_test_texts(seed: str, column: str, row: int, width: int | None) -> tuple[str, ...]:
    """Return texts that no user enters, the preferred one first.

    Args:
        seed: Seed; another seed gives another text.
        column: Name of the column; each has its own text.
        row: Number of the row; each has its own text.
        width: Maximum length of the column.
    """
    long = f"ncen {seed} {row} {column} {'abcdefghij' * 6}"[
        : min(width or _LONGEST_TEXT, _LONGEST_TEXT)
    ]
    # Distinct even if there is room for only a few characters.
    number = f"{row:02d}{seed}"
    short = f"n{number}"[: min(width or 8, 8)]
    return tuple(dict.fromkeys(text for text in (long, short) if text))


def make_similar_texts(before: str | None, row: int) -> tuple[str, ...]:
    """Return a text in the form of an existing one if that is a date or a number; else none.

    A text may be parsed by the application, so the form must fit.
    """
    if before is None:
        return ()
    if _DATE.match(before):
        return (f"1987-03-{1 + row % 28:02d}{before[10:]}",)
    if before.isascii() and before.isdigit():
        return (str(9_870_000_000 + row)[-len(before) :],)
    return ()


def shorten_value(text: str, digest: str) -> str:
    """Return a value in its stored form: a long one as its beginning and a digest."""
    return text if len(text) <= _MAX_STORED_LENGTH else f"{text[:_MAX_STORED_LENGTH]}…{digest}"


# ---- results -------------------------------------------------------------------------------------


def find_retyped_columns(older: DatabaseSample, newer: DatabaseSample) -> dict[str, frozenset[str]]:
    """Return the columns, by table, whose type differs in the newer schema."""
    found = {}
    for name, table in newer.items():
        before = older[name].types if name in older else {}
        retyped = {
            column
            for column, type_ in table.types.items()
            if column in before and before[column] != type_
        }
        if retyped:
            found[name] = frozenset(retyped)
    return found


@dataclass(frozen=True)
class RoundTripObservation:
    """Samples of one database during the test.

    Attributes:
        before: In the older schema, at the beginning.
        upgraded: In the newer schema, before any sample value was written.
        written: With the sample values.
        untested: Reasons why rows of a column got no value, by table.
        rolled_back: In the older schema after the rollback; None if it failed.
        upgraded_again: In the newer schema again; None if the second upgrade failed.
        rejecting: Columns, by table, whose first values made the rollback fail.
    """

    before: DatabaseSample
    upgraded: DatabaseSample
    written: DatabaseSample
    untested: Mapping[str, UntestedCounts]
    rolled_back: DatabaseSample | None
    upgraded_again: DatabaseSample | None
    rejecting: Mapping[str, frozenset[str]] = field(default_factory=dict)


def judge_columns(database: str, observation: RoundTripObservation) -> Iterator[ColumnRoundTrip]:
    """Yield the result for every column of the newer schema."""
    for name, table in observation.written.items():
        for column in table.types:
            yield _judge_column(f"{database}.{name}.{column}", name, column, observation)


def _judge_column(
    label: str, name: str, column: str, observation: RoundTripObservation
) -> ColumnRoundTrip:
    table = observation.written[name]
    found: Counter[str] = Counter()
    untested: Counter[UntestedReason] = Counter()
    refusals = observation.untested.get(name, {}).get(column, Counter())
    if column in observation.rejecting.get(name, frozenset()):
        return ColumnRoundTrip(label, refused=len(table.rows), untested=dict(refusals))
    if not table.key:
        untested[UntestedReason.NO_KEY] += 1
    elif not table.rows:
        untested[next(iter(refusals), UntestedReason.EMPTY)] += 1
    elif column in table.key:
        untested[UntestedReason.KEY] += len(table.rows)
    else:
        for key, row in table.rows.items():
            outcome = _judge_value(name, column, key, row[column], observation)
            if isinstance(outcome, UntestedReason):
                reason = (
                    next(iter(refusals), outcome) if outcome is UntestedReason.REFUSED else outcome
                )
                untested[reason] += 1
            else:
                found[outcome] += 1
    return ColumnRoundTrip(
        label, found["preserved"], found["restored"], found["lost"], 0, dict(untested)
    )


def _judge_value(
    name: str, column: str, key: RowKey, value: str | None, observation: RoundTripObservation
) -> str | UntestedReason:
    """Return ``preserved``, ``restored``, ``lost``, or the reason why the value was not tested."""
    upgraded = _find_row(observation.upgraded, name, key)
    if value is None or (upgraded is not None and upgraded.get(column) == value):
        return UntestedReason.REFUSED
    if observation.rolled_back is None:
        return UntestedReason.NOT_COMPLETED
    rolled_back = _find_row(observation.rolled_back, name, key) or {}
    older = observation.before.get(name)
    if older is not None and column in older.types:
        if rolled_back.get(column) == value:
            return "preserved"
    elif value in (
        rolled_back[other] for other in rolled_back.keys() - observation.written[name].types.keys()
    ):
        # The column was renamed: the value is preserved only if it also returns from the old name.
        returned = (
            observation.upgraded_again is None
            or (_find_row(observation.upgraded_again, name, key) or {}).get(column) == value
        )
        return "preserved" if returned else "lost"
    if observation.upgraded_again is None:
        return UntestedReason.NOT_COMPLETED
    again = (_find_row(observation.upgraded_again, name, key) or {}).get(column)
    if again == value:
        return "restored"
    if (
        upgraded is not None
        and again == upgraded.get(column)
        and _is_written_by_release(name, column, key, observation)
    ):
        return UntestedReason.WRITTEN_BY_RELEASE
    return "lost"


def _is_written_by_release(
    name: str, column: str, key: RowKey, observation: RoundTripObservation
) -> bool:
    """Tell whether the release itself writes this value of an older table at each upgrade."""
    older = observation.before.get(name)
    if older is None or observation.rolled_back is None:
        return False
    before, upgraded = (
        _find_row(observation.before, name, key),
        _find_row(observation.upgraded, name, key),
    )
    if before is not None and upgraded is not None and column in before:
        return before[column] != upgraded[column]
    # The release's down migration removes rows that it had inserted.
    return name in observation.rolled_back and _find_row(observation.rolled_back, name, key) is None


def _find_row(sample: DatabaseSample, name: str, key: RowKey) -> Mapping[str, str | None] | None:
    table = sample.get(name)
    return table.rows.get(key) if table is not None else None


def find_undeclared_losses(
    columns: Iterable[ColumnRoundTrip], declared: Mapping[str, Sequence[DataLoss]]
) -> tuple[str, ...]:
    """Return the columns with lost values that neither the release nor its files declare.

    Args:
        columns: The results.
        declared: Known losses by database.
    """
    known = {
        f"{database}.{loss.object_name}".lower()
        for database, losses in declared.items()
        for loss in losses
    }
    # For these losses the site counts dependent objects by the catalogue; the text cannot name
    # them.
    not_nameable = {
        database
        for database, losses in declared.items()
        if any(loss.needs_catalog for loss in losses)
    }
    return tuple(
        column.column
        for column in columns
        if column.lost
        and column.column.partition(".")[0] not in not_nameable
        and known.isdisjoint({column.column.lower(), column.column.lower().rpartition(".")[0]})
    )
