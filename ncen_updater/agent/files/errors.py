"""Errors of the files room. Codes 4300 to 4309; 4310 and on are those of findings."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import PLACE_NOT_OURS


class PlaceNotOurs(UpdaterError):
    """The directory for kept trees belongs to somebody else, or others may write in it."""

    message = PLACE_NOT_OURS
