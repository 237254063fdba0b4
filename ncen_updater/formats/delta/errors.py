"""Errors of delta packs. Codes 3150 to 3169."""

from __future__ import annotations

from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_
from ncen_updater.formats.transfer_errors import TransferError

__all__ = [
    "DeltaDamaged",
    "DeltaError",
    "DeltaForAnotherBase",
    "DeltaNotMade",
    "DeltaNotPossible",
    "DeltaNotProved",
    "DeltaOverLimit",
    "DeltaPathRefused",
    "DeltaRangeRefused",
    "DeltaUnsupported",
    "OldFileAltered",
]

ARCHIVE_INSTEAD = N_("Nothing needs to be done: the whole archive is fetched instead.")


class DeltaError(TransferError):
    """Base: a pack that could not be applied. What was written of the new release is removed."""

    code = "NU-3150"
    what = N_("The delta pack {pack} could not be applied.")
    remedy = ARCHIVE_INSTEAD


class DeltaDamaged(DeltaError):
    """Not a whole pack: cut off, altered, or not a pack at all."""

    code = "NU-3151"
    exit_code = ExitCode.TRUST
    what = N_("The delta pack {pack} is damaged.")


class DeltaForAnotherBase(DeltaError):
    """The pack starts from, or leads to, another tree than was signed for it."""

    code = "NU-3152"
    exit_code = ExitCode.TRUST
    what = N_("The delta pack {pack} is not for the release that is installed here.")


class DeltaPathRefused(DeltaError):
    """A path that no release may have: it leads out, collides, or is named twice."""

    code = "NU-3153"
    exit_code = ExitCode.TRUST
    what = N_("The delta pack {pack} names a path that no release may have.")


class DeltaOverLimit(DeltaError):
    """More bytes, files or memory than were signed, or than any pack may take."""

    code = "NU-3154"
    exit_code = ExitCode.TRUST
    what = N_("The delta pack {pack} takes more than was signed for it.")


class DeltaRangeRefused(DeltaError):
    """It reads outside a file of the old release, or its parts do not add up."""

    code = "NU-3155"
    exit_code = ExitCode.TRUST
    what = N_("The delta pack {pack} refers to places that do not exist.")


class DeltaUnsupported(DeltaError):
    """It needs what this agent or its libraries cannot do."""

    code = "NU-3156"
    what = N_("The delta pack {pack} needs what this machine cannot do: {needs}.")


class OldFileAltered(DeltaError):
    """A file of the slot in use is not what its release says."""

    code = "NU-3157"
    what = N_("The installed file {path} was altered, so a delta pack cannot start from it.")
    remedy = N_(
        "The whole archive is fetched instead. 'ncen-updater verify' says what else was altered."
    )


class DeltaNotMade(TransferError):
    """Base: the publisher's side could not make a pack."""

    code = "NU-3160"
    what = N_("No delta pack could be made.")
    remedy = N_("Publish the release without this delta pack; sites fetch the whole archive.")


class DeltaNotPossible(DeltaNotMade):
    """The new tree cannot be said as a delta; ``detail`` says why."""

    code = "NU-3161"
    what = N_("No delta pack can lead to this release.")


class DeltaNotProved(DeltaNotMade):
    """The pack was applied and gave something else than the new tree; it was removed."""

    code = "NU-3162"
    what = N_("The delta pack was made but does not give the new release; it was not kept.")
    remedy = N_(
        "Check that nothing changes the releases while packs are made, and try again. If it stays, "
        "publish without this pack and tell the makers of ncen-publisher."
    )
