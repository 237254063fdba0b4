"""What the agent said of each set, where nobody but the agent can write.

Agents of before said it in files in the set itself (``marker.json``, ``committed.json``,
``touched.json``, ``role.json``), where the application's user can put whatever it likes. A site of
theirs is taken over once, at its first fence: such a file counts while a set has no record, if it
belongs to root or to whoever runs this. The files are written still, for an agent of before that
the site may return to, and not read.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ncen_updater.agent.databases.base import DatabaseRole, Marker
from ncen_updater.agent.databases.sqlite.errors import NoteUnreadable
from ncen_updater.common import atomic_files as durable

__all__ = ["SetRecord", "SetRecords", "SetRole"]


@dataclass(frozen=True)
class SetRole:
    """What a set that is not live was set aside for.

    Attributes:
        role: Candidate or previous.
        change: Of which change.
        modes: Modes of files before they were frozen, by name; "." is the directory.
    """

    role: DatabaseRole
    change: str
    modes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SetRecord:
    """What was said of a set.

    Attributes:
        marker: What it is; None before the first cut-over of an agent.
        committed: The change whose commit it records.
        touched: The change that began to migrate its files in place.
        role: What it was set aside for.
        counts: Rows by table that were added to it before it was kept for good.
    """

    marker: Marker | None = None
    committed: str | None = None
    touched: str | None = None
    role: SetRole | None = None
    counts: Mapping[str, int] | None = None

    @classmethod
    def parse(cls, data: Mapping[str, object]) -> SetRecord:
        """Read the form that is stored.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: It is not of that form.
        """
        marker, role, counts = (
            data.get("marker"), data.get("role"), data.get("counts"),
        )  # fmt: skip
        return cls(
            None if marker is None else parse_marker(_mapping(marker)),
            _word(data.get("committed")),
            _word(data.get("touched")),
            None if role is None else parse_role(_mapping(role)),
            None if counts is None else _numbers(counts),
        )


def _mapping(data: object) -> Mapping[str, object]:
    if not isinstance(data, Mapping):
        raise TypeError(type(data).__name__)
    return data


def _word(value: object) -> str | None:
    return None if value is None else str(value)


def _numbers(data: object) -> dict[str, int]:
    return {str(key): int(str(value)) for key, value in _mapping(data).items()}


def parse_marker(data: Mapping[str, object]) -> Marker:
    """Read a marker."""
    return Marker(str(data["release"]), int(str(data["generation"])), str(data["change"]))


def parse_role(data: Mapping[str, object]) -> SetRole:
    """Read a role; what its modes are of is not looked at."""
    return SetRole(DatabaseRole(str(data["role"])), str(data["change"]), _numbers(data["modes"]))


class SetRecords:
    """The records of all sets, one file each, by the set's name.

    Args:
        directory: Where; nobody but the agent may write there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def read(self, name: str) -> SetRecord | None:
        """The record of a set; None where there is none.

        Raises:
            NoteUnreadable: It holds what no agent wrote.
        """
        path = self._path(name)
        try:
            return SetRecord.parse(_mapping(json.loads(path.read_bytes())))
        except FileNotFoundError:
            return None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise NoteUnreadable(database=path, detail=repr(error)) from error

    def write(self, name: str, record: SetRecord) -> None:
        """Keep a record, flushed to the disk."""
        durable.make_directory(self._directory, 0o700)
        content = json.dumps(dataclasses.asdict(record), default=dict).encode()
        durable.write(self._path(name), content, 0o600)

    def remove(self, name: str) -> None:
        """Forget a set; there may be no record of it."""
        durable.remove(self._path(name))
