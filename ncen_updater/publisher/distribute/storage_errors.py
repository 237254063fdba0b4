"""Errors of publication to places elsewhere. Codes 7060 to 7069."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import PLACE_FAILED

__all__ = ["PlaceFailed"]


class PlaceFailed(UpdaterError):
    """The store said no, or was not there."""

    message = PLACE_FAILED
