"""Errors of the upgrade room. Codes 6001 to 6099."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import (
    BUSY,
    CHANGE_FAILED,
    CHECKS_FAILED,
    JOURNAL_FORBIDDEN,
    JOURNAL_MISSING,
    JOURNAL_UNREADABLE,
    JOURNAL_UNWRITABLE,
    LOCK_UNUSABLE,
    NEEDS_PERSON,
    SOAK_FAILED,
    UNHEALTHY,
    UNTOLD_LOSS,
)

#: In place of that, where no release was ever chosen.
NOT_ADOPTED = N_("Not adopted yet. Next: sudo ncen-updater adopt VERSION")


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


class NeedsPerson(UpdaterError):
    """Facts that contradict each other, or a recovery that failed too often."""

    message = NEEDS_PERSON


class LockUnusable(UpdaterError):
    """A state directory that takes no lock; without it two agents could be at work."""

    message = LOCK_UNUSABLE
