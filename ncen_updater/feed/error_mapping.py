"""Translate exceptions of tuf, the network and the disk into ``UpdaterError``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    SlowRetrievalError,
    UnsignedMetadataError,
)
from tuf.api.serialization import DeserializationError

from ncen_updater.common.disk_space import is_disk_full
from ncen_updater.common.errors import InsufficientSpaceError, UpdaterError, get_error_text
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    CAPTIVE_PORTAL,
    CLOCK_WRONG,
    DISK_FULL,
    FEED_CONNECTION_LOST,
    FEED_PROXY,
    FEED_REDIRECTED,
    FEED_TLS,
    FEED_TOO_SLOW,
    FEED_UNREACHABLE,
    LOCAL_STORE_FAILED,
    OFFLINE_ROLE_EXPIRED,
    ROLE_EXPIRED,
    ROOT_CHAIN_BROKEN,
    WRONG_ROLE,
)
from ncen_updater.feed.errors import (
    ONLINE_ROLES,
    BadSignatureError,
    DigestMismatchError,
    FeedError,
    FeedResponseTooLongError,
    FeedStatusError,
    MetadataDamagedError,
    MetadataRollbackError,
    MixedVersionsError,
    RoleExpiredError,
    TrustError,
)
from ncen_updater.feed.http_fetcher import MirrorError, NetworkFailure
from ncen_updater.feed.metadata_verifier import TufWrongRoleError
from ncen_updater.feed.resumable_download import ConnectionLostError

MAX_CLOCK_SKEW = timedelta(days=1)
#: The message for each kind of network failure.
NETWORK_FAILURE_MESSAGES = {
    NetworkFailure.CAPTIVE_PORTAL: CAPTIVE_PORTAL,
    NetworkFailure.TLS: FEED_TLS,
    NetworkFailure.CONNECTION_LOST: FEED_CONNECTION_LOST,
    NetworkFailure.PROXY: FEED_PROXY,
    NetworkFailure.REDIRECTED: FEED_REDIRECTED,
    NetworkFailure.UNREACHABLE: FEED_UNREACHABLE,
}


class TufRoleExpiredError(ExpiredMetadataError):
    """A role that has expired, with its expiry time."""

    def __init__(self, role: str, expires: datetime) -> None:
        super().__init__(
            LazyText(
                N_("{role} expired on {expires}"), {"role": role, "expires": _format_time(expires)}
            )
        )
        self.role, self.expires = role, expires


class TufMixedRolesError(RepositoryError):
    """A role whose version differs from the one that the snapshot or timestamp names."""


#: Our error for each tuf error about one role.
ROLE_ERRORS: Mapping[type[RepositoryError], type[TrustError]] = {
    TufMixedRolesError: MixedVersionsError,
    UnsignedMetadataError: BadSignatureError,
    BadVersionNumberError: MetadataRollbackError,
    DeserializationError: MetadataDamagedError,
}


@dataclass
class FeedErrorContext:
    """The context that the text of an error needs.

    Attributes:
        name: The role or file in progress.
        now: The reference time for expiry.
        system: The system clock.
        server: The time in a server's ``Date`` header, if a server sent one.
        root_version: Version of the newest verified root.
    """

    name: str
    now: datetime
    system: datetime
    server: datetime | None
    root_version: int


def _format_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _map_expired_role(error: TufRoleExpiredError, facts: FeedErrorContext) -> UpdaterError:
    server = facts.server
    valid_by_server = server is not None and server < error.expires
    if server is not None and valid_by_server and facts.system - server > MAX_CLOCK_SKEW:
        return TrustError(
            CLOCK_WRONG,
            now=_format_time(facts.system),
            server=_format_time(server),
            detail=get_error_text(error),
        )
    message = ROLE_EXPIRED if error.role in ONLINE_ROLES else OFFLINE_ROLE_EXPIRED
    # If the system clock is before the expiry, name the time that was compared instead.
    clock_before_expiry = facts.system < error.expires
    template = N_("compared with the time of the newest signature, {at}")
    detail = LazyText(template, {"at": _format_time(facts.now)}) if clock_before_expiry else None
    since, now = _format_time(error.expires), _format_time(facts.system)
    return RoleExpiredError(message, role=error.role, since=since, now=now, detail=detail)


def _map_download_error(
    error: DownloadError, facts: FeedErrorContext, detail: LazyText | str
) -> UpdaterError:
    if isinstance(error, DownloadHTTPError):
        return FeedStatusError(name=facts.name, status=error.status_code, detail=detail)
    if isinstance(error, SlowRetrievalError):
        return FeedError(FEED_TOO_SLOW, detail=detail)
    if isinstance(error, DownloadLengthMismatchError):
        return FeedResponseTooLongError(name=facts.name, detail=detail)
    kind = error.kind if isinstance(error, MirrorError) else NetworkFailure.UNREACHABLE
    return FeedError(NETWORK_FAILURE_MESSAGES[kind], detail=detail)


def _map_repository_error(
    error: RepositoryError, facts: FeedErrorContext, detail: LazyText | str
) -> UpdaterError:
    if isinstance(error, TufRoleExpiredError):
        return _map_expired_role(error, facts)
    if isinstance(error, TufWrongRoleError):
        return TrustError(WRONG_ROLE, role=error.role, other=error.other)
    if isinstance(error, BadVersionNumberError) and facts.name == "root":
        return TrustError(ROOT_CHAIN_BROKEN, version=facts.root_version, detail=detail)
    if isinstance(error, LengthOrHashMismatchError):
        return DigestMismatchError(name=facts.name, detail=detail)
    for kind, ours in ROLE_ERRORS.items():
        if isinstance(error, kind):
            return ours(role=facts.name, detail=detail)
    return TrustError(detail=detail)


def map_error(error: Exception, facts: FeedErrorContext) -> UpdaterError:
    """Return the ``UpdaterError`` for an exception of tuf, the network or the disk."""
    detail = get_error_text(error)
    if isinstance(error, DownloadError):
        return _map_download_error(error, facts, detail)
    if isinstance(error, RepositoryError):
        return _map_repository_error(error, facts, detail)
    if isinstance(error, ConnectionLostError):
        return FeedError(FEED_CONNECTION_LOST, detail=detail)
    if is_disk_full(error):
        path = getattr(error, "filename", None) or "-"
        return InsufficientSpaceError(DISK_FULL, path=path, detail=detail)
    return TrustError(LOCAL_STORE_FAILED, detail=detail)


@contextlib.contextmanager
def map_errors(facts: FeedErrorContext) -> Iterator[FeedErrorContext]:
    """Translate exceptions of tuf, the network and the disk in this block into ``UpdaterError``.

    The block keeps ``facts.name`` up to date.

    Raises:
        UpdaterError: Of the trust, network or transfer family.
    """
    try:
        yield facts
    except UpdaterError:
        raise
    except (RepositoryError, DownloadError, ConnectionLostError, OSError) as error:
        raise map_error(error, facts) from error
