"""Errors of trust, network and the choice of a release. Codes 2001 to 2219.

None of them means "there is no update", and none of them changes the site.
"""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    DOCUMENT_MISMATCH,
    DOWNLOAD_NOT_VERIFIED,
    FEED_BAD_SIGNATURE,
    FEED_ERROR,
    FEED_RESPONSE_TOO_LONG,
    FEED_STATUS,
    FEED_TARGET_MISSING,
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


class TrustError(UpdaterError):
    """What the feed says could not be verified."""

    message = TRUST_ERROR
    code_range = range(2001, 2100)


class TrustedRootMissingError(TrustError):
    """Neither the stored nor the installed trusted root can be used."""

    message = TRUSTED_ROOT_MISSING


class BadSignatureError(TrustError):
    """Fewer valid signatures than the threshold."""

    message = FEED_BAD_SIGNATURE


class MetadataRollbackError(TrustError):
    """Older than what this site has already seen."""

    message = ROLLBACK_REFUSED


class MetadataDamagedError(TrustError):
    """Not in the form of signed metadata."""

    message = METADATA_DAMAGED


class DigestMismatchError(TrustError):
    """Other bytes than the signed digest says."""

    message = WRONG_DIGEST


class RoleExpiredError(TrustError):
    """A list that was not signed again in time: by the Secretariat's server, or by signers."""

    message = ROLE_EXPIRED


class MixedVersionsError(TrustError):
    """Lists that do not belong together."""

    message = MIXED_VERSIONS


class DocumentMismatchError(TrustError):
    """The release document and the signed list contradict each other."""

    message = DOCUMENT_MISMATCH


class TargetMissingError(TrustError):
    """A file that should be in the signed list is not."""

    message = FEED_TARGET_MISSING


class UnverifiedDownloadError(TrustError):
    """No chain of signatures leads from the installed root to what the reading process left."""

    message = DOWNLOAD_NOT_VERIFIED


class FeedError(UpdaterError):
    """Base of what the network fails to do."""

    message = FEED_ERROR
    code_range = range(2101, 2200)


class FeedStatusError(FeedError):
    """An HTTP status other than success."""

    message = FEED_STATUS


class NotImportedError(UpdaterError):
    """A file of a release that is on the list and not on the disk, and no feed to ask."""

    message = NOT_IMPORTED


class FeedResponseTooLongError(TrustError):
    """More bytes than were announced; the rest was not read."""

    message = FEED_RESPONSE_TOO_LONG


class UpgradePathError(UpdaterError):
    """A release that was asked for by name and may not be installed here."""

    message = PATH_ERROR
    code_range = range(2201, 2220)
