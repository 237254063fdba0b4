"""Rows of the journal as objects."""

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
    """The head of the chain of events, or an event of it: what a person can keep elsewhere.

    Anyone who can write the journal can make the whole chain again. What they cannot
    do is make an event of before have the hash that somebody wrote down: so the head goes with
    every message, figure, log record and dossier, and ``verify --head`` finds it again, or does
    not.

    Attributes:
        number: The event; 0 where there is none.
        hash: Its hash in hexadecimal, or the first 16 digits of it or more.
    """

    number: int
    hash: str

    def __str__(self) -> str:
        """As it is told and asked about."""
        return f"{self.number}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> ChainHead:
        """Read what a person kept.

        Raises:
            ValueError: If it is none.
        """
        found = HEAD_PATTERN.fullmatch(text.strip().lower())
        if found is None:
            raise ValueError(f"no NUMBER:HASH: {text!r:.100}")
        return cls(int(found[1]), found[2])

    def matches(self, other: str) -> bool:
        """Tell whether an event with this hash is meant."""
        return other.startswith(self.hash)


#: Levels of a value; what agents write has a fourth of it.
MAX_NESTING = 40


@contextlib.contextmanager
def guard_reads(path: Path) -> Iterator[None]:
    """Around whatever reads rows: what the agent never wrote makes the journal unreadable.

    Raises:
        JournalUnreadableError: In place of anything that odd rows, tables or values lead to.
    """
    try:
        yield
    except (sqlite3.Error, ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise JournalUnreadableError(path=path, reason=str(error)[:500]) from error
    except RecursionError as error:
        raise JournalUnreadableError(path=path, reason="nested too deeply") from error


def parse_stored_value(text: str) -> Any:  # noqa: ANN401 - JSON of any form
    """Read a value that is stored as JSON.

    A value that is nested more deeply than agents write is refused: it could be read, but showing
    or comparing it later would not end.

    Raises:
        ValueError: If it is none, or nested too deeply.
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
    """Read a time that may be missing."""
    return parse_stored_time(value) if value else None


def build_change(row: sqlite3.Row, steps: Iterable[sqlite3.Row]) -> Change:
    """Build a change from its row and those of its steps.

    Raises:
        ValueError: If a word or a time is not one that this agent knows.
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
