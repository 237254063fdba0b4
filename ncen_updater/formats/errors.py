"""Errors of the release format, and of transfer (codes 3100 to 3199)."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    BAD_MANIFEST,
    BAD_RELEASE,
    BAD_TREE,
    DOWNLOAD_DAMAGED,
    TRANSFER_ERROR,
)


class ManifestError(UpdaterError):
    """A manifest that cannot be used; ``detail`` names each mistake with its place."""

    message = BAD_MANIFEST


class ReleaseDocumentError(UpdaterError):
    """A release document that does not have the agreed form."""

    message = BAD_RELEASE


class TreeError(UpdaterError):
    """A tree that names paths, types or sizes that no release may have."""

    message = BAD_TREE


class TransferError(UpdaterError):
    """Base: bytes that did not arrive, or did not fit."""

    message = TRANSFER_ERROR
    code_range = range(3100, 3150)


class DownloadDamagedError(TransferError):
    """The wrong bytes from every address; what was right of them is kept."""

    message = DOWNLOAD_DAMAGED
