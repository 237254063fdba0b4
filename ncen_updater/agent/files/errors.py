"""Errors of the files room. Codes 4300 to 4309; 4310 and on are those of findings."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import FILES_NOT_PUT_BACK, PLACE_NOT_OURS

__all__ = ["FilesNotPutBack", "PlaceNotOurs"]


class FilesNotPutBack(UpdaterError):
    """Going back could not put back what was there."""

    message = FILES_NOT_PUT_BACK


class PlaceNotOurs(UpdaterError):
    """The directory for kept trees belongs to somebody else, or others may write in it."""

    message = PLACE_NOT_OURS
