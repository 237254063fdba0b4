"""Kinds of notifications, which the settings name too."""

from __future__ import annotations

from enum import StrEnum


class NotificationKind(StrEnum):
    """What can be told."""

    AVAILABLE = "available"
    REHEARSED = "rehearsed"
    REHEARSAL_FAILED = "rehearsal-failed"
    WAITS = "waits-for-approval"
    APPROVED = "approved"
    APPROVAL_VOID = "approval-void"
    BACK_APPROVED = "rollback-approved"
    RESTORE_AGREED = "restore-agreed"
    EMERGENCY = "rollback-emergency"
    SCHEDULED = "scheduled"
    SCHEDULE_CANCELLED = "schedule-cancelled"
    WINDOW = "window-coming"
    UPGRADED = "upgraded"
    FAILED = "failed"  # before or after the stop; the release of before runs
    WENT_BACK = "went-back"  # a rollback after an upgrade that had been committed
    ROLLBACK_FAILED = "rollback-failed"  # the newer release runs
    NEEDS_PERSON = "needs-person"
    FEED_LAPSING = "feed-lapsing"
    FEED_STALE = "feed-stale"
    WITHDRAWN = "release-withdrawn"
    STARTED = "application-started"
    STOPPED = "application-stopped"
    DOWN = "application-down"
    UP = "application-up"
    AGENT_RENEWED = "agent-renewed"
    AGENT_RETURNED = "agent-returned"
    DISK = "disk-filling"
