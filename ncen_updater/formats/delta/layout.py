"""What a pack says, as it is used: where every entry of the new tree comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from ncen_updater.formats.delta.model import CALL, COPIES, EARLIER, NAMES
from ncen_updater.formats.delta.streams import Extent, dictionary_bytes
from ncen_updater.formats.tree import EntryType

COVER_BYTES = 12
MOST_CALL_BYTES = 32 << 20  # old and new files of a group that is one frame of zstd
CALL_BYTES = 2 * MOST_CALL_BYTES  # in memory: the library keeps old and new once more
BUFFER_BYTES = 16 << 20  # blocks, batches of covers, members held in memory


@dataclass(frozen=True, slots=True)
class Fresh:
    """An entry of the new tree that is not in the old one under the same path, with all the same.

    Attributes:
        path: Where it goes.
        type: What it is.
        mode: Permission bits.
        size: Bytes, of a file.
        origin: Index of the old entry that it has the content of; None if the pack builds it.
        target: Where a link leads.
        copy_of: Which of the entries it has the content of, one before it that the pack builds.
        like: Index of the old file that it was paired with by name; only the maker looks at it.
    """

    path: str
    type: EntryType
    mode: int
    size: int = 0
    origin: int | None = None
    target: str | None = None
    copy_of: int | None = None
    like: int | None = None

    @property
    def built(self) -> bool:
        """Whether the pack brings its content."""
        return self.type is EntryType.FILE and self.origin is None and self.copy_of is None


class OpKind(IntEnum):
    """A piece of an archive that is rebuilt."""

    PLAIN = 0  # bytes of the stream as they are
    MEMBERS = 1  # members of the old archive, compressed as they were, between bytes of the stream
    DEFLATE = 2  # bytes of the stream, deflated


@dataclass(frozen=True, slots=True)
class Op:
    """One piece.

    Attributes:
        kind: Which.
        count: Bytes of the stream for PLAIN and DEFLATE, number of members for MEMBERS.
        argument: First member for MEMBERS, level for DEFLATE.
    """

    kind: OpKind
    count: int
    argument: int = 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an archive is rebuilt.

    Attributes:
        target: Which file of the group.
        source: Which of the group's references is the old archive.
        ops: Its pieces in order.
    """

    target: int
    source: int
    ops: tuple[Op, ...]


@dataclass(frozen=True, slots=True)
class Ref:
    """A file that the group's streams refer to.

    Attributes:
        origin: Index of the entry in the old tree; in the new one if it is ``built``.
        members: None for the file as it is. For an archive: it is seen without its members, but
            with these, unpacked, in their places.
        built: Whether it is no old file, but one that a group before this one built.
    """

    origin: int
    members: tuple[int, ...] | None = None
    built: bool = False


@dataclass(frozen=True, slots=True)
class Renaming:
    """Short names in covers are what they became the last time, but for corrections.

    Attributes:
        matched: Bytes of the reference that the covers take.
        corrections: Where a name became something else: see ``renaming``.
    """

    matched: int
    corrections: Extent


@dataclass(frozen=True, slots=True)
class Group:
    """Files that are built together from one set of streams.

    Attributes:
        files: Number of files, in the order of the tree.
        refs: Old files, seen one after the other as one long reference.
        recipes: For those of the files that are archives to be rebuilt.
        view: Bytes of all files together, archives as the recipes see them.
        covers: Number of places that are taken from the reference.
        runs: Number of places where nothing is added to many of these bytes in a row.
        control: Where the covers are: see ``codec``.
        zeros: Where these runs are: see ``runs``.
        differences: What is added to the bytes of the reference, without the runs.
        literals: What is in no cover.
        renaming: Where names in its covers may have been given anew.
        call: Whether the literals are one frame of zstd, which refers to the old files.
    """

    files: int
    refs: tuple[Ref, ...]
    recipes: tuple[Recipe, ...]
    view: int
    covers: int
    runs: int
    control: Extent
    zeros: Extent
    differences: Extent
    literals: Extent
    renaming: Renaming | None = None
    call: bool = False

    @property
    def streams(self) -> tuple[Extent, ...]:
        """All of them, as they follow each other in the pack."""
        named = () if self.renaming is None else (self.renaming.corrections,)
        return (self.control, self.zeros, self.differences, self.literals, *named)

    @property
    def covered(self) -> int:
        """Bytes of the view that are in covers."""
        return self.view - self.literals.plain

    @property
    def matched(self) -> int:
        """Bytes of the reference that are in covers, as often as they are."""
        return self.covered if self.renaming is None else self.renaming.matched

    @property
    def memory_bytes(self) -> int:
        """What building it takes: a dictionary a stream, and buffers."""
        if self.call:
            return BUFFER_BYTES + CALL_BYTES
        return BUFFER_BYTES + sum(dictionary_bytes(s.plain) for s in self.streams if s.packed)


@dataclass
class LayoutPlan:
    """The new tree, and how its files are built.

    Attributes:
        entries: In order: an index into the old tree where nothing differs, or what is new.
        groups: Together they build every entry that is built, in order.
    """

    entries: list[int | Fresh] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)

    @property
    def needs(self) -> tuple[str, ...]:
        """What of the format it uses that not every agent knows."""
        used = {
            CALL: any(group.call for group in self.groups),
            COPIES: any(isinstance(e, Fresh) and e.copy_of is not None for e in self.entries),
            EARLIER: any(ref.built for group in self.groups for ref in group.refs),
            NAMES: any(group.renaming is not None for group in self.groups),
        }
        return tuple(name for name, there in used.items() if there)

    @property
    def memory_bytes(self) -> int:
        """What building it takes at most: that of its largest group."""
        return max((group.memory_bytes for group in self.groups), default=BUFFER_BYTES)
