"""Select old slots and previous databases that may be pruned. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from packaging.version import Version


@dataclass(frozen=True)
class RetentionRule:
    """The operator's retention settings.

    Attributes:
        previous_days: Days until previous databases are dropped.
        slots: Number of slots to retain besides the one in use; needed slots count.
    """

    previous_days: float
    slots: int


@dataclass(frozen=True)
class PreviousDatabases:
    """The databases that were live before a change.

    Attributes:
        change: Id of the change that replaced them.
        since: Start of their retention, by the time that has passed at the site.
        release: Their release, if known.
    """

    change: str
    since: datetime
    release: Version | None = None


@dataclass(frozen=True)
class ProtectedItems:
    """Slots and databases that an open change or an announced rollback still needs."""

    slots: frozenset[Version] = field(default_factory=frozenset)
    changes: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class PrunableItems:
    """Items that may be pruned. Truthy if there are any."""

    slots: tuple[Version, ...] = ()
    changes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.slots or self.changes)


def select_prunable(
    *,
    slots: Iterable[Version],
    current: Version | None,
    previous_slot: Version | None,
    previous: Iterable[PreviousDatabases],
    protected: ProtectedItems,
    rule: RetentionRule,
    now: datetime,
) -> PrunableItems:
    """Select what may be pruned.

    Never pruned are the slot in use, protected items, and slots of retained previous databases,
    which are useless without their slot. Besides the slot in use, the configured number is
    retained, needed slots included: the previous one first, then the newest. If the slot in use is
    unknown, nothing is pruned.

    Args:
        slots: All slots.
        current: The slot in use.
        previous_slot: The slot in use before.
        previous: All previous databases.
        protected: Items that the journal still refers to.
        rule: The retention settings.
        now: The time; previous databases with a later time are retained.
    """
    if current is None:
        return PrunableItems()
    age = timedelta(days=rule.previous_days)
    sets = tuple(previous)
    # The databases of one change are dropped together or not at all.
    retained = protected.changes | {item.change for item in sets if now - item.since < age}
    dropped = {item.change for item in sets} - retained
    needed = {item.release for item in sets if item.change not in dropped}
    others = sorted({v for v in slots if v != current}, key=lambda v: (v == previous_slot, v))
    others.reverse()
    prunable_slots = [
        version
        for version in others[max(0, rule.slots) :]
        if version not in protected.slots and version not in needed
    ]
    return PrunableItems(tuple(sorted(prunable_slots)), tuple(sorted(dropped)))
