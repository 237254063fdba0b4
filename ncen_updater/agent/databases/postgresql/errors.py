"""Errors of the PostgreSQL adapter. Codes 4101-4119, 4020, 4025-4029; its findings from 4120."""

from __future__ import annotations

from ncen_updater.agent.databases.errors import (
    CopyFailed,
    CutOverFailed,
    DatabaseError,
    FenceFailed,
)
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_

__all__ = [
    "AttributesDiffer",
    "DatabaseOpened",
    "DumpFailed",
    "DumpsUnreadable",
    "LossUnknown",
    "NotCarried",
    "OrphanDirectory",
    "PreparedTransactions",
    "ProgramsDiffer",
    "RowsUnreadable",
    "SetIncomplete",
    "TablespaceClosed",
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


class NotCarried(CopyFailed):
    """Something in a database that a dump by the agent's role would not bring back."""

    code = "NU-4025"
    what = N_("A dump of {database} by the role {role} does not carry: {objects}.")
    remedy = N_(
        'Nothing was migrated. Choose way_back = "copy" or strategy = "copy", let the agent connect'
        " as a superuser, or remove these objects."
    )


class LossUnknown(DatabaseError):
    """A loss that nobody can count: the kept databases are a dump, and the server was changed."""

    code = "NU-4026"
    what = N_(
        "What going back would lose in {database} cannot be counted: since when its rows are there"
        " is not known any more, and what was kept is a dump."
    )
    remedy = N_(
        "Nothing was changed. Let the database administrator restore the dump {path} beside the"
        " live database, and compare; or go on with the release in use."
    )


class RowsUnreadable(DatabaseError):
    """Rows that the agent's role may not read, and so cannot count."""

    code = "NU-4027"
    what = N_(
        "The rows of {table} in {database} cannot be counted: the role {role} may not read it."
    )
    remedy = N_(
        "Nothing was changed. Run as a superuser in {database}: GRANT SELECT ON {table} TO {role};"
        " where row security hides rows, ALTER ROLE {role} BYPASSRLS; instead."
    )


class TablespaceClosed(DatabaseError):
    """A tablespace in which the agent's role may not make the database anew."""

    code = "NU-4028"
    what = N_("The role {role} may make nothing in the tablespace {tablespace} of {database}.")
    remedy = N_("Run as a superuser: GRANT CREATE ON TABLESPACE {tablespace} TO {role};")
