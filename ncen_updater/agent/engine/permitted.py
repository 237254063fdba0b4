"""What forbids to begin something, by the journal alone. Light: the service asks it, too."""

from __future__ import annotations

from datetime import datetime, tzinfo

from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.cli.render import format_minute
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    HELD,
    OPEN_CHANGE,
)


def require_no_change(journal: Journal) -> None:
    """Refuse where a change has not come to its end.

    Raises:
        OpenChange: If so.
    """
    change = journal.open_change()
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
        Held: If so.
    """
    for row in SiteHistory(journal).holds_in_force(now):
        raise held(row.reason, row.by, row.since, zone)


def held(reason: str, by: str, since: datetime, zone: tzinfo | None = None) -> UpdaterError:
    """Return the refusal of a hold."""
    return UpdaterError(HELD, reason=reason, by=by, since=format_minute(since, zone))
