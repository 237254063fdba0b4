"""Errors of delta packs. Codes 3150 to 3169."""

from __future__ import annotations

from ncen_updater.common.messages import DELTA_ERROR, DELTA_NOT_MADE, DELTA_NOT_PROVED
from ncen_updater.formats.transfer_errors import TransferError


class DeltaError(TransferError):
    """Base: a pack that could not be applied. What was written of the new release is removed."""

    message = DELTA_ERROR
    family = range(3150, 3160)


class DeltaNotMade(TransferError):
    """Base: the publisher's side could not make a pack."""

    message = DELTA_NOT_MADE
    family = range(3160, 3170)


class DeltaNotProved(DeltaNotMade):
    """The pack was applied and gave something else than the new tree; it was removed."""

    message = DELTA_NOT_PROVED
