"""Errors of transfer. Codes 3100 to 3199."""

from __future__ import annotations

from ncen_updater.common.errors import ExitCode, UpdaterError
from ncen_updater.common.i18n import N_

__all__ = [
    "ArchiveDamaged",
    "ArchiveMismatch",
    "DestinationInUse",
    "DownloadDamaged",
    "TransferError",
]


class TransferError(UpdaterError):
    """Base: bytes that did not arrive, or did not fit."""

    code = "NU-3100"
    what = N_("A file could not be moved or unpacked.")
    remedy = N_("Check the disk and try again.")


class DownloadDamaged(TransferError):
    """The wrong bytes from every address; what was right of them is kept."""

    code = "NU-3102"
    exit_code = ExitCode.TRUST
    what = N_("'{name}' arrived again and again with other bytes than were signed.")
    remedy = N_("Try another feed address or a medium, and tell the Secretariat.")


class ArchiveMismatch(TransferError):
    """The archive holds something else than the signed tree; what was written was removed."""

    code = "NU-3103"
    exit_code = ExitCode.TRUST
    what = N_("The archive {archive} does not hold what was signed.")
    remedy = N_("Do not install this release; tell the Secretariat which one it is.")


class ArchiveDamaged(TransferError):
    """Not a whole ``.tar.gz``; what was written was removed."""

    code = "NU-3104"
    exit_code = ExitCode.TRUST
    what = N_("The archive {archive} is damaged.")
    remedy = N_(
        "Try again; it is fetched anew. If it stays so, tell the Secretariat which release it is."
    )


class DestinationInUse(TransferError):
    """There is already something where the release should be unpacked."""

    code = "NU-3105"
    what = N_("{path} is not an empty directory.")
    remedy = N_("Remove it if it is left over from an interrupted attempt.")
