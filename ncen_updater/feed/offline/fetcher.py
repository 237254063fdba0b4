"""A bundle in the place of a server: the same client, another fetcher."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import (
    BUNDLE_ALTERED,
    BUNDLE_INCOMPLETE,
    BUNDLE_NOT_SIGNED,
    BUNDLE_OLDER,
    BUNDLE_TOO_OLD,
    ROOT_CHAIN_BROKEN,
)
from ncen_updater.common.progress import Progress
from ncen_updater.feed.errors import (
    BadSignature,
    FeedRefused,
    FeedTooLong,
    MetadataDamaged,
    MixedVersions,
    RoleExpired,
    RollbackRefused,
    TrustError,
    WrongDigest,
)
from ncen_updater.feed.fetching import LocalFetcher, NotThere
from ncen_updater.formats.bundle.bundle_file import BundleFile
from ncen_updater.formats.bundle.form import BLOCK, BundleMember, check_sums, read_members
from ncen_updater.formats.errors import DownloadDamaged

ROOT = re.compile(r"metadata/([0-9]+)\.root\.json")
ONLINE = ("timestamp", "snapshot")


class BundleFetcher(LocalFetcher):
    """Reads members by their exact name.

    Args:
        bundle: The bundle.
        members: Its members.
    """

    def __init__(self, bundle: BundleFile, members: Mapping[str, BundleMember]) -> None:
        self._bundle, self._members = bundle, members

    def length(self, name: str) -> int:
        """Bytes of a member.

        Raises:
            NotThere: If it is a root that is not there: the end of the chain.
            BundleIncomplete: If it is anything else.
        """
        name = name.lstrip("/")
        if name in self._members:
            return self._members[name].size
        if ROOT.fullmatch(name):
            raise NotThere(name)
        raise UpdaterError(BUNDLE_INCOMPLETE, name=name)

    def blocks(self, name: str, offset: int) -> Iterator[bytes]:
        """Yield the bytes of a member."""
        self.length(name)
        member = self._members[name.lstrip("/")]
        at = member.begins + offset
        while at < member.ends:
            block = self._bundle.read_at(at, min(BLOCK, member.ends - at))
            at += len(block)
            yield block


def read_whole(bundle: BundleFile, progress: Progress) -> dict[str, BundleMember]:
    """Read the members of a bundle and compare the checksum of each.

    Raises:
        UpdaterError: If it is no bundle, is damaged, or lacks a root.
    """
    members = read_members(bundle)
    _require_roots(members)
    told = Text(N_("Reading the bundle (bytes)"))
    check_sums(bundle, members.values(), lambda done: progress.tell(told, done, bundle.size))
    return members


def _require_roots(members: Mapping[str, BundleMember]) -> None:
    numbers = sorted(int(found[1]) for name in members if (found := ROOT.fullmatch(name)))
    if not numbers:
        raise UpdaterError(BUNDLE_INCOMPLETE, name="metadata/1.root.json")
    for wanted, number in enumerate(numbers, 1):
        if number != wanted:
            raise TrustError(
                ROOT_CHAIN_BROKEN,
                version=wanted - 1,
                detail=Text("the bundle lacks root {wanted}", {"wanted": wanted}),
            )


@contextlib.contextmanager
def in_words_of_bundles(grace: timedelta) -> Iterator[None]:
    """Say of a bundle what the client says of a server.

    Raises:
        UpdaterError: Of the bundle, where it is one that a bundle causes in its own way.
    """
    try:
        yield
    except (WrongDigest, DownloadDamaged, FeedTooLong, MetadataDamaged) as error:
        name = error.values.get("name") or error.values.get("role")
        raise UpdaterError(BUNDLE_ALTERED, name=name, detail=error.detail) from error
    except RollbackRefused as error:
        raise UpdaterError(BUNDLE_OLDER, role=error.values["role"], detail=error.detail) from error
    except (BadSignature, MixedVersions) as error:
        raise UpdaterError(
            BUNDLE_NOT_SIGNED, role=error.values["role"], detail=error.detail
        ) from error
    except RoleExpired as error:
        if error.values["role"] not in ONLINE:
            raise
        raise UpdaterError(
            BUNDLE_TOO_OLD,
            role=error.values["role"],
            since=error.values["since"],
            now=error.values["now"],
            days=grace.days,
            detail=error.detail,
        ) from error
    except FeedRefused as error:
        raise UpdaterError(
            BUNDLE_INCOMPLETE, name=error.values["name"], detail=error.detail
        ) from error
