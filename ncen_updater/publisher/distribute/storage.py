"""Where a copy of the feed may be served from: a directory, or an S3-compatible object store.

A place knows names, bytes and nothing of feeds. Each write leaves the old object or the new one,
whole; stores promise that of a single object, and directories are written through ``durable``.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import PLACE_FAILED, PLACE_INVALID, PLACE_NO_CREDENTIALS
from ncen_updater.publisher.errors import system_words

BLOCK = 1 << 20
#: The timestamp is the one file that changes under its name; caches must ask for it each time.
CHANGING = "no-cache, max-age=60"
FIXED = "public, max-age=31536000, immutable"


def cache_control(name: str) -> str:
    """How long caches on the way may keep an object."""
    return CHANGING if name == "metadata/timestamp.json" else FIXED


class Place(Protocol):
    """Somewhere to copy to. Names are relative, with slashes."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    def sizes(self) -> Mapping[str, int]:
        """Bytes of every object, by its name."""

    def get(self, name: str) -> bytes:
        """A small object, whole."""

    def sha256(self, name: str) -> str:
        """Digest of an object, read back from where it lies."""

    def put(self, name: str, source: Path) -> None:
        """Write or replace an object, in one step."""


class DirectoryPlace:
    """A directory, for example one that another machine mounts.

    Args:
        directory: Made if it is not there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.name = str(directory)

    def sizes(self) -> Mapping[str, int]:
        """Bytes of every file; unfinished ones are left out."""
        with self._failures():
            return {
                path.relative_to(self._directory).as_posix(): path.stat().st_size
                for path in self._directory.rglob("*")
                if path.is_file() and not path.name.startswith(".")
            }

    def get(self, name: str) -> bytes:
        """A small file, whole."""
        with self._failures():
            return (self._directory / name).read_bytes()

    def sha256(self, name: str) -> str:
        """Digest of a file."""
        with self._failures(), (self._directory / name).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def put(self, name: str, source: Path) -> None:
        """Write or replace a file."""
        path = self._directory / name
        with self._failures():
            durable.make_directory(path.parent)
            with source.open("rb") as reader, durable.writing(path) as stream:
                shutil.copyfileobj(reader, stream, BLOCK)

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UpdaterError(PLACE_FAILED, place=self.name, detail=system_words(error)) from error


class ObjectStore:
    """A bucket, or a part of one, through fsspec's s3fs.

    Credentials come from where AWS's tools look for them: variables, ``~/.aws``, or the machine's
    role; never from the command line.

    Args:
        url: ``s3://BUCKET/PREFIX``.
        endpoint: Address of a store that is not Amazon's.

    Raises:
        PlaceInvalid: If the address has no bucket or the library is not installed.
    """

    def __init__(self, url: str, endpoint: str | None = None) -> None:
        self.name = url
        self._root = url.removeprefix("s3://").strip("/")
        if not self._root:
            raise UpdaterError(PLACE_INVALID, place=url)
        try:
            from botocore.exceptions import (
                BotoCoreError,
                ClientError,
                NoCredentialsError,
                PartialCredentialsError,
            )
            from s3fs import S3FileSystem
        except ImportError as error:
            raise UpdaterError(PLACE_INVALID, place=url, detail=system_words(error)) from error
        self._errors = (OSError, BotoCoreError, ClientError)
        self._no_credentials = (NoCredentialsError, PartialCredentialsError)
        # What another machine wrote a second ago must be seen: no listing is remembered.
        self._store: Any = S3FileSystem(
            endpoint_url=endpoint, use_listings_cache=False, skip_instance_cache=True
        )

    def sizes(self) -> Mapping[str, int]:
        """Bytes of every object below the prefix."""
        with self._failures():
            found = self._store.find(self._root, detail=True)
        return {
            path.removeprefix(f"{self._root}/"): int(info["size"]) for path, info in found.items()
        }

    def get(self, name: str) -> bytes:
        """A small object, whole."""
        with self._failures():
            return bytes(self._store.cat_file(f"{self._root}/{name}"))

    def sha256(self, name: str) -> str:
        """Digest of an object, downloaded again in blocks."""
        digest = hashlib.sha256()
        with self._failures(), self._store.open(f"{self._root}/{name}", "rb", BLOCK) as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
        return digest.hexdigest()

    def put(self, name: str, source: Path) -> None:
        """Write or replace an object; large ones in parts that appear together."""
        kind = "application/json" if name.endswith(".json") else "application/octet-stream"
        with self._failures():
            self._store.put_file(
                str(source),
                f"{self._root}/{name}",
                CacheControl=cache_control(name),
                ContentType=kind,
            )

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except self._no_credentials as error:
            raise UpdaterError(PLACE_NO_CREDENTIALS, place=self.name) from error
        except self._errors as error:
            raise UpdaterError(PLACE_FAILED, place=self.name, detail=system_words(error)) from error


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def open_place(address: str, endpoint: str | None = None) -> Place:
    """Open a place by its address: a path, or ``s3://BUCKET/PREFIX``.

    Raises:
        PlaceInvalid: If it is neither.
    """
    if address.startswith("s3://"):
        return ObjectStore(address, endpoint)
    # A word with a colon is meant as an address: "s3:/bucket" would be a directory here.
    if not address or _SCHEME.match(address):
        raise UpdaterError(PLACE_INVALID, place=address)
    return DirectoryPlace(Path(address))
