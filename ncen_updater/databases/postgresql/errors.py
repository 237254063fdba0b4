"""Errors of the PostgreSQL adapter. Codes 4101 to 4119, 4020; its findings have 4120 to 4159."""

from __future__ import annotations

from ncen_updater.databases.errors import CopyFailed, CutOverFailed, DatabaseError, FenceFailed
from ncen_updater.errors import ExitCode
from ncen_updater.i18n import N_

__all__ = [
    "AttributesDiffer",
    "DatabaseOpened",
    "DumpFailed",
    "DumpsUnreadable",
    "OrphanDirectory",
    "PreparedTransactions",
    "ProgramsDiffer",
    "SetIncomplete",
    "WayBackMissing",
]


class PreparedTransactions(FenceFailed):
    """Transactions that wait for the second half of a two-phase commit."""

    code = "NU-4101"
    what = N_("{count} prepared transactions are open in {database}.")
    remedy = N_("End each of them: COMMIT PREPARED or ROLLBACK PREPARED with the name shown.")


class DatabaseOpened(CutOverFailed):
    """Somebody was in what the change had closed, or may have been; nothing was cut over."""

    code = "NU-4020"
    what = N_(
        "While {database} was closed for the change, somebody opened it or altered its owner, "
        "rights or properties: records may have been entered that the change would lose."
    )
    remedy = N_(
        "Ask the database administrators who did ALTER DATABASE or GRANT on it, let them leave it "
        "alone for the time of the change, and begin again."
    )


class SetIncomplete(DatabaseError):
    """A database that an act needs is not there, or not whole."""

    code = "NU-4102"
    exit_code = ExitCode.NEEDS_PERSON
    what = N_("The database {database} is missing or not whole, so the set cannot be used.")
    remedy = N_("Do not start the application; ask the database administrator what happened to it.")


class AttributesDiffer(DatabaseError):
    """Owner, grants or settings that did not come out as they were; nothing was changed."""

    code = "NU-4103"
    what = N_("Owner, grants or settings of {database} could not be carried over.")
    remedy = N_("Give the agent's role the rights that are named, or let it connect as superuser.")


class WayBackMissing(DatabaseError):
    """What going back needs is not there any more."""

    code = "NU-4104"
    exit_code = ExitCode.NEEDS_PERSON
    what = N_("The kept copy of {database} that leads back is not there.")
    remedy = N_("Restore {database} from the site's own backup; ask the database administrator.")


class DumpFailed(CopyFailed):
    """pg_dump or pg_restore failed."""

    code = "NU-4106"
    what = N_("The program {program} failed on {database}.")
    remedy = N_("Read its message; check bin_directory, dump_directory and the space left.")


class ProgramsDiffer(CopyFailed):
    """pg_dump or pg_restore of another version than the server's, or none."""

    code = "NU-4108"
    what = N_("The program {program} is of PostgreSQL {found}, the server is {major}.")
    remedy = N_(
        "Install the client programs of PostgreSQL {major} on this machine, or set bin_directory "
        "to where they are."
    )


class DumpsUnreadable(DatabaseError):
    """The directory of the dumps cannot be looked into."""

    code = "NU-4109"
    what = N_("The directory of the dumps, {path}, cannot be read: {reason}.")
    remedy = N_("See that its disk is there and that the agent's account may enter it.")


class OrphanDirectory(DatabaseError):
    """What a killed server left of a copy, out of the agent's sight."""

    code = "NU-4107"
    what = N_("An interrupted copy of {database} left the directory base/{oid} in the server.")
    remedy = N_(
        "Stop the server's administrator account from using it and remove the directory base/{oid}"
        " below the data directory; no database has this number."
    )
