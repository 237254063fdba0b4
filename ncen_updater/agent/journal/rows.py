"""Rows of the journal as objects."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from ncen_updater.agent.engine.errors import JournalUnreadable
from ncen_updater.agent.journal.change import (
    Change,
    ChangeKind,
    ChangeState,
    Mode,
    StepName,
    StepRecord,
    StepState,
)

__all__ = ["JournalEvent", "change_from_rows", "optional_time", "reading"]


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Around whatever reads rows: what the agent never wrote makes the journal unreadable.

    Raises:
        JournalUnreadable: In place of anything that odd rows, tables or values lead to.
    """
    try:
        yield
    except (sqlite3.Error, ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise JournalUnreadable(path=path, reason=str(error)[:500]) from error
    except RecursionError as error:
        raise JournalUnreadable(path=path, reason="a value is nested too deeply") from error


class JournalEvent(Mapping[str, object]):
    """One event: ``number``, ``at``, ``change``, ``kind`` and its data."""

    def __init__(self, row: sqlite3.Row) -> None:
        self.number: int = row["number"]
        self.at = datetime.fromisoformat(row["at"])
        self.change: str | None = row["change"]
        self.kind: str = row["kind"]
        self.data: dict[str, object] = json.loads(row["data"])
        if not isinstance(self.data, dict):
            raise TypeError(f"event {self.number} is no table of values")

    def __getitem__(self, key: str) -> object:
        return self.data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


def optional_time(value: str | None) -> datetime | None:
    """Read a time that may be missing."""
    return datetime.fromisoformat(value) if value else None


def change_from_rows(row: sqlite3.Row, steps: Iterable[sqlite3.Row]) -> Change:
    """Build a change from its row and those of its steps.

    Raises:
        ValueError: If a word or a time is not one that this agent knows.
    """
    return Change(
        id=row["id"],
        kind=ChangeKind(row["kind"]),
        mode=Mode(row["mode"]),
        state=ChangeState(row["state"]),
        product=row["product"],
        from_version=row["from_version"],
        to_version=row["to_version"],
        strategy=row["strategy"],
        generation=row["generation"],
        created_at=datetime.fromisoformat(row["created_at"]),
        ended_at=optional_time(row["ended_at"]),
        source=row["source"],
        error_code=row["error_code"],
        attempts=row["attempts"],
        steps={
            StepName(step["name"]): StepRecord(
                StepName(step["name"]),
                StepState(step["state"]),
                datetime.fromisoformat(step["started_at"]),
                optional_time(step["ended_at"]),
            )
            for step in steps
        },
    )
