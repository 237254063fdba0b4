"""Errors of bundles and mirrors. Codes 2301 to 2399."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    BUNDLE_ALTERED,
    BUNDLE_DOES_NOT_FIT,
    BUNDLE_UNSAFE,
    MIRROR_FORBIDDEN,
    NOT_IMPORTED,
)

__all__ = ["BundleAltered", "BundleDoesNotFit", "BundleUnsafe", "MirrorForbidden", "NotImported"]


class BundleAltered(UpdaterError):
    """Other bytes than were written or signed."""

    message = BUNDLE_ALTERED


class BundleUnsafe(UpdaterError):
    """A form that no bundle of ours has."""

    message = BUNDLE_UNSAFE


class BundleDoesNotFit(UpdaterError):
    """It leads from another release than the one that runs here."""

    message = BUNDLE_DOES_NOT_FIT


class NotImported(UpdaterError):
    """A file of a release that is on the list and not on the disk, and no feed to ask."""

    message = NOT_IMPORTED


class MirrorForbidden(UpdaterError):
    """A directory that the process which reads the feed may not write to."""

    message = MIRROR_FORBIDDEN
