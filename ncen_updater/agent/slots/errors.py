"""Errors of the slots room. Codes 3200 to 3299."""

from __future__ import annotations

from ncen_updater.common.errors import ExitCode, UpdaterError
from ncen_updater.common.i18n import N_

__all__ = [
    "CurrentAstray",
    "RecordUnusable",
    "SlotDiffers",
    "SlotError",
    "SlotInUse",
    "SlotMissing",
    "SlotNoSpace",
    "SlotNotWritten",
]


class SlotError(UpdaterError):
    """Base of what can be wrong with the installed releases."""

    code = "NU-3200"
    what = N_("The installed releases in {path} cannot be read.")
    remedy = N_("Check that the directory exists and that the agent may read it.")


class CurrentAstray(SlotError):
    """The link that chooses the release leads to something that is no slot."""

    code = "NU-3201"
    exit_code = ExitCode.NEEDS_PERSON
    what = N_("{current} does not lead to an installed release, but to {target}.")
    remedy = N_("Make {current} a link to one of the directories in {slots}, then try again.")


class SlotMissing(SlotError):
    """A release that is not installed here, or not whole."""

    code = "NU-3202"
    what = N_("Release {version} is not installed in {slots}.")
    remedy = N_("Run the upgrade to that release again; it installs what is missing.")


class RecordUnusable(SlotError):
    """What the agent wrote down of a slot cannot be used, so the slot cannot be judged."""

    code = "NU-3203"
    exit_code = ExitCode.NEEDS_PERSON
    what = N_("The record of release {version} in {path} is missing or damaged.")
    remedy = N_(
        "Restore the record from a backup, or send the Secretariat what "
        "'ncen-updater doctor' and 'history' say."
    )


class SlotInUse(SlotError):
    """A slot that may not be removed or replaced, since the site runs from it."""

    code = "NU-3204"
    what = N_("Release {version} is in use and cannot be removed or replaced.")
    remedy = N_("Go to another release first.")


class SlotDiffers(SlotError):
    """Files that are not those of the release."""

    code = "NU-3205"
    exit_code = ExitCode.BLOCKED
    what = N_("The files in {path} are not those of release {version}: {count} differences.")
    remedy = N_("Find out who changed them; remove the directory if nobody needs it.")


class SlotNotWritten(SlotError):
    """The disk refused a write."""

    code = "NU-3206"
    what = N_("Release {version} could not be written to {path}.")
    remedy = N_("Check the disk and the rights of the directory, then try again.")


class SlotNoSpace(SlotNotWritten):
    """The disk is full."""

    code = "NU-3207"
    exit_code = ExitCode.SPACE
    what = N_("There is not enough space in {path} for release {version}.")
    remedy = N_("Free space on that disk, then try again.")
