"""Objects for rows of the journal."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ncen_updater.agent.model.change import (
    Change,
    ChangeKind,
    ChangeState,
    DatabaseMode,
    StepName,
    StepRecord,
    StepState,
)
from ncen_updater.agent.model.errors import JournalUnreadableError
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.json_records import decode_text, parse_stored_time

HEAD_PATTERN = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{16,64})")


@dataclass(frozen=True)
class ChainHead:
    """Head of the chain of events, or one event of it, to be noted elsewhere.

    Anyone who can write the journal can rebuild the whole chain, but cannot give an earlier event
    the hash that was noted. So the head is part of every notification, metric, log record and
    dossier, and ``verify --head`` checks whether the journal still contains it.

    Attributes:
        number: Number of the event; 0 if there is none.
        hash: Its hash in hexadecimal, or at least the first 16 digits of it.
    """

    number: int
    hash: str

    def __str__(self) -> str:
        """Return the form in which it is shown and entered."""
        return f"{self.number}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> ChainHead:
        """Parse a head that was noted.

        Raises:
            ValueError: If the text is not ``NUMBER:HASH``.
        """
        found = HEAD_PATTERN.fullmatch(text.strip().lower())
        if found is None:
            raise ValueError(f"no NUMBER:HASH: {text!r:.100}")
        return cls(int(found[1]), found[2])

    def matches(self, other: str) -> bool:
        """Tell whether an event with this hash matches."""
        return other.startswith(self.hash)


#: Maximum nesting of a value, four times what agents write.
MAX_NESTING = 40


@contextlib.contextmanager
def guard_reads(path: Path) -> Iterator[None]:
    """Guard a block that reads rows: data that no agent wrote makes the journal unreadable.

    Raises:
        JournalUnreadableError: Instead of any error caused by invalid rows, tables or values.
    """
    try:
        yield
    except (sqlite3.Error, ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise JournalUnreadableError(path=path, reason=str(error)[:500]) from error
    except RecursionError as error:
        raise JournalUnreadableError(path=path, reason="nested too deeply") from error


def parse_stored_value(text: str) -> Any:  # noqa: ANN401 - JSON of any form
    """Parse a value that is stored as JSON.

    Deeply nested values are refused: they could be parsed, but showing or comparing them later
    would not end.

    Raises:
        ValueError: If it is not JSON, or nested too deeply.
    """
    value = parse_json(text)
    if text.count("[") + text.count("{") <= MAX_NESTING:
        return value
    layer = [value]
    for _ in range(MAX_NESTING):
        layer = [inner for outer in layer for inner in _list_children(outer)]
        if not layer:
            return value
    raise ValueError("nested too deeply")


def _list_children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


class JournalEvent(Mapping[str, object]):
    """One event: ``number``, ``at``, ``change``, ``kind`` and its data."""

    def __init__(self, row: sqlite3.Row) -> None:
        self.number: int = row["number"]
        self.at = parse_stored_time(row["at"])
        self.change: str | None = row["change"]
        self.kind: str = row["kind"]
        self.data: dict[str, object] = parse_stored_value(row["data"])
        if not isinstance(self.data, dict):
            raise TypeError(f"event {self.number} is no table of values")
        if isinstance(error := self.data.get("error"), dict):
            self.data["error"] = decode_text(error, "error")

    def __getitem__(self, key: str) -> object:
        return self.data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


def parse_optional_time(value: str | None) -> datetime | None:
    """Parse a time that may be missing."""
    return parse_stored_time(value) if value else None


def build_change(row: sqlite3.Row, steps: Iterable[sqlite3.Row]) -> Change:
    """Build a change from its row and the rows of its steps.

    Raises:
        ValueError: If a state or a time is unknown to this agent.
    """
    return Change(
        id=row["id"],
        kind=ChangeKind(row["kind"]),
        mode=DatabaseMode(row["mode"]),
        state=ChangeState(row["state"]),
        product=row["product"],
        from_version=row["from_version"],
        to_version=row["to_version"],
        generation=row["generation"],
        created_at=parse_stored_time(row["created_at"]),
        ended_at=parse_optional_time(row["ended_at"]),
        restore_source=row["source"],
        error_code=row["error_code"],
        failed_recoveries=row["attempts"],
        steps={
            StepName(step["name"]): StepRecord(
                StepName(step["name"]),
                StepState(step["state"]),
                parse_stored_time(step["started_at"]),
                parse_optional_time(step["ended_at"]),
            )
            for step in steps
        },
    )
