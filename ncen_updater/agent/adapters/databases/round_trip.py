"""Round-trip test: values written into copies, and which of them a rollback keeps. Pure.

What a down migration keeps is read from its text elsewhere. Here it is measured: on the copies of a
rehearsal, rows get values that nobody could have entered; then the rollback runs, and the upgrade
again. A value that is in its old column after the rollback was kept, one that is in its new column
after the second upgrade was parked and restored, and any other is lost.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ncen_updater.common.json_records import JsonRecord
from ncen_updater.formats.data_loss import DataLoss, LossKind

#: So many rows of a table get values at the most.
MAX_ROWS = 25
#: So long the writing may take in one database.
MAX_WRITE_SECONDS = 60.0
#: Of a longer value only the beginning and a digest are held.
_HELD = 200
_LONGEST_TEXT = 60
_DATE = re.compile(r"\d{4}-\d\d-\d\d")

RowKey = tuple[str, ...]
#: By table the keys of rows.
RowKeys = Mapping[str, Collection[RowKey]]
#: By column why rows of it got no value, and how many.
UntestedCounts = Mapping[str, "Counter[UntestedReason]"]


class UntestedReason(StrEnum):
    """Why a row of a column got no value."""

    KEY = "key"  # its row is found again by it
    NO_KEY = "no-key"  # the rows of its table cannot be found again
    COMPUTED = "computed"  # the database fills it itself
    TYPE = "type"  # no value is known for its type
    REFUSED = "refused"  # by a rule of the table, or a trigger
    EMPTY = "empty"  # its table has no row, and its rules refuse one
    TIME = "time"  # the time for writing was over
    WRITTEN_BY_RELEASE = "own"  # the release itself writes it
    NOT_COMPLETED = "unseen"  # the ways did not come to their end with the values


@dataclass(frozen=True)
class TableSample:
    """A few rows of one table.

    Attributes:
        key: Columns of the primary key; empty where there is none, and then no rows.
        types: Its columns, each with its type in the words of the engine.
        rows: By the values of the key what stands in the row; long values by their digest.
    """

    key: tuple[str, ...]
    types: Mapping[str, str]
    rows: Mapping[RowKey, Mapping[str, str | None]] = field(default_factory=dict)


#: By table, as people write its name.
DatabaseSample = Mapping[str, TableSample]


@dataclass(frozen=True)
class ColumnRoundTrip(JsonRecord):
    """What became of the values of one column.

    Attributes:
        column: ``database.table.column``.
        preserved: Rows whose value stood in the tables of the release before, too.
        restored: Rows whose value did not, but stood in its column again after the way forward.
        lost: Rows whose value did neither.
        refused: Rows with a value that makes the rollback fail.
        untested: Rows that got no value, by reason.
    """

    column: str
    preserved: int = 0
    restored: int = 0
    lost: int = 0
    refused: int = 0
    untested: Mapping[UntestedReason, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RoundTripResult(JsonRecord):
    """What became of all values of one rollback.

    Attributes:
        columns: Every column of the tables of the newer release.
        failure: What the ways stopped at with the values in the tables, if they did.
    """

    columns: tuple[ColumnRoundTrip, ...] = ()
    failure: str | None = None

    def count_values(self, what: str) -> int:
        """Count ``kept``, ``restored``, ``lost`` or ``refused`` over all columns."""
        return sum(int(getattr(column, what)) for column in self.columns)

    def list_columns(self, what: str) -> tuple[str, ...]:
        """Name the columns with ``kept``, ``restored``, ``lost`` or ``refused`` values."""
        return tuple(column.column for column in self.columns if getattr(column, what))

    @property
    def count_untested(self) -> Mapping[UntestedReason, int]:
        """Return the columns of which no row could be tried, by the first reason."""
        found: Counter[UntestedReason] = Counter()
        for column in self.columns:
            tried = column.preserved + column.restored + column.lost + column.refused
            if not tried and column.untested:
                found[next(iter(column.untested))] += 1
        return found


# ---- values --------------------------------------------------------------------------------------


def make_test_texts(seed: str, column: str, row: int, width: int | None) -> tuple[str, ...]:
    """Return texts that nobody enters, the one to be preferred first.

    Args:
        seed: Another one, another text.
        column: Each has its own.
        row: Number of the row; each has its own.
        width: The longest text that the column takes.
    """
    long = f"ncen {seed} {row} {column} {'abcdefghij' * 6}"[
        : min(width or _LONGEST_TEXT, _LONGEST_TEXT)
    ]
    # Unlike each other also where there is room for a few characters only.
    number = f"{row:02d}{seed}"
    short = f"n{number}"[: min(width or 8, 8)]
    return tuple(dict.fromkeys(text for text in (long, short) if text))


def make_similar_texts(before: str | None, row: int) -> tuple[str, ...]:
    """Return a text of the form of one that is there, where that is a date or a number; else none.

    What is written into a text may be read as what it looks like.
    """
    if before is None:
        return ()
    if _DATE.match(before):
        return (f"1987-03-{1 + row % 28:02d}{before[10:]}",)
    if before.isascii() and before.isdigit():
        return (str(9_870_000_000 + row)[-len(before) :],)
    return ()


def shorten_value(text: str, digest: str) -> str:
    """Return a value as it is held: a long one by its beginning and a digest."""
    return text if len(text) <= _HELD else f"{text[:_HELD]}…{digest}"


# ---- what became of them -------------------------------------------------------------------------


def find_retyped_columns(older: DatabaseSample, newer: DatabaseSample) -> dict[str, frozenset[str]]:
    """Return by table the columns whose type is another one in the newer shape."""
    found = {}
    for name, table in newer.items():
        before = older[name].types if name in older else {}
        others = {
            column
            for column, type_ in table.types.items()
            if column in before and before[column] != type_
        }
        if others:
            found[name] = frozenset(others)
    return found


@dataclass(frozen=True)
class RoundTripObservation:
    """What was seen of one database, from one way to the next.

    Attributes:
        before: In the shape before, before anything.
        upgraded: In the newer shape, before any value was written.
        written: With the values.
        untested: By table why rows of a column got none.
        rolled_back: In the shape before, after the rollback; None where it failed.
        upgraded_again: In the newer shape once more; None where that did not go.
        rejecting: By table the columns whose first values made the rollback fail.
    """

    before: DatabaseSample
    upgraded: DatabaseSample
    written: DatabaseSample
    untested: Mapping[str, UntestedCounts]
    rolled_back: DatabaseSample | None
    upgraded_again: DatabaseSample | None
    rejecting: Mapping[str, frozenset[str]] = field(default_factory=dict)


def judge_columns(database: str, observation: RoundTripObservation) -> Iterator[ColumnRoundTrip]:
    """Say of every column of the newer shape what became of the values written into it."""
    for name, table in observation.written.items():
        for column in table.types:
            yield _judge_column(f"{database}.{name}.{column}", name, column, observation)


def _judge_column(
    label: str, name: str, column: str, seen: RoundTripObservation
) -> ColumnRoundTrip:
    table = seen.written[name]
    found: Counter[str] = Counter()
    untried: Counter[UntestedReason] = Counter()
    refusals = seen.untested.get(name, {}).get(column, Counter())
    if column in seen.rejecting.get(name, frozenset()):
        return ColumnRoundTrip(label, refused=len(table.rows), untested=dict(refusals))
    if not table.key:
        untried[UntestedReason.NO_KEY] += 1
    elif not table.rows:
        untried[next(iter(refusals), UntestedReason.EMPTY)] += 1
    elif column in table.key:
        untried[UntestedReason.KEY] += len(table.rows)
    else:
        for key, row in table.rows.items():
            what = _judge_value(name, column, key, row[column], seen)
            if isinstance(what, UntestedReason):
                reason = next(iter(refusals), what) if what is UntestedReason.REFUSED else what
                untried[reason] += 1
            else:
                found[what] += 1
    return ColumnRoundTrip(
        label, found["preserved"], found["restored"], found["lost"], 0, dict(untried)
    )


def _judge_value(
    name: str, column: str, key: RowKey, value: str | None, seen: RoundTripObservation
) -> str | UntestedReason:
    """Return what became of a value: ``kept``, ``restored``, ``lost``, or why it was not tested."""
    plain = _find_row(seen.upgraded, name, key)
    if value is None or (plain is not None and plain.get(column) == value):
        return UntestedReason.REFUSED
    if seen.rolled_back is None:
        return UntestedReason.NOT_COMPLETED
    back = _find_row(seen.rolled_back, name, key) or {}
    older = seen.before.get(name)
    if older is not None and column in older.types:
        if back.get(column) == value:
            return "preserved"
    elif value in (back[other] for other in back.keys() - seen.written[name].types.keys()):
        # It stood under a name that is no more, if it also comes back from there.
        there = (
            seen.upgraded_again is None
            or (_find_row(seen.upgraded_again, name, key) or {}).get(column) == value
        )
        return "preserved" if there else "lost"
    if seen.upgraded_again is None:
        return UntestedReason.NOT_COMPLETED
    again = (_find_row(seen.upgraded_again, name, key) or {}).get(column)
    if again == value:
        return "restored"
    if (
        plain is not None
        and again == plain.get(column)
        and _is_written_by_release(name, column, key, seen)
    ):
        return UntestedReason.WRITTEN_BY_RELEASE
    return "lost"


def _is_written_by_release(name: str, column: str, key: RowKey, seen: RoundTripObservation) -> bool:
    """Tell whether the release writes that into this row of an older table at each upgrade."""
    older = seen.before.get(name)
    if older is None or seen.rolled_back is None:
        return False
    before, plain = _find_row(seen.before, name, key), _find_row(seen.upgraded, name, key)
    if before is not None and plain is not None and column in before:
        return before[column] != plain[column]
    # Its down migration takes away rows that it put there.
    return name in seen.rolled_back and _find_row(seen.rolled_back, name, key) is None


def _find_row(sample: DatabaseSample, name: str, key: RowKey) -> Mapping[str, str | None] | None:
    table = sample.get(name)
    return table.rows.get(key) if table is not None else None


def find_undeclared_losses(
    columns: Iterable[ColumnRoundTrip], declared: Mapping[str, Sequence[DataLoss]]
) -> tuple[str, ...]:
    """Name the columns with lost values of which neither release nor files say that they are.

    Args:
        columns: What was measured.
        declared: By database what is known to be lost.
    """
    known = {
        f"{database}.{loss.object_name}".lower()
        for database, found in declared.items()
        for loss in found
    }
    # Of these the site counts by the catalogue what goes along; the text cannot name it.
    wide = {
        database
        for database, found in declared.items()
        if any(loss.needs_catalog or loss.kind is LossKind.ROWS for loss in found)
    }
    return tuple(
        column.column
        for column in columns
        if column.lost
        and column.column.partition(".")[0] not in wide
        and known.isdisjoint({column.column.lower(), column.column.lower().rpartition(".")[0]})
    )
