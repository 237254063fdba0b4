"""Names of state files, events and notifications. Imports nothing."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

JOURNAL_FILE: Final = "journal.sqlite"
CHANGE_LOCK_FILE: Final = "change.lock"
#: Path below the state directory, beside the service's files.
SERVICE_LOCK_FILE: Final = "service/service.lock"
#: Import directory: where operators place offline bundles.
INBOX_DIRECTORY: Final = "inbox"
IMPORTED: Final = "imported"
IMPORT_REFUSED: Final = "import-rejected"
AGENT_SELECTED: Final = "agent-selected"
ROLLBACK_EMERGENCY: Final = "emergency-rollback"
AGENT_CONFIRMED: Final = "agent-confirmed"
#: Recovery of a change started.
RECOVERY_STARTED: Final = "recovery"
#: The service started the application, which should have been running.
APPLICATION_STARTED: Final = "application-started"
#: In the soak period: a database is unavailable; this does not count against the release.
DATABASES_UNAVAILABLE: Final = "databases-unavailable"
#: The databases are available again.
DATABASES_AVAILABLE: Final = "databases-available"
#: In the soak period: a disk of the site is full; this does not count against the release.
DISK_FULL: Final = "disk-full"
#: The disk has space again.
DISK_HAS_SPACE: Final = "disk-has-space"
#: In the soak period: someone stopped the application; this does not count against the release.
APPLICATION_STOPPED: Final = "application-stopped"
#: The application runs again.
APPLICATION_RUNS: Final = "application-runs"
#: Databases restored or changed by an operator were adopted.
RESTORED_ADOPTED: Final = "restored-adopted"
#: Subject of the approval to adopt restored databases: this prefix and the release.
RESTORED_APPROVAL_PREFIX: Final = "restored "
#: An operator set the level of the site's receipts.
RECEIPT_LEVEL_SET: Final = "receipt-level"
#: A receipt was written, to be sent to the Secretariat.
RECEIPT_WRITTEN: Final = "receipt-written"
#: A receipt was delivered to the Secretariat's address.
RECEIPT_SENT: Final = "receipt-sent"


class NotificationKind(StrEnum):
    """Kind of a notification."""

    AVAILABLE = "available"
    REHEARSED = "rehearsed"
    REHEARSAL_FAILED = "rehearsal-failed"
    WAITING_FOR_APPROVAL = "waiting-for-approval"
    APPROVED = "approved"
    APPROVAL_VOID = "approval-void"
    ROLLBACK_APPROVED = "rollback-approved"
    RESTORE_APPROVED = "restore-approved"
    EMERGENCY_ROLLBACK = "emergency-rollback"
    SCHEDULED = "scheduled"
    SCHEDULE_CANCELLED = "schedule-cancelled"
    UPGRADE_UPCOMING = "upgrade-upcoming"
    UPGRADED = "upgraded"
    UPGRADE_FAILED = "upgrade-failed"  # the previous release runs, with or without downtime
    ROLLED_BACK = "rolled-back"  # a committed upgrade was rolled back
    ROLLBACK_FAILED = "rollback-failed"  # the newer release still runs
    INTERVENTION_REQUIRED = "intervention-required"
    FEED_EXPIRING = "feed-expiring"
    FEED_EXPIRED = "feed-expired"
    RELEASE_WITHDRAWN = "release-withdrawn"
    APPLICATION_STARTED = "application-started"
    STOPPED = "application-stopped"
    APPLICATION_DOWN = "application-down"
    APPLICATION_UP = "application-up"
    AGENT_UPDATED = "agent-updated"
    AGENT_REVERTED = "agent-reverted"
    DISK_SPACE_LOW = "disk-space-low"
