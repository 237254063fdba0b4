"""Errors of the agent that several packages raise or handle."""

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

#: State of a site on which no release was ever selected.
NOT_ADOPTED = N_("Not adopted. Run: sudo ncen-updater adopt VERSION")


class JournalMissingError(UpdaterError):
    """A missing journal."""

    message = JOURNAL_MISSING


class JournalUnreadableError(UpdaterError):
    """A journal that is damaged, was altered, or has an unknown format."""

    message = JOURNAL_UNREADABLE


class JournalPermissionError(JournalUnreadableError):
    """An intact journal that this user may not read."""

    message = JOURNAL_FORBIDDEN


class JournalUnwritableError(UpdaterError):
    """A journal that cannot be written; nothing may be done without a record."""

    message = JOURNAL_UNWRITABLE


class SiteBusyError(UpdaterError):
    """A site whose lock is held by another operation."""

    message = BUSY


class DomainChecksError(UpdaterError):
    """Domain checks that failed on the migrated candidates."""

    message = CHECKS_FAILED


class UndeclaredLossError(UpdaterError):
    """A rollback that lost values in the round-trip test without declaring it."""

    message = UNDECLARED_DATA_LOSS


class ApplicationUnhealthyError(UpdaterError):
    """An application that does not become healthy in time."""

    message = UNHEALTHY


class SoakFailedError(UpdaterError):
    """An application that became unhealthy in the soak period."""

    message = SOAK_FAILED


class ChangeFailedError(UpdaterError):
    """A change that failed and was reverted; the cause is chained and shown first."""

    message = CHANGE_FAILED


class InterventionRequiredError(UpdaterError):
    """Contradictory facts, or a recovery that failed too often."""

    message = INTERVENTION_NEEDED


class LockUnusableError(UpdaterError):
    """A state directory that cannot be locked; without a lock two agents could work at once."""

    message = LOCK_UNUSABLE


#: SQLSTATE classes of a refused login: invalid authorization, invalid catalog name.
_LOGIN_REFUSED = ("28", "3D")


class DatabaseError(UpdaterError):
    """Base of database errors."""

    message = DATABASE_ERROR


class DatabaseUnreachableError(DatabaseError):
    """A missing session or database, which may return at any moment."""

    message = DATABASE_UNREACHABLE


def find_unreachable_error(error: BaseException | None) -> DatabaseUnreachableError | None:
    """Return the unreachable-database error among an error's causes, if any. Pure."""
    while error is not None and not isinstance(error, DatabaseUnreachableError):
        error = error.__cause__
    return error


def is_login_refused(error: BaseException | None) -> bool:
    """Return whether a reachable server refused the login. Pure.

    Only an operator can correct that.
    """
    unreachable = find_unreachable_error(error)
    return unreachable is not None and str(unreachable.values.get("sqlstate")).startswith(
        _LOGIN_REFUSED
    )


class FenceError(DatabaseError):
    """Sessions that could not be ended."""

    message = FENCE_FAILED


class MigrationRefusedError(DatabaseError):
    """A migration ledger that does not match the release."""

    message = MIGRATION_REFUSED


class MigrationFailedError(DatabaseError):
    """A migration that failed on the server or timed out."""

    message = MIGRATION_FAILED


class LedgerUnreadableError(DatabaseError):
    """Invalid content of the agent's own tables in a database."""

    message = LEDGER_UNREADABLE


class ApplicationError(UpdaterError):
    """Base of errors of the application."""

    message = APPLICATION_ERROR


class CommandError(ApplicationError):
    """A command that failed, was not found, or timed out."""

    message = COMMAND_FAILED


class StopError(ApplicationError):
    """An application that does not stop.

    The value ``refused`` states whether the stop command itself failed; otherwise the application
    may still be stopping.
    """

    message = STOP_FAILED


class SlotRecordError(UpdaterError):
    """A slot record that cannot be used, so that the slot cannot be verified."""

    message = RECORD_UNUSABLE


class SlotModifiedError(UpdaterError):
    """Files of a slot that differ from the release."""

    message = SLOT_DIFFERS


class SelectionDamagedError(UpdaterError):
    """A damaged file of the selected agent version."""

    message = SEQUENCE_DAMAGED


class AgentSlotError(UpdaterError):
    """A slot of the agent that cannot be built or does not work."""

    message = AGENT_SLOT_FAILED
