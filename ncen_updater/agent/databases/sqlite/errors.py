"""Errors of the SQLite adapter. Codes 4220 to 4239; findings use 4240 to 4259."""

from __future__ import annotations

from ncen_updater.agent.databases.errors import DatabaseError
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_

__all__ = ["FilesWritten", "NotASet", "NoteUnreadable", "SetMissing"]


class NotASet(DatabaseError):
    """A live directory that no agent has made a set of."""

    code = "NU-4220"
    exit_code = ExitCode.BLOCKED
    what = N_("{database} is a plain directory, not a link to a set of databases.")
    remedy = N_("Stop the application and let the agent adopt the databases once, then try again.")


class SetMissing(DatabaseError):
    """A set of files that should be there and is not."""

    code = "NU-4221"
    exit_code = ExitCode.NEEDS_PERSON
    what = N_("The databases {database} are not there.")
    remedy = N_("Do not start the application; look for the files or restore the backup.")


class FilesWritten(DatabaseError):
    """Files of the set that was live, written by another program than the application."""

    code = "NU-4222"
    what = N_("Another program wrote to {files} of {database} while the databases were closed.")
    remedy = N_(
        "Nothing that it wrote is lost: the site goes on with these files. Find the program, for "
        "example with 'fuser -v' on them as root, stop it, then try again."
    )


class NoteUnreadable(DatabaseError):
    """The note of what the files were is not there, or is not the agent's."""

    code = "NU-4223"
    what = N_("What the database files were when they were closed cannot be read: {database}.")
    remedy = N_(
        "Nothing was changed by this. Look after the disk of the state directory, try again."
    )
