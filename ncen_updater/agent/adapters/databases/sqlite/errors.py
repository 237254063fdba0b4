"""Errors of the SQLite adapter. Codes 4220 to 4239; findings use 4240 to 4259."""

from __future__ import annotations

from ncen_updater.agent.model.errors import DatabaseError, DatabaseUnreachable
from ncen_updater.common.messages import (
    NOT_A_SET,
    NOT_PLAIN,
    NOTE_UNREADABLE,
    SET_MISSING,
)


class NotASet(DatabaseError):
    """A live directory that no agent has made a set of."""

    message = NOT_A_SET


class SetMissing(DatabaseUnreachable):
    """A set of files that should be there and is not."""

    message = SET_MISSING


class NoteUnreadable(DatabaseError):
    """The note of what the files were is not there, or is not the agent's."""

    message = NOTE_UNREADABLE


class NotPlain(DatabaseError):
    """Something else than a file of its own in the place of a database or beside it."""

    message = NOT_PLAIN
