"""Errors of the SQLite adapter. Codes 4220 to 4239; findings use 4240 to 4259."""

from __future__ import annotations

from ncen_updater.agent.model.errors import DatabaseError, DatabaseUnreachableError
from ncen_updater.common.messages import (
    DATABASE_SET_MISSING,
    FENCE_SNAPSHOT_UNREADABLE,
    NOT_A_DATABASE_SET,
    NOT_A_PLAIN_FILE,
)


class NotADatabaseSetError(DatabaseError):
    """A live directory that no agent has made a set of."""

    message = NOT_A_DATABASE_SET


class DatabaseSetMissingError(DatabaseUnreachableError):
    """A set of files that should be there and is not."""

    message = DATABASE_SET_MISSING


class RecordUnreadableError(DatabaseError):
    """The note of what the files were is not there, or is not the agent's."""

    message = FENCE_SNAPSHOT_UNREADABLE


class NotRegularFileError(DatabaseError):
    """Something else than a file of its own in the place of a database or beside it."""

    message = NOT_A_PLAIN_FILE
