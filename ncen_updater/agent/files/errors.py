"""Errors of the files room. Codes 4300 to 4309; 4310 and on are those of findings."""

from __future__ import annotations

from ncen_updater.common.errors import ExitCode, UpdaterError
from ncen_updater.common.i18n import N_

__all__ = ["FilesError", "FilesNotKept", "FilesNotPutBack", "IndexUnusable", "PlaceNotOurs"]


class FilesError(UpdaterError):
    """Base of what can be wrong with the site's own files."""

    code = "NU-4300"
    what = N_("The files in {directory} cannot be worked on: {reason}.")
    remedy = N_("Give the agent's user the right to read and write there, then try again.")


class FilesNotKept(FilesError):
    """A kept tree could not be made."""

    code = "NU-4301"
    what = N_("What is in {directory} could not be kept before the change: {reason}.")


class FilesNotPutBack(FilesError):
    """Going back could not put back what was there."""

    code = "NU-4302"
    exit_code = ExitCode.NEEDS_PERSON
    what = N_("What was in {directory} before the change could not be put back: {reason}.")
    remedy = N_(
        "Put right what is named, then run 'ncen-updater resume'. What was there lies in {place};"
        " leave it there."
    )


class PlaceNotOurs(FilesError):
    """The directory for kept trees belongs to somebody else, or others may write in it."""

    code = "NU-4303"
    what = N_("{place} is not a directory of the agent's own that nobody else may enter.")
    remedy = N_("Find out who made it, move it away, and try again.")


class IndexUnusable(FilesError):
    """What the agent wrote down of a kept tree cannot be read."""

    code = "NU-4304"
    exit_code = ExitCode.NEEDS_PERSON
    what = N_("The list of what was in {directory} before the change is damaged.")
    remedy = N_("Do not remove {place}: the files lie there. Call the Secretariat.")
