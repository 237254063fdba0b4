"""Interface to the source of a feed's files: network, offline bundle or disk."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator
from datetime import datetime
from io import BytesIO
from typing import IO

from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient.fetcher import FetcherInterface

from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.feed.resumable_download import DownloadStream

#: Stands for the address of whatever is asked.
FEED_SCHEME = "ncen-feed:/"
HTTP_NOT_FOUND = 404


class FeedFileMissingError(DownloadHTTPError):
    """A file that is not there; where a next root is looked for, that is the end of the chain."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not there", HTTP_NOT_FOUND)


class FeedFetcher(FetcherInterface):
    """Brings files by their name in the feed.

    Attributes:
        server_date: What a server said of the time: a hint for words, never trusted.
    """

    server_date: datetime | None = None

    @property
    def mirror_count(self) -> int:
        """Return how many sources of the same feed there are."""
        return 1

    def demote_mirror(self) -> None:
        """Put the source that is tried first to the end."""
        return

    def close(self) -> None:
        """Give back what is held open."""
        return

    @abc.abstractmethod
    def open_stream(self, url: str, offset: int) -> DownloadStream:
        """Open a file from an offset."""


class LocalFetcher(FeedFetcher):
    """A fetcher over files that can be read at once; nothing is retried."""

    @abc.abstractmethod
    def get_length(self, name: str) -> int:
        """Bytes of a file.

        Raises:
            FeedFileMissingError: If it is not there.
        """

    @abc.abstractmethod
    def read_blocks(self, name: str, offset: int) -> Iterator[bytes]:
        """Yield the bytes of a file."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self.read_blocks(url.removeprefix(FEED_SCHEME), 0)

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return a small file whole."""
        name = url.removeprefix(FEED_SCHEME)
        length = self.get_length(name)
        if length > max_length:
            raise DownloadLengthMismatchError(
                LazyText(
                    N_("{name}: more than {limit_bytes}"), {"name": name, "limit_bytes": max_length}
                )
            )
        return b"".join(self.read_blocks(name, 0))

    @contextlib.contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """Yield a small file as a stream in memory."""
        yield BytesIO(self.download_bytes(url, max_length))

    def open_stream(self, url: str, offset: int) -> DownloadStream:
        """Open a file from an offset."""
        name = url.removeprefix(FEED_SCHEME)
        self.get_length(name)
        return DownloadStream(
            offset, self.read_blocks(name, offset), type(self).__name__, None, lambda: None
        )
