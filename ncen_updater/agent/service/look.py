"""The light look at the journal: what may have changed while nobody told the service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ncen_updater.agent.approvals.model import count_approvals
from ncen_updater.agent.approvals.store import Consent
from ncen_updater.agent.engine.lock import lock_holder
from ncen_updater.agent.engine.pending_rollback import pending_rollback
from ncen_updater.agent.journal.change import ChangeState
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.orders import Order, Orders
from ncen_updater.agent.journal.site_history import SiteHistory
from ncen_updater.agent.rehearsal.store import Rehearsals

__all__ = ["Look", "Looker"]


@dataclass(frozen=True)
class Look:
    """What the journal says now.

    Attributes:
        event: Number of its last event.
        open_change: Whether something was begun that has not come to its end.
        stuck: Whether it waits for a person.
        busy: Whether another process holds the lock of changes.
        held: The reason of a hold in force.
        order: The oldest order that waits.
        missing_approvals: How many more people have to approve the binding that was asked about.
        not_before: The time that a person chose for it.
        held_until: When the last hold in force ends by itself, if all do.
        owed: Whether a release that turned bad is to be taken back, and was not yet.
    """

    event: int
    open_change: bool = False
    stuck: bool = False
    busy: bool = False
    held: str | None = None
    order: Order | None = None
    missing_approvals: int = 0
    not_before: datetime | None = None
    held_until: datetime | None = None
    owed: bool = False


class Looker:
    """Looks at the journal of a site.

    Args:
        journal: The file.
        lock: The lock of changes.
        now: Gives the time.
    """

    def __init__(self, journal: Path, lock: Path, now: Callable[[], datetime]) -> None:
        self._journal, self._lock, self._now = journal, lock, now

    def changed_at(self) -> int:
        """When the file was last written, nanoseconds; 0 where it is not there."""
        try:
            return self._journal.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def look(self, binding: str, approvals: int) -> Look:
        """Read what the service needs.

        Args:
            binding: What approvals and a chosen time have to carry.
            approvals: How many people have to approve.

        Raises:
            UpdaterError: If the journal is missing or unreadable.
        """
        with Journal.open(self._journal, read_only=True) as journal:
            change = journal.open_change()
            holds = SiteHistory(journal).holds_in_force(self._now())
            consent = Consent(journal)
            scheduled = consent.scheduled(binding)
            ends = [hold.until for hold in holds if hold.until is not None]
            owed = pending_rollback(journal)
            return Look(
                event=journal.last_event(),
                open_change=change is not None or bool(Rehearsals(journal).interrupted()),
                stuck=change is not None and change.state is ChangeState.STUCK,
                busy=lock_holder(self._lock) is not None,
                held=holds[0].reason if holds else None,
                order=Orders(journal).waiting(),
                missing_approvals=count_approvals(
                    consent.approvals(binding), binding, approvals
                ).missing,
                not_before=scheduled.not_before if scheduled else None,
                held_until=max(ends) if ends and len(ends) == len(holds) else None,
                owed=owed is not None and owed.by_itself,
            )
