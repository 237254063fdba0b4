"""Errors of the databases room, shared by all engines. Codes 4001 to 4099."""

from __future__ import annotations

from ncen_updater.common.errors import ExitCode, UpdaterError
from ncen_updater.common.i18n import N_

__all__ = [
    "CopyFailed",
    "CutOverFailed",
    "DatabaseError",
    "DatabaseUnreachable",
    "FenceFailed",
    "FencedByOther",
    "LedgerUnreadable",
    "MarkersDisagree",
    "MigrationFailed",
    "MigrationRefused",
    "OfficersWereIn",
    "QueryFailed",
    "ReferencesBroken",
    "VerifyFailed",
    "WayBackNeeded",
]


class DatabaseError(UpdaterError):
    """Base of what the databases refuse or fail to do."""

    code = "NU-4001"
    what = N_("The database server refused an operation on {database}.")
    remedy = N_("Read the server's message and its log, then try again.")


class DatabaseUnreachable(DatabaseError):
    """No connection."""

    code = "NU-4002"
    what = N_("The database {database} cannot be reached.")
    remedy = N_("Check that the database server runs and that the agent's settings are right.")


class FenceFailed(DatabaseError):
    """Sessions that stay."""

    code = "NU-4003"
    what = N_("{count} sessions in {database} could not be ended.")
    remedy = N_("Stop the programs that hold them, then try again.")


class CopyFailed(DatabaseError):
    """A copy that did not come to its end."""

    code = "NU-4004"
    what = N_("The database {database} could not be copied.")
    remedy = N_("Read the server's message; the original was not touched.")


class MigrationRefused(DatabaseError):
    """The ledger and the release do not fit together."""

    code = "NU-4005"
    exit_code = ExitCode.BLOCKED
    what = N_("The migrations of {database} do not continue its history: {reason}")
    remedy = N_(
        "Do not upgrade; send the Secretariat what 'ncen-updater doctor' and 'history' say."
    )


class MigrationFailed(DatabaseError):
    """A migration that the server refused or that ran out of time."""

    code = "NU-4006"
    what = N_("Migration {migration} of {database} failed.")
    remedy = N_(
        "Send the Secretariat what 'ncen-updater doctor' and 'history' say; "
        "the site can go on working."
    )


class VerifyFailed(MigrationFailed):
    """A migration whose own verification found rows that should not be there."""

    code = "NU-4007"
    what = N_("Migration {migration} of {database} did not verify: {count} rows are wrong.")


class CutOverFailed(DatabaseError):
    """The renaming transaction did not commit; nothing changed."""

    code = "NU-4008"
    what = N_("The cut-over of the databases could not be made.")
    remedy = N_("Read the server's message, stop what holds sessions, and try again.")


class MarkersDisagree(DatabaseError):
    """Databases of one set that say different things; a person has to look."""

    code = "NU-4009"
    exit_code = ExitCode.NEEDS_PERSON
    what = N_("The databases do not belong together: {reason}")
    remedy = N_(
        "Change nothing at the application. If these databases were restored from a backup on "
        "purpose, 'ncen-updater accept-restore' takes them as the release that they belong to; if "
        "not, ask the database administrator what was done to them."
    )


class QueryFailed(DatabaseError):
    """A check's SQL that cannot be answered."""

    code = "NU-4010"
    what = N_("A question to {database} could not be answered: {sql}")
    remedy = N_("Send the Secretariat what 'ncen-updater doctor' and 'history' say.")


class ReferencesBroken(MigrationFailed):
    """Rows that point at rows that are not there, and did not before the migration."""

    code = "NU-4011"
    what = N_("Migration {migration} of {database} left {count} rows that refer to nothing.")


class FencedByOther(DatabaseError):
    """A fence that belongs to another change than the one that wants to open it."""

    code = "NU-4012"
    exit_code = ExitCode.NEEDS_PERSON
    what = N_("The databases are closed by the change {other}, so {change} does not touch them.")
    remedy = N_("Bring the change {other} to its end first, with the agent that began it.")


class OfficersWereIn(DatabaseError):
    """A change that must not be taken back, because records may have been entered since."""

    code = "NU-4015"
    exit_code = ExitCode.NEEDS_PERSON
    what = N_("The change {change} was committed, so the databases are not cut back.")
    remedy = N_(
        "The journal is older than the databases; send the Secretariat what "
        "'ncen-updater doctor' and 'history' say."
    )


class WayBackNeeded(DatabaseError):
    """A copy that must not be dropped, because the original was already written."""

    code = "NU-4013"
    exit_code = ExitCode.NEEDS_PERSON
    what = N_("The kept copy of {database} is the only way back and is not dropped.")
    remedy = N_("Go back first (ncen-updater resume), then it will be removed.")


class LedgerUnreadable(DatabaseError):
    """The agent's own tables inside a database hold what no agent wrote."""

    code = "NU-4014"
    exit_code = ExitCode.NEEDS_PERSON
    what = N_("The record of migrations inside a database cannot be understood: {reason}.")
    remedy = N_(
        "Do not upgrade; send the Secretariat what 'ncen-updater doctor' and 'history' say."
    )
