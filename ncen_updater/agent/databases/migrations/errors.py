"""Errors of migration files and checks. Codes 4200 to 4219."""

from __future__ import annotations

from ncen_updater.agent.databases.errors import DatabaseError, MigrationFailed
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_

__all__ = ["CheckMisshapen", "MigrationFileBad", "MigratorFailed", "MigratorMissing"]


class MigrationFileBad(DatabaseError):
    """A migration file that is missing, altered, too large, or not plain UTF-8 text."""

    code = "NU-4200"
    exit_code = ExitCode.TRUST
    what = N_("The migration file {path} of release {release} cannot be used: {reason}")
    remedy = N_("Build the release's directory again from the feed; nothing was changed.")


class CheckMisshapen(DatabaseError):
    """A check of the manifest that does not answer with the agreed shape."""

    code = "NU-4201"
    what = N_("The check '{check}' on {database} answered {shape} values instead of one.")
    remedy = N_(
        "Send the Secretariat what 'ncen-updater doctor' and 'history' say: "
        "the release's check is wrong."
    )


class MigratorMissing(DatabaseError):
    """The application's own migrator that cannot be started."""

    code = "NU-4202"
    what = N_("The application's migrator {program} cannot be started.")
    remedy = N_("Build the release's directory again from the feed, then try again.")


class MigratorFailed(MigrationFailed):
    """The application's own migrator that failed or was ended."""

    code = "NU-4203"
    what = N_("The application's own migrator {program} failed on {database}: {how}")
