"""Fetchers that read from an offline bundle or from stored metadata instead of from a server."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from ncen_updater.common.bounded_io import read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    BUNDLE_ALTERED,
    BUNDLE_INCOMPLETE,
    BUNDLE_NOT_SIGNED,
    BUNDLE_OLDER,
    BUNDLE_TOO_OLD,
    ROOT_CHAIN_BROKEN,
    ErrorMessage,
)
from ncen_updater.common.progress import Amount, ProgressListener, Unit
from ncen_updater.feed.errors import (
    ONLINE_ROLES,
    BadSignatureError,
    DigestMismatchError,
    FeedResponseTooLongError,
    FeedStatusError,
    MetadataDamagedError,
    MetadataRollbackError,
    MixedVersionsError,
    NotImportedError,
    RoleExpiredError,
    TrustError,
)
from ncen_updater.feed.fetching import FeedFileMissingError, LocalFetcher
from ncen_updater.feed.import_store import MAX_METADATA_BYTES
from ncen_updater.formats.bundle_file import (
    BLOCK,
    BundleFile,
    BundleMember,
    read_members,
    verify_checksums,
)
from ncen_updater.formats.errors import DownloadDamagedError
from ncen_updater.formats.target_names import ROOT_HISTORY

ROOT_MEMBER_PATTERN = re.compile(r"metadata/([0-9]+)\.root\.json")
#: The message for an offline bundle for each error of the TUF client, and its values.
BUNDLE_MESSAGES: Mapping[type[UpdaterError], tuple[ErrorMessage, *tuple[str, ...]]] = {
    DigestMismatchError: (BUNDLE_ALTERED, "name"),
    DownloadDamagedError: (BUNDLE_ALTERED, "name"),
    FeedResponseTooLongError: (BUNDLE_ALTERED, "name"),
    MetadataDamagedError: (BUNDLE_ALTERED, "name"),
    MetadataRollbackError: (BUNDLE_OLDER,),
    BadSignatureError: (BUNDLE_NOT_SIGNED, "role"),
    MixedVersionsError: (BUNDLE_NOT_SIGNED, "role"),
    RoleExpiredError: (BUNDLE_TOO_OLD, "role", "since", "now", "days"),
    FeedStatusError: (BUNDLE_INCOMPLETE, "name"),
}


class BundleFetcher(LocalFetcher):
    """A fetcher that reads members of a bundle by their exact name.

    Args:
        bundle: The open bundle.
        members: The bundle's members by name.
    """

    def __init__(self, bundle: BundleFile, members: Mapping[str, BundleMember]) -> None:
        self._bundle, self._members = bundle, members

    def get_length(self, name: str) -> int:
        """Return the length of a member in bytes.

        Raises:
            FeedFileMissingError: If a root is missing: the root chain ends there.
            BUNDLE_INCOMPLETE: If any other member is missing.
        """
        name = name.lstrip("/")
        if name in self._members:
            return self._members[name].size
        if ROOT_MEMBER_PATTERN.fullmatch(name):
            raise FeedFileMissingError(name)
        raise UpdaterError(BUNDLE_INCOMPLETE, name=name)

    def read_blocks(self, name: str, offset: int) -> Iterator[bytes]:
        """Yield the bytes of a member."""
        self.get_length(name)
        member = self._members[name.lstrip("/")]
        position = member.start + offset
        while position < member.end:
            block = self._bundle.read_at(position, min(BLOCK, member.end - position))
            position += len(block)
            yield block


def read_verified_members(
    bundle: BundleFile, progress: ProgressListener
) -> dict[str, BundleMember]:
    """Read the members of a bundle and verify the checksum of each.

    Raises:
        UpdaterError: If the file is not a bundle, is damaged, or lacks a root.
    """
    members = read_members(bundle)
    _require_roots(members)
    label = LazyText(N_("reading the offline bundle"))
    verify_checksums(
        bundle,
        members.values(),
        lambda done: progress.report(label, Amount(done, bundle.size, Unit.BYTES)),
    )
    return members


def _require_roots(members: Mapping[str, BundleMember]) -> None:
    numbers = sorted(
        int(found[1]) for name in members if (found := ROOT_MEMBER_PATTERN.fullmatch(name))
    )
    if not numbers:
        raise UpdaterError(BUNDLE_INCOMPLETE, name="metadata/1.root.json")
    for expected, number in enumerate(numbers, 1):
        if number != expected:
            raise TrustError(
                ROOT_CHAIN_BROKEN,
                version=expected - 1,
                detail=LazyText("root {expected} is missing", {"expected": expected}),
            )


@contextlib.contextmanager
def map_bundle_errors(grace: timedelta) -> Iterator[None]:
    """Translate errors of the TUF client into the messages for an offline bundle.

    Raises:
        UpdaterError: The bundle's own error where one exists; else the client's error.
    """
    try:
        yield
    except tuple(BUNDLE_MESSAGES) as error:
        if isinstance(error, RoleExpiredError) and error.values["role"] not in ONLINE_ROLES:
            raise
        message, *names = BUNDLE_MESSAGES[type(error)]
        given = {"name": error.values.get("role"), "days": grace.days, **error.values}
        values: dict[str, Any] = {name: given[name] for name in names}
        raise UpdaterError(message, detail=error.detail_text, **values) from error


class StoredMetadataFetcher(LocalFetcher):
    """A fetcher that serves the client's own stored metadata, for use without a network.

    Args:
        metadata_directory: Directory where the client stores its metadata.
    """

    def __init__(self, metadata_directory: Path) -> None:
        self._directory = metadata_directory

    def _get_stored_path(self, name: str) -> Path:
        _, found, file_name = name.rpartition("metadata/")
        if file_name.endswith(".root.json"):
            root = self._directory / ROOT_HISTORY / file_name
            if not root.is_file():
                raise FeedFileMissingError(name)
            return root
        role = file_name.removesuffix(".json").rpartition(".")[2]
        path = self._directory / f"{role}.json"
        if not found or not path.is_file():
            raise NotImportedError(name=name.rpartition("targets/")[2])
        return path

    def get_length(self, name: str) -> int:
        """Return the length of a stored metadata file in bytes.

        Raises:
            FeedFileMissingError: If a root is not stored: the root chain ends there.
            NotImportedError: If the file is not stored.
        """
        return self._get_stored_path(name).stat().st_size

    def read_blocks(self, name: str, offset: int) -> Iterator[bytes]:
        """Yield the bytes of a stored metadata file from ``offset``."""
        yield read_file(self._get_stored_path(name), MAX_METADATA_BYTES)[offset:]
