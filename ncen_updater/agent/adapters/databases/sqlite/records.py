"""What the agent said of each set, where nobody but the agent can write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from ncen_updater.agent.adapters.databases.base import DatabaseMarker, DatabaseRole
from ncen_updater.agent.adapters.databases.sqlite.errors import RecordUnreadableError
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.records import JsonRecord

Kept = TypeVar("Kept", bound=JsonRecord)


@dataclass(frozen=True)
class SetRole(JsonRecord):
    """What a set that is not live was set aside for.

    Attributes:
        role: Candidate or previous.
        change: Of which change.
        modes: Modes of files before they were frozen, by name; "." is the directory.
    """

    role: DatabaseRole
    change: str
    modes: Mapping[str, int]


@dataclass(frozen=True)
class SetRecord(JsonRecord):
    """What was said of a set.

    Attributes:
        marker: What it is; None before the first cut-over of an agent.
        committed: The change whose commit it records.
        role: What it was set aside for.
        counts: Rows by table that were added to it before it was kept for good.
    """

    marker: DatabaseMarker | None = None
    committed: str | None = None
    role: SetRole | None = None
    quarantined_rows: Mapping[str, int] | None = None


class RecordStore(Generic[Kept]):
    """Records of one kind, one file each, by the name of what they tell of.

    Args:
        directory: Where; nobody but the agent may write there.
        kind: What they are.
    """

    def __init__(self, directory: Path, kind: type[Kept]) -> None:
        self._directory, self._kind = directory, kind

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def read(self, name: str) -> Kept | None:
        """The record of that name; None where there is none.

        Raises:
            RecordUnreadableError: It holds what no agent wrote.
        """
        path = self._path(name)
        try:
            return self._kind.from_json(parse_json(path.read_bytes()))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise RecordUnreadableError(database=path, detail=str(error)) from error

    def write(self, name: str, record: Kept) -> None:
        """Keep a record, flushed to the disk."""
        durable.make_directory(self._directory, 0o700)
        durable.write_file(self._path(name), json.dumps(record.to_json()).encode(), 0o600)

    def remove(self, name: str) -> None:
        """Forget one; there may be no record of that name."""
        durable.remove_file(self._path(name))
