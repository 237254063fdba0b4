"""Errors of the agent: what several rooms raise, or read from each other."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import (
    AGENT_SLOT_FAILED,
    APPLICATION_ERROR,
    BUSY,
    CHANGE_FAILED,
    CHECKS_FAILED,
    COMMAND_FAILED,
    DATABASE_ERROR,
    DATABASE_UNREACHABLE,
    FENCE_FAILED,
    JOURNAL_FORBIDDEN,
    JOURNAL_MISSING,
    JOURNAL_UNREADABLE,
    JOURNAL_UNWRITABLE,
    LEDGER_UNREADABLE,
    LOCK_UNUSABLE,
    MIGRATION_FAILED,
    MIGRATION_REFUSED,
    NEEDS_PERSON,
    RECORD_UNUSABLE,
    SEQUENCE_DAMAGED,
    SLOT_DIFFERS,
    SOAK_FAILED,
    STOP_FAILED,
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


#: Classes of SQLSTATE: no such login, no such database.
_REFUSED = ("28", "3D")


class DatabaseError(UpdaterError):
    """Base of what the databases refuse or fail to do."""

    message = DATABASE_ERROR


class DatabaseUnreachable(DatabaseError):
    """No session, or no database under its name: what may be there again at any moment."""

    message = DATABASE_UNREACHABLE


def find_away(error: BaseException | None) -> DatabaseUnreachable | None:
    """Return the error of databases that are not there now, of which this one came; pure."""
    while error is not None and not isinstance(error, DatabaseUnreachable):
        error = error.__cause__
    return error


def is_refused(error: BaseException | None) -> bool:
    """Whether it came of a server that is there and lets nobody in by that login; pure.

    Only a person mends that.
    """
    found = find_away(error)
    return found is not None and str(found.values.get("sqlstate")).startswith(_REFUSED)


class FenceFailed(DatabaseError):
    """Sessions that stay."""

    message = FENCE_FAILED


class MigrationRefused(DatabaseError):
    """The ledger and the release do not fit together."""

    message = MIGRATION_REFUSED


class MigrationFailed(DatabaseError):
    """A migration that the server refused or that ran out of time."""

    message = MIGRATION_FAILED


class LedgerUnreadable(DatabaseError):
    """The agent's own tables inside a database hold what no agent wrote."""

    message = LEDGER_UNREADABLE


class ApplicationError(UpdaterError):
    """Base of what the application refuses or fails to do."""

    message = APPLICATION_ERROR


class CommandFailed(ApplicationError):
    """A command that ended badly, was not found, or did not end in time."""

    message = COMMAND_FAILED


class StopFailed(ApplicationError):
    """An application that goes on running.

    The value ``refused`` tells whether the order itself failed; else it may be on its way down.
    """

    message = STOP_FAILED


class RecordUnusable(UpdaterError):
    """What the agent wrote down of a slot cannot be used, so the slot cannot be judged."""

    message = RECORD_UNUSABLE


class SlotDiffers(UpdaterError):
    """Files that are not those of the release."""

    message = SLOT_DIFFERS


class SequenceDamaged(UpdaterError):
    """The file that says which agent is chosen is not what it should be."""

    message = SEQUENCE_DAMAGED


class AgentSlotFailed(UpdaterError):
    """A slot of the agent that cannot be made, or does not work."""

    message = AGENT_SLOT_FAILED
