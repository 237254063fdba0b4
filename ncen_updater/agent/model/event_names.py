"""Names of state files, events and kinds of notifications. Imports nothing."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

JOURNAL_FILE: Final = "journal.sqlite"
CHANGE_LOCK_FILE: Final = "change.lock"
#: Below the state directory, beside what the service keeps.
SERVICE_LOCK_FILE: Final = "service/service.lock"
#: Where people lay bundles down for the service.
INBOX_DIRECTORY: Final = "inbox"
IMPORTED: Final = "imported"
IMPORT_REFUSED: Final = "import-rejected"
AGENT_SELECTED: Final = "agent-selected"
ROLLBACK_EMERGENCY: Final = "emergency-rollback"
AGENT_CONFIRMED: Final = "agent-confirmed"
#: A recovery of a change began.
RECOVERY_STARTED: Final = "recovery"
#: The application was started, since it ought to run and nobody came to start it.
APPLICATION_STARTED: Final = "application-started"
#: While a release is watched: its databases are not there, and nothing counts against it,
DATABASES_UNAVAILABLE: Final = "databases-unavailable"
#: until they are.
DATABASES_AVAILABLE: Final = "databases-available"
#: While a release is watched: a disk of the site is full, and nothing counts against it,
DISK_FULL: Final = "disk-full"
#: until it has room.
DISK_HAS_SPACE: Final = "disk-has-space"
#: While a release is watched: somebody stopped the application, and nothing counts against it,
APPLICATION_STOPPED: Final = "application-stopped"
#: until it runs again.
APPLICATION_RUNS: Final = "application-runs"
#: Databases that people restored, or changed on purpose, were taken as those of a release.
RESTORED_ADOPTED: Final = "restored-adopted"
#: What people approve who take restored databases for those of a release: this, and the release.
RESTORED_APPROVAL_PREFIX: Final = "restored "
#: People set what receipts of this site may say.
RECEIPT_LEVEL_SET: Final = "receipt-level"
#: A receipt was written, to be sent to the Secretariat.
RECEIPT_WRITTEN: Final = "receipt-written"
#: A receipt was delivered to the Secretariat's address.
RECEIPT_SENT: Final = "receipt-sent"


class NotificationKind(StrEnum):
    """What can be told."""

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
    UPGRADE_FAILED = "upgrade-failed"  # the previous release runs, whether it was stopped or not
    ROLLED_BACK = "rolled-back"  # a rollback after an upgrade that had been committed
    ROLLBACK_FAILED = "rollback-failed"  # the newer release runs
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
