"""Kinds of notifications, which the settings name too."""

from __future__ import annotations

from enum import StrEnum


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
    UPGRADE_FAILED = "upgrade-failed"  # before or after the stop; the release of before runs
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
