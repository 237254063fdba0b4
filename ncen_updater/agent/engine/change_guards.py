"""What forbids to begin something, by the journal alone. Light: the service asks it, too."""

from __future__ import annotations

from datetime import datetime, tzinfo

from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.cli.render import format_scheduled_time
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    HELD,
    OPEN_CHANGE,
)


def require_no_open_change(journal: Journal) -> None:
    """Refuse where a change has not come to its end.

    Raises:
        OPEN_CHANGE: If so.
    """
    change = journal.find_open_change()
    if change is not None:
        raise UpdaterError(
            OPEN_CHANGE, change=change.id, kind=change.kind, version=change.to_version
        )


def require_no_hold(journal: Journal, now: datetime, zone: tzinfo | None = None) -> None:
    """Refuse where an operator forbids upgrades.

    Args:
        journal: The journal.
        now: The time.
        zone: Zone of the site; that of the machine by default.

    Raises:
        HELD: If so.
    """
    for row in SiteHistory(journal).list_active_holds(now):
        raise make_hold_error(row.reason, row.actor, row.since, zone)


def make_hold_error(
    reason: str, actor: str, since: datetime, zone: tzinfo | None = None
) -> UpdaterError:
    """Return the refusal of a hold."""
    return UpdaterError(HELD, reason=reason, by=actor, since=format_scheduled_time(since, zone))
