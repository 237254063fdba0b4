"""Errors of the databases room, shared by all engines. Codes 4001 to 4099."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    DATABASE_ERROR,
    DATABASE_UNREACHABLE,
    FENCE_FAILED,
    LEDGER_UNREADABLE,
    MIGRATION_FAILED,
    MIGRATION_REFUSED,
)

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
