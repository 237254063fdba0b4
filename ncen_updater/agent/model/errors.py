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
    INTERVENTION_NEEDED,
    JOURNAL_FORBIDDEN,
    JOURNAL_MISSING,
    JOURNAL_UNREADABLE,
    JOURNAL_UNWRITABLE,
    LEDGER_UNREADABLE,
    LOCK_UNUSABLE,
    MIGRATION_FAILED,
    MIGRATION_REFUSED,
    RECORD_UNUSABLE,
    SEQUENCE_DAMAGED,
    SLOT_DIFFERS,
    SOAK_FAILED,
    STOP_FAILED,
    UNDECLARED_DATA_LOSS,
    UNHEALTHY,
)

#: In place of that, where no release was ever chosen.
NOT_ADOPTED = N_("Not adopted. Run: sudo ncen-updater adopt VERSION")


class JournalMissingError(UpdaterError):
    """No journal where one has to be."""

    message = JOURNAL_MISSING


class JournalUnreadableError(UpdaterError):
    """A journal that is damaged, altered, or of an unknown form."""

    message = JOURNAL_UNREADABLE


class JournalPermissionError(JournalUnreadableError):
    """A journal that this user may not read; nothing is wrong with it."""

    message = JOURNAL_FORBIDDEN


class JournalUnwritableError(UpdaterError):
    """A journal that cannot take a record; nothing may be done that it does not know of."""

    message = JOURNAL_UNWRITABLE


class SiteBusyError(UpdaterError):
    """Another change holds the lock."""

    message = BUSY


class DomainChecksError(UpdaterError):
    """Domain checks that do not hold on the migrated candidates."""

    message = CHECKS_FAILED


class UndeclaredLossError(UpdaterError):
    """A rollback that lost values in the round-trip test without declaring it."""

    message = UNDECLARED_DATA_LOSS


class ApplicationUnhealthyError(UpdaterError):
    """An application that does not become healthy in time."""

    message = UNHEALTHY


class SoakFailedError(UpdaterError):
    """An application that turned bad after users were let in."""

    message = SOAK_FAILED


class ChangeFailedError(UpdaterError):
    """A change that failed and was undone; the cause is chained and shown first."""

    message = CHANGE_FAILED


class InterventionRequiredError(UpdaterError):
    """Facts that contradict each other, or a recovery that failed too often."""

    message = INTERVENTION_NEEDED


class LockUnusableError(UpdaterError):
    """A state directory that takes no lock; without it two agents could be at work."""

    message = LOCK_UNUSABLE


#: Classes of SQLSTATE: no such login, no such database.
_REFUSED = ("28", "3D")


class DatabaseError(UpdaterError):
    """Base of what the databases refuse or fail to do."""

    message = DATABASE_ERROR


class DatabaseUnreachableError(DatabaseError):
    """No session, or no database under its name: what may be there again at any moment."""

    message = DATABASE_UNREACHABLE


def find_away(error: BaseException | None) -> DatabaseUnreachableError | None:
    """Return the error of databases that are not there now, of which this one came; pure."""
    while error is not None and not isinstance(error, DatabaseUnreachableError):
        error = error.__cause__
    return error


def is_refused(error: BaseException | None) -> bool:
    """Tell whether it came of a server that is there and lets nobody in by that login; pure.

    Only a person mends that.
    """
    found = find_away(error)
    return found is not None and str(found.values.get("sqlstate")).startswith(_REFUSED)


class FenceError(DatabaseError):
    """Sessions that stay."""

    message = FENCE_FAILED


class MigrationRefusedError(DatabaseError):
    """The ledger and the release do not fit together."""

    message = MIGRATION_REFUSED


class MigrationFailedError(DatabaseError):
    """A migration that the server refused or that ran out of time."""

    message = MIGRATION_FAILED


class LedgerUnreadableError(DatabaseError):
    """The agent's own tables inside a database hold what no agent wrote."""

    message = LEDGER_UNREADABLE


class ApplicationError(UpdaterError):
    """Base of what the application refuses or fails to do."""

    message = APPLICATION_ERROR


class CommandError(ApplicationError):
    """A command that ended badly, was not found, or did not end in time."""

    message = COMMAND_FAILED


class StopError(ApplicationError):
    """An application that goes on running.

    The value ``refused`` tells whether the order itself failed; else it may still be stopping.
    """

    message = STOP_FAILED


class SlotRecordError(UpdaterError):
    """What the agent wrote down of a slot cannot be used, so the slot cannot be judged."""

    message = RECORD_UNUSABLE


class SlotModifiedError(UpdaterError):
    """Files that are not those of the release."""

    message = SLOT_DIFFERS


class SelectionDamagedError(UpdaterError):
    """The file that says which agent is chosen is not what it should be."""

    message = SEQUENCE_DAMAGED


class AgentSlotError(UpdaterError):
    """A slot of the agent that cannot be made, or does not work."""

    message = AGENT_SLOT_FAILED
