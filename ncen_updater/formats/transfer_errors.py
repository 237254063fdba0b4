"""Errors of transfer. Codes 3100 to 3199."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import DOWNLOAD_DAMAGED, TRANSFER_ERROR


class TransferError(UpdaterError):
    """Base: bytes that did not arrive, or did not fit."""

    message = TRANSFER_ERROR
    family = range(3100, 3150)


class DownloadDamaged(TransferError):
    """The wrong bytes from every address; what was right of them is kept."""

    message = DOWNLOAD_DAMAGED
