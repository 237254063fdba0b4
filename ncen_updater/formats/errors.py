"""Errors of the release format."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import BAD_MANIFEST, BAD_RELEASE, BAD_TREE


class BadManifest(UpdaterError):
    """A manifest that cannot be used; ``detail`` names each mistake with its place."""

    message = BAD_MANIFEST


class BadRelease(UpdaterError):
    """A release document that does not have the agreed form."""

    message = BAD_RELEASE


class BadTree(UpdaterError):
    """A tree that names paths, types or sizes that no release may have."""

    message = BAD_TREE
