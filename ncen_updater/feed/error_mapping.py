"""The one place where exceptions of tuf become errors for people."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
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

from ncen_updater.common.errors import SpaceShort, UpdaterError
from ncen_updater.common.messages import (
    CAPTIVE_PORTAL,
    CLOCK_WRONG,
    FEED_CUT,
    FEED_PROXY,
    FEED_REDIRECTED,
    FEED_TLS,
    FEED_TOO_SLOW,
    FEED_UNREACHABLE,
    LOCAL_STORE_FAILED,
    OFFICERS_ROLE_EXPIRED,
    ROLE_EXPIRED,
    ROOT_CHAIN_BROKEN,
    WRONG_ROLE,
)
from ncen_updater.feed.errors import (
    BadSignature,
    FeedError,
    FeedRefused,
    FeedTooLong,
    MetadataDamaged,
    MixedVersions,
    RoleExpired,
    RollbackRefused,
    TrustError,
    WrongDigest,
)
from ncen_updater.feed.http import LineFailure, MirrorFailure
from ncen_updater.feed.resumable_download import LineBroken
from ncen_updater.feed.signed_lists import OtherRole

ONLINE_ROLES = ("snapshot", "timestamp")
CLOCK_DOUBT = timedelta(days=1)
#: What is said of a line that failed.
LINE_FAILURES = {
    LineFailure.PORTAL: CAPTIVE_PORTAL,
    LineFailure.TLS: FEED_TLS,
    LineFailure.CUT: FEED_CUT,
    LineFailure.PROXY: FEED_PROXY,
    LineFailure.REDIRECTED: FEED_REDIRECTED,
    LineFailure.UNREACHABLE: FEED_UNREACHABLE,
}


class ExpiredRole(ExpiredMetadataError):
    """A role that lapsed, and when."""

    def __init__(self, role: str, expires: datetime) -> None:
        super().__init__(f"{role} lapsed on {expires.isoformat()}")
        self.role, self.expires = role, expires


class MixedRoles(RepositoryError):
    """A role of another moment than the list that names it."""


@dataclass
class FeedContext:
    """What was being done, for the words of an error.

    Attributes:
        name: The role or file at hand.
        now: The time by which expiry is judged.
        system: The system clock.
        server: What a server's ``Date`` said, if any did.
        root_version: The newest root that was verified.
    """

    name: str
    now: datetime
    system: datetime
    server: datetime | None
    root_version: int


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _expired(error: ExpiredRole, facts: FeedContext) -> UpdaterError:
    server = facts.server
    lasts = server is not None and server < error.expires
    if server is not None and lasts and facts.system - server > CLOCK_DOUBT:
        return TrustError(
            CLOCK_WRONG, now=_day(facts.system), server=_day(server), detail=str(error)
        )
    says = ROLE_EXPIRED if error.role in ONLINE_ROLES else OFFICERS_ROLE_EXPIRED
    # Where this clock alone would still take it, say what it was judged by.
    ahead = facts.system < error.expires
    detail = f"by the time that officers signed, {_day(facts.now)}" if ahead else None
    since, now = _day(error.expires), _day(facts.system)
    return RoleExpired(says, role=error.role, since=since, now=now, detail=detail)


def _download(error: DownloadError, facts: FeedContext, detail: str) -> UpdaterError:
    name = facts.name
    if isinstance(error, DownloadHTTPError):
        return FeedRefused(name=name, status=error.status_code, detail=detail)
    if isinstance(error, SlowRetrievalError):
        return FeedError(FEED_TOO_SLOW, name=name, detail=detail)
    if isinstance(error, DownloadLengthMismatchError):
        return FeedTooLong(name=name, detail=detail)
    kind = error.kind if isinstance(error, MirrorFailure) else LineFailure.UNREACHABLE
    return FeedError(LINE_FAILURES[kind], name=name, detail=detail)


def _repository(error: RepositoryError, facts: FeedContext, detail: str) -> UpdaterError:
    if isinstance(error, ExpiredRole):
        return _expired(error, facts)
    if isinstance(error, MixedRoles):
        return MixedVersions(role=facts.name, detail=detail)
    if isinstance(error, OtherRole):
        return TrustError(WRONG_ROLE, role=error.role, other=error.other)
    if isinstance(error, UnsignedMetadataError):
        return BadSignature(role=facts.name, detail=detail)
    if isinstance(error, BadVersionNumberError):
        if facts.name == "root":
            return TrustError(ROOT_CHAIN_BROKEN, version=facts.root_version, detail=detail)
        return RollbackRefused(role=facts.name, detail=detail)
    if isinstance(error, DeserializationError):
        return MetadataDamaged(role=facts.name, detail=detail)
    if isinstance(error, LengthOrHashMismatchError):
        return WrongDigest(name=facts.name, detail=detail)
    return TrustError(detail=detail)


def translate(error: Exception, facts: FeedContext) -> UpdaterError:
    """Return the error for people that an exception of a lower layer stands for."""
    detail = "; ".join([str(error), *getattr(error, "__notes__", [])])
    if isinstance(error, DownloadError):
        return _download(error, facts, detail)
    if isinstance(error, RepositoryError):
        return _repository(error, facts, detail)
    if isinstance(error, LineBroken):
        return FeedError(FEED_CUT, name=facts.name, detail=detail)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpaceShort(
            path=error.filename or "-", needed_bytes=1, free_bytes=0, missing_bytes=1, detail=detail
        )
    return TrustError(LOCAL_STORE_FAILED, detail=detail)


@contextlib.contextmanager
def plain_errors(facts: FeedContext) -> Iterator[FeedContext]:
    """Turn what tuf, the network and the disk raise in this block into errors for people.

    The block keeps ``facts.name`` up to date.

    Raises:
        UpdaterError: Of the trust, network or transfer family.
    """
    try:
        yield facts
    except UpdaterError:
        raise
    except (RepositoryError, DownloadError, LineBroken, OSError) as error:
        raise translate(error, facts) from error
