"""Errors of the command lines. Codes 1101 to 1199. Imports nothing heavy."""

from __future__ import annotations

from ncen_updater.common.errors import ExitCode, UpdaterError
from ncen_updater.common.i18n import N_, Text

__all__ = [
    "NOTHING_CHANGED",
    "BadTime",
    "BadUsage",
    "BadVersion",
    "Declined",
    "NeedsYes",
    "Stopped",
    "Unexpected",
    "UnknownChange",
    "Unwritten",
]

UNKNOWN = N_("The state of the site could not be found out: {why}")
NOTHING_CHANGED = Text(N_("Nothing was changed."))


class BadUsage(UpdaterError):
    """A command line that cannot be understood."""

    code = "NU-1101"
    exit_code = ExitCode.USAGE
    what = N_("The command line cannot be understood.")
    remedy = N_("'{command} --help' shows what is possible.")


class NeedsYes(UpdaterError):
    """A question that nobody is there to answer."""

    code = "NU-1102"
    exit_code = ExitCode.USAGE
    what = N_("This asks a question, and there is no terminal to answer it at.")
    remedy = N_("Run it in a terminal, or give --yes to answer the question beforehand.")


class Declined(UpdaterError):
    """A question that was answered with no."""

    code = "NU-1103"
    exit_code = ExitCode.APPROVAL_MISSING
    what = N_("You did not agree, so nothing was begun.")
    remedy = N_("Run the command again when you are ready.")


class BadVersion(UpdaterError):
    """A word that is no version."""

    code = "NU-1104"
    exit_code = ExitCode.USAGE
    what = N_("'{text}' is not a version.")
    remedy = N_("Write a version such as 3.3.0; 'ncen-updater check' shows what is on offer.")


class BadTime(UpdaterError):
    """A time that cannot be read, or has passed."""

    code = "NU-1105"
    exit_code = ExitCode.USAGE
    what = N_("'{text}' is not a time in the future.")
    remedy = N_("Write it as 2027-01-31 or 2027-01-31T18:00, in the time of the site.")


class UnknownChange(UpdaterError):
    """An id that the journal does not know."""

    code = "NU-1106"
    exit_code = ExitCode.USAGE
    what = N_("The journal knows no change '{change}'.")
    remedy = N_("'ncen-updater history' lists every change with its id.")


class Stopped(UpdaterError):
    """A signal ended a command that had nothing to undo."""

    code = "NU-1108"
    what = N_("The command was stopped ({signal}).")
    remedy = N_("Run it again when you are ready.")


class Unwritten(UpdaterError):
    """Data that stdout did not take, such as a file on a full disk."""

    code = "NU-1109"
    what = N_("What the command had to say could not be written: {reason}")
    remedy = N_("Make room where the output goes, then ask again with 'status' or 'history'.")


class Unexpected(UpdaterError):
    """A mistake in this program; the trace is in ``detail`` or in a file that it names."""

    code = "NU-1000"
    what = N_("The program met something that it does not know: {kind}")
    remedy = N_(
        "Run the command again with --verbose, and send what it shows to the Secretariat. "
        "'ncen-updater status' shows the site."
    )
