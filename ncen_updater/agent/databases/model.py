"""What the engines and their callers tell each other: plain data.

Callers import it from :mod:`ncen_updater.agent.databases.base`, beside the interface that uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from ncen_updater.formats.manifest import Migration, MigratorCommand

__all__ = [
    "AppliedMigration",
    "Candidate",
    "ChangeRef",
    "CopyPlan",
    "DatabaseFacts",
    "DatabaseRole",
    "Direction",
    "Evidence",
    "Live",
    "Marker",
    "MigrationPlan",
    "MigrationSet",
    "Place",
    "Places",
    "PlannedMigration",
    "Previous",
    "RunAs",
    "SqlMigration",
    "Strategy",
    "TableDigest",
]


class Strategy(StrEnum):
    """How a change treats the originals."""

    COPY = "copy"  # candidates are copies; the originals are not written before the cut-over
    IN_PLACE = "in-place"  # the copy is the way back; the originals are migrated


class DatabaseRole(StrEnum):
    """What a database that is not live is to a change."""

    CANDIDATE = "candidate"
    PREVIOUS = "previous"


class Direction(StrEnum):
    """Which file of a migration runs."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True)
class ChangeRef:
    """What an engine needs to know of a change.

    Attributes:
        id: Eight characters a-z and 2-7; part of database names.
        generation: The number that the databases carry after this change's cut-over.
        strategy: Copy or in-place.
        release: Version that the databases belong to after the cut-over.
        source: Id of an earlier change whose *previous* databases are copied instead of the live
            ones (going back to what was kept); None for the live ones.
    """

    id: str
    generation: int
    strategy: Strategy
    release: str
    source: str | None = None

    @property
    def in_place(self) -> bool:
        """Whether the originals themselves are migrated; the same on every engine.

        Going back to kept databases (``source``) always works on a copy of them.
        """
        return self.strategy is Strategy.IN_PLACE and self.source is None

    def candidate(self, name: str) -> Candidate:
        """The candidate of a name."""
        return Candidate(name, self)

    def previous(self, name: str) -> Previous:
        """What was live of a name before the cut-over."""
        return Previous(name, self)


@dataclass(frozen=True)
class Live:
    """The live database of a name."""

    name: str


@dataclass(frozen=True)
class Candidate:
    """What is on its way to become live by a change; in place, the live database itself."""

    role: ClassVar[DatabaseRole] = DatabaseRole.CANDIDATE
    name: str
    change: ChangeRef


@dataclass(frozen=True)
class Previous:
    """What was live before the cut-over of a change."""

    role: ClassVar[DatabaseRole] = DatabaseRole.PREVIOUS
    name: str
    change: ChangeRef


#: One database, and what finds it by its logical name: ``Live`` or ``change.candidate``.
Place = Live | Candidate | Previous
Places = Callable[[str], Place]


@dataclass(frozen=True)
class DatabaseFacts:
    """Facts of one live database, read without changing anything.

    Attributes:
        name: Logical name, as in the manifest.
        physical: Name (or path) in the engine.
        size_bytes: Bytes on the disk.
        details: Engine-specific facts for the plan (owner, encoding, settings...).
    """

    name: str
    physical: str
    size_bytes: int
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Marker:
    """What the catalogue says of the live set; written in the transaction of the cut-over."""

    release: str
    generation: int
    change: str


@dataclass(frozen=True)
class Evidence:
    """What exists for a change, seen in the catalogue; the recovery table reads nothing else.

    Attributes:
        swapped: Whether the cut-over transaction of this change has committed and was not undone.
        fenced: Whether the live databases refuse sessions.
        candidates: Logical names whose candidate exists, whole or not.
        previous: Logical names whose previous of this change exists.
        missing: Logical names whose live database is not there.
        committed: Whether the databases say that this change was committed.
        later: Whether the live set was brought by a later change.
    """

    swapped: bool
    fenced: bool
    candidates: tuple[str, ...] = ()
    previous: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    committed: bool = False
    later: bool = False


@dataclass(frozen=True)
class CopyPlan:
    """How each database will be copied; goes into the journal before the first byte is copied.

    Attributes:
        data: JSON-able, by logical name: engine-specific facts such as object id, method, size.
    """

    data: Mapping[str, Mapping[str, object]]


@dataclass(frozen=True)
class TableDigest:
    """Rows of a table: their number and a digest that does not depend on their order."""

    rows: int
    digest: str


@dataclass(frozen=True)
class AppliedMigration:
    """One row of the ledger inside a database."""

    id: str
    direction: Direction
    sha256: str
    release: str
    change: str
    applied_at: str  # UTC, ISO 8601


@dataclass(frozen=True)
class SqlMigration:
    """A migration with its files resolved in a verified slot."""

    migration: Migration
    up: Path
    down: Path | None
    verify: Path | None
    up_sha256: str
    down_sha256: str | None
    verify_sha256: str | None = None


@dataclass(frozen=True)
class MigrationSet:
    """All migrations that lead to one release, as they lie in a verified slot.

    Attributes:
        databases: By logical name, in order, from the first release on.
        command: The application's own migrator, instead of files.
        slot: Directory of the release that holds the files.
    """

    release: str
    slot: Path
    databases: Mapping[str, Sequence[SqlMigration]]
    command: MigratorCommand | None = None


@dataclass(frozen=True)
class PlannedMigration:
    """One file that will run."""

    database: str
    direction: Direction
    id: str
    path: Path
    sha256: str
    sql: str


@dataclass(frozen=True)
class MigrationPlan:
    """What :meth:`DatabaseEngine.migrate` will run, in order; empty for a command migrator.

    Attributes:
        irreversible: (database, migration id, reason) of every migration in the range that has no
            way down; never empty for a command migrator.
    """

    steps: tuple[PlannedMigration, ...]
    irreversible: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class RunAs:
    """The user that a migrator has instead of root.

    Attributes:
        name: For people, and for the program.
        home: Its directory.
    """

    name: str
    uid: int
    gid: int
    home: str = "/"
