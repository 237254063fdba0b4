"""Choice of the old slots and previous databases that may be pruned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from packaging.version import Version


@dataclass(frozen=True)
class RetentionRule:
    """What the operator wants to be kept.

    Attributes:
        previous_days: Days until previous databases go.
        slots: Number of slots besides the one in use.
    """

    previous_days: float
    slots: int


@dataclass(frozen=True)
class PreviousDatabases:
    """The databases that were live before a change.

    Attributes:
        change: The change that made them previous.
        since: From when on it is kept, by the time that has passed at the site.
        release: The release that they belong to, if it is known.
    """

    change: str
    since: datetime
    release: Version | None = None


@dataclass(frozen=True)
class ProtectedItems:
    """Databases and slots that an open change or an announced rollback still needs."""

    slots: frozenset[Version] = field(default_factory=frozenset)
    changes: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class PrunableItems:
    """What may go. Truthy when there is anything."""

    slots: tuple[Version, ...] = ()
    changes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.slots or self.changes)


def find_prunable_slots(
    *,
    slots: Iterable[Version],
    current: Version | None,
    previous_slot: Version | None,
    previous: Iterable[PreviousDatabases],
    protected: ProtectedItems,
    rule: RetentionRule,
    now: datetime,
) -> PrunableItems:
    """Decide what goes.

    Never goes: the slot in use, what the journal names, and the slot of previous databases that are
    kept, since they are of no use without it. Of the others as many stay as the rule says: the one
    that the site came from first, then the newest. Where it is not known what is in use, nothing
    goes at all.

    Args:
        slots: All slots.
        current: The slot in use.
        previous_slot: The slot that was in use before.
        previous: All previous databases.
        protected: What the journal names.
        rule: The operator's rule.
        now: The time; previous databases from a later time are kept.
    """
    if current is None:
        return PrunableItems()
    age = timedelta(days=rule.previous_days)
    sets = tuple(previous)
    dropped = {
        item.change
        for item in sets
        if item.change not in protected.changes and now - item.since >= age
    }
    # One change's databases go together or not at all.
    dropped -= {item.change for item in sets if now - item.since < age}
    needed = {item.release for item in sets if item.change not in dropped}
    others = sorted({v for v in slots if v != current}, key=lambda v: (v == previous_slot, v))
    others.reverse()
    gone = [
        version
        for version in others[max(0, rule.slots) :]
        if version not in protected.slots and version not in needed
    ]
    return PrunableItems(tuple(sorted(gone)), tuple(sorted(dropped)))
