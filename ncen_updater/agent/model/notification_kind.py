"""Kinds of notifications, which the settings name too."""

from __future__ import annotations

from enum import StrEnum


class NotificationKind(StrEnum):
    """What can be told."""

    AVAILABLE = "available"
    REHEARSED = "rehearsed"
    REHEARSAL_FAILED = "rehearsal-failed"
    WAITING_FOR_APPROVAL = "waits-for-approval"
    APPROVED = "approved"
    APPROVAL_VOID = "approval-void"
    ROLLBACK_APPROVED = "rollback-approved"
    RESTORE_APPROVED = "restore-agreed"
    EMERGENCY_ROLLBACK = "rollback-emergency"
    SCHEDULED = "scheduled"
    SCHEDULE_CANCELLED = "schedule-cancelled"
    UPGRADE_UPCOMING = "window-coming"
    UPGRADED = "upgraded"
    UPGRADE_FAILED = "failed"  # before or after the stop; the release of before runs
    ROLLED_BACK = "went-back"  # a rollback after an upgrade that had been committed
    ROLLBACK_FAILED = "rollback-failed"  # the newer release runs
    INTERVENTION_REQUIRED = "needs-person"
    FEED_EXPIRING = "feed-lapsing"
    FEED_EXPIRED = "feed-stale"
    RELEASE_WITHDRAWN = "release-withdrawn"
    APPLICATION_STARTED = "application-started"
    STOPPED = "application-stopped"
    APPLICATION_DOWN = "application-down"
    APPLICATION_UP = "application-up"
    AGENT_UPDATED = "agent-renewed"
    AGENT_REVERTED = "agent-returned"
    DISK_SPACE_LOW = "disk-filling"
