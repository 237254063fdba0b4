"""Errors of bundles and mirrors. Codes 2301 to 2399."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    BUNDLE_ALTERED,
    NOT_IMPORTED,
)


class BundleAltered(UpdaterError):
    """Other bytes than were written or signed."""

    message = BUNDLE_ALTERED


class NotImported(UpdaterError):
    """A file of a release that is on the list and not on the disk, and no feed to ask."""

    message = NOT_IMPORTED
