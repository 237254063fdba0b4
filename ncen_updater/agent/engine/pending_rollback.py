"""What earlier rollbacks mean for what comes next: owed ones, and releases that people left. Light.

A release that turns bad while it is watched is taken back by a rollback of its own. That may be
torn, by a power cut or a full disk; it is undone then, and the bad release runs on. The rollback is
owed until it came to its end or a person confirmed the release.
"""

from __future__ import annotations

from dataclasses import dataclass

from ncen_updater.agent.model.change import Change, ChangeKind, StepName, StepState
from ncen_updater.agent.model.facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.orders import Order, OrderKind, Orders
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import INTERRUPTED

#: Why a resume goes back where no change is open.
TAKEN_BACK = Text(N_("the release turned bad, and is taken back"))
#: So many rollbacks are begun by themselves, and so many may fail that nobody tore: each keeps
#: officers out once more. Then a person has to come.
MOST_TRIES, MOST_FAILURES = 5, 2
#: So many changes back are looked at.
LOOKED_AT = 30


@dataclass(frozen=True)
class PendingRollback:
    """A rollback that is owed.

    Attributes:
        change: The upgrade that brought the release.
        tries: Rollbacks that were begun for it and undone.
        failures: Those among them that failed, and were not only torn.
    """

    change: Change
    tries: int
    failures: int = 0

    @property
    def by_itself(self) -> bool:
        """Whether it is tried again without a person."""
        return self.tries < MOST_TRIES and self.failures < MOST_FAILURES


def pending_rollback(journal: Journal) -> PendingRollback | None:
    """Return the rollback that is owed; None where none is, or a change is open."""
    tries = failures = 0
    for change in journal.changes(LOOKED_AT):
        if change.state.open:
            return None
        if not change.commit_written:
            if change.kind is ChangeKind.ROLLBACK and journal.facts(change.id).soak_of:
                tries += 1
                failures += change.error_code not in (None, INTERRUPTED.code)
            continue
        if tries and journal.facts(change.id).turned_bad and change.kind is ChangeKind.UPGRADE:
            return PendingRollback(change, tries, failures)
        return None
    return None


def left_behind(journal: Journal) -> frozenset[str]:
    """Return the releases that people went back from and that no upgrade has brought since."""
    found: set[str] = set()
    for change in reversed(journal.changes()):
        if not change.commit_written:
            continue
        if change.kind is ChangeKind.UPGRADE:
            found.discard(change.to_version)
        elif journal.facts(change.id).soak_of is None:
            found.add(change.from_version)
    return frozenset(found)


def taken_over(journal: Journal, closes: str | None) -> ChangeFacts:
    """What a rollback must know of a change that was torn before it let officers in again."""
    if closes is None or journal.change(closes).step_state(StepName.OPEN) is StepState.DONE:
        return NO_FACTS
    closed = journal.facts(closes).door_was_closed or False
    return ChangeFacts(door_was_closed=closed, was_running=True)


def may_be_left(journal: Journal, change: Change) -> bool:
    """Whether a rollback may take over from an open change.

    A rollback in its soak may not, unless it turned bad: typed twice, the command would go back two
    releases.
    """
    if change.kind is ChangeKind.ROLLBACK and journal.facts(change.id).soak_failed is None:
        return False
    return change.committed


def order_to_go_back(journal: Journal) -> Order | None:
    """Return the order that ends the watching of a release; None where there is none."""
    change = journal.open_change()
    if change is None or not change.watched or not may_be_left(journal, change):
        return None
    waiting = (order for order in Orders(journal).unended() if order.taken_at is None)
    return next((order for order in waiting if order.kind is OrderKind.ROLLBACK), None)
