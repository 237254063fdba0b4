"""Interface to the source of a feed's files: network, offline bundle or disk."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator
from datetime import datetime

from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient.fetcher import FetcherInterface

from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.feed.resumable_download import DownloadStream

#: Placeholder base address; the fetcher replaces it by the address of a server or a file.
FEED_SCHEME = "ncen-feed:/"
HTTP_NOT_FOUND = 404


class FeedFileMissingError(DownloadHTTPError):
    """A file that does not exist; for the next root, this is the end of the root chain."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not there", HTTP_NOT_FOUND)


class FeedFetcher(FetcherInterface):
    """Base of fetchers: downloads files by their name in the feed.

    Attributes:
        server_date: Time in a server's ``Date`` header: for texts of errors only, never trusted.
    """

    server_date: datetime | None = None

    @property
    def mirror_count(self) -> int:
        """Return the number of sources of the same feed."""
        return 1

    def demote_mirror(self) -> None:
        """Move the current first source to the end of the list."""
        return

    def close(self) -> None:
        """Release open connections and files."""
        return

    @abc.abstractmethod
    def open_stream(self, url: str, offset: int) -> DownloadStream:
        """Open a file from an offset."""

    @abc.abstractmethod
    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return the whole content of a small file, without writing it to TMPDIR."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        with contextlib.closing(self.open_stream(url, 0)) as part:
            yield from part.chunks


class LocalFetcher(FeedFetcher):
    """A fetcher for files on disk, which never retries."""

    @abc.abstractmethod
    def get_length(self, name: str) -> int:
        """Return the length of a file in bytes.

        Raises:
            FeedFileMissingError: If the file does not exist.
        """

    @abc.abstractmethod
    def read_blocks(self, name: str, offset: int) -> Iterator[bytes]:
        """Yield the bytes of a file from an offset."""

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return the whole content of a small file."""
        name = url.removeprefix(FEED_SCHEME)
        length = self.get_length(name)
        if length > max_length:
            raise DownloadLengthMismatchError(
                LazyText(
                    N_("{name}: more than {limit_bytes}"), {"name": name, "limit_bytes": max_length}
                )
            )
        return b"".join(self.read_blocks(name, 0))

    def open_stream(self, url: str, offset: int) -> DownloadStream:
        """Open a file from an offset."""
        name = url.removeprefix(FEED_SCHEME)
        self.get_length(name)
        return DownloadStream(
            offset, self.read_blocks(name, offset), type(self).__name__, None, lambda: None
        )
