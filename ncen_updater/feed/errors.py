"""Errors of trust, of the network and of the choice of a release. Codes 2001 to 2219.

None of them means "no update available", and none changes the site.
"""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    DOCUMENT_MISMATCH,
    DOWNLOAD_NOT_VERIFIED,
    FEED_BAD_SIGNATURE,
    FEED_RESPONSE_TOO_LONG,
    FEED_STATUS,
    FEED_TARGET_MISSING,
    FEED_UNREACHABLE,
    METADATA_DAMAGED,
    MIXED_VERSIONS,
    NOT_IMPORTED,
    PATH_ERROR,
    ROLE_EXPIRED,
    ROLLBACK_REFUSED,
    TRUST_ERROR,
    TRUSTED_ROOT_MISSING,
    WRONG_DIGEST,
)

#: Roles that a server signs again automatically, not the signers.
ONLINE_ROLES = ("snapshot", "timestamp")


class TrustError(UpdaterError):
    """Base of failed verifications of signed metadata and files."""

    message = TRUST_ERROR
    code_range = range(2001, 2100)


class TrustedRootMissingError(TrustError):
    """Neither the stored nor the installed trusted root can be used."""

    message = TRUSTED_ROOT_MISSING


class BadSignatureError(TrustError):
    """Metadata with fewer valid signatures than the threshold."""

    message = FEED_BAD_SIGNATURE


class MetadataRollbackError(TrustError):
    """Metadata older than the metadata that this site has already verified."""

    message = ROLLBACK_REFUSED


class MetadataDamagedError(TrustError):
    """A file that cannot be parsed as TUF metadata."""

    message = METADATA_DAMAGED


class DigestMismatchError(TrustError):
    """A file whose digest differs from the signed one."""

    message = WRONG_DIGEST


class RoleExpiredError(TrustError):
    """Metadata that has expired before it was signed again, by the server or by the signers."""

    message = ROLE_EXPIRED


class MixedVersionsError(TrustError):
    """Metadata of several roles whose versions do not match each other."""

    message = MIXED_VERSIONS


class DocumentMismatchError(TrustError):
    """A release document that contradicts the signed targets metadata."""

    message = DOCUMENT_MISMATCH


class TargetMissingError(TrustError):
    """A file that the signed targets metadata should name and does not."""

    message = FEED_TARGET_MISSING


class UnverifiedDownloadError(TrustError):
    """A download that no chain of signatures from the installed root covers."""

    message = DOWNLOAD_NOT_VERIFIED


class FeedError(UpdaterError):
    """Base of network failures."""

    message = FEED_UNREACHABLE
    code_range = range(2101, 2200)


class FeedStatusError(FeedError):
    """An HTTP response with an error status."""

    message = FEED_STATUS


class NotImportedError(UpdaterError):
    """A file of a release that was not imported, at a site without a feed."""

    message = NOT_IMPORTED


class FeedResponseTooLongError(TrustError):
    """A response longer than announced; the rest was not read."""

    message = FEED_RESPONSE_TOO_LONG


class UpgradePathError(UpdaterError):
    """A release that was requested by version and may not be installed at this site."""

    message = PATH_ERROR
    code_range = range(2201, 2220)
