"""Errors of the upgrade room. Codes 6001 to 6099."""

from __future__ import annotations

from typing import Any

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    BUSY,
    CHANGE_FAILED,
    CHECKS_FAILED,
    HELD,
    JOURNAL_FORBIDDEN,
    JOURNAL_MISSING,
    JOURNAL_UNREADABLE,
    JOURNAL_UNWRITABLE,
    LATER_HOP_FAILED,
    LOCK_UNUSABLE,
    NEEDS_PERSON,
    NOTHING_TO_APPROVE,
    NOTHING_TO_CONFIRM,
    ROOT_IS_NOBODY,
    SOAK_FAILED,
    UNHEALTHY,
    UNTOLD_LOSS,
)

__all__ = [
    "Busy",
    "ChangeFailed",
    "ChecksFailed",
    "Held",
    "JournalForbidden",
    "JournalMissing",
    "JournalUnreadable",
    "JournalUnwritable",
    "LaterHopFailed",
    "LockUnusable",
    "NeedsPerson",
    "NothingToApprove",
    "NothingToConfirm",
    "RootIsNobody",
    "SoakFailed",
    "Unhealthy",
    "UntoldLoss",
]


class JournalMissing(UpdaterError):
    """No journal where one has to be."""

    message = JOURNAL_MISSING


class JournalUnreadable(UpdaterError):
    """A journal that is damaged, altered, or of an unknown form."""

    message = JOURNAL_UNREADABLE


class JournalForbidden(JournalUnreadable):
    """A journal that this user may not read; nothing is wrong with it."""

    message = JOURNAL_FORBIDDEN


class JournalUnwritable(UpdaterError):
    """A journal that cannot take a record; nothing may be done that it does not know of."""

    message = JOURNAL_UNWRITABLE


class Busy(UpdaterError):
    """Another change holds the lock."""

    message = BUSY


class ChecksFailed(UpdaterError):
    """Domain checks that do not hold on the migrated candidates."""

    message = CHECKS_FAILED


class UntoldLoss(UpdaterError):
    """A way back that was seen to lose values of which nothing says so."""

    message = UNTOLD_LOSS


class Unhealthy(UpdaterError):
    """An application that does not become healthy in time."""

    message = UNHEALTHY


class SoakFailed(UpdaterError):
    """An application that turned bad after officers were let in."""

    message = SOAK_FAILED


class ChangeFailed(UpdaterError):
    """A change that failed and was undone; the cause is chained and shown first."""

    message = CHANGE_FAILED


class LaterHopFailed(ChangeFailed):
    """A change further on the path that failed and was undone; the hops before it stay.

    Args:
        failed: What became of the change.
        stays: The release that the last hop before it reached.
    """

    message = LATER_HOP_FAILED

    def __init__(self, failed: ChangeFailed, stays: str) -> None:
        values: dict[str, Any] = {**failed.values, "stays": stays}
        super().__init__(detail=failed.detail, **values)


class NeedsPerson(UpdaterError):
    """Facts that contradict each other, or a recovery that failed too often."""

    message = NEEDS_PERSON


class NothingToConfirm(UpdaterError):
    """No change is in its soak."""

    message = NOTHING_TO_CONFIRM


class Held(UpdaterError):
    """An operator's hold forbids upgrades."""

    message = HELD


class NothingToApprove(UpdaterError):
    """No release on offer that could be approved."""

    message = NOTHING_TO_APPROVE


class LockUnusable(UpdaterError):
    """A state directory that takes no lock; without it two agents could be at work."""

    message = LOCK_UNUSABLE


class RootIsNobody(UpdaterError):
    """An approval by root where two people have to approve."""

    message = ROOT_IS_NOBODY
