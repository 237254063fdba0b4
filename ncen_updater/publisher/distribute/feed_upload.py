"""Copy a published feed to a storage, so that clients always see the old or the new feed.

The directory that ``publish`` writes remains the original; a storage is a copy: a directory or an
S3-compatible object store. A storage knows names and bytes only. Files are written in the order of
:mod:`.publishing` and read back; nothing is ever deleted. An interrupted upload is completed by the
same call: targets of the right size are skipped, and metadata, which is small, is compared byte by
byte. Each write is atomic: object stores guarantee that for a single object, and files in a
directory are replaced by a rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Timestamp  # type: ignore[attr-defined]

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    FEED_BROKEN,
    OTHER_FEED,
    STORAGE_AHEAD,
    STORAGE_DIFFERS,
    STORAGE_FAILED,
    STORAGE_INVALID,
    STORAGE_NO_CREDENTIALS,
)
from ncen_updater.common.progress import Amount, ProgressListener
from ncen_updater.formats.target_names import ROOT_VERSION_FIELD
from ncen_updater.formats.tree import hash_file
from ncen_updater.publisher.errors import describe_system_error, report_errors
from ncen_updater.publisher.feed.feed_directory import (
    FeedDirectory,
    FeedState,
    must_write_root_last,
)

BLOCK = 1 << 20
TIMESTAMP = "metadata/timestamp.json"
METADATA = re.compile(r"metadata/(?P<version>[1-9][0-9]*)\.(?P<role>[a-z][a-z0-9-]*)\.json")
#: The timestamp is the only mutable file of a feed; caches must revalidate it.
MUTABLE_CACHE_CONTROL = "no-cache, max-age=60"
IMMUTABLE_CACHE_CONTROL = "public, max-age=31536000, immutable"


def get_cache_control(name: str) -> str:
    """Return the Cache-Control header for an object of a feed or of a package repository."""
    index = name.startswith("dists/") and "/by-hash/" not in name
    keyring = name.endswith(".deb") and "/" not in name
    mutable = index or keyring or name == "metadata/timestamp.json"
    return MUTABLE_CACHE_CONTROL if mutable else IMMUTABLE_CACHE_CONTROL


class FeedStorage(Protocol):
    """A storage for a copy of the feed. Names are relative, with slashes."""

    @property
    def name(self) -> str:
        """Return the name for display."""

    def list_sizes(self) -> Mapping[str, int]:
        """Return the sizes of all objects, by name."""

    def read_object(self, name: str) -> bytes:
        """Return the content of a small object."""

    def compute_sha256(self, name: str) -> str:
        """Return the digest of an object, read back from the storage."""

    def write_object(self, name: str, source: Path) -> None:
        """Write or replace an object atomically."""


class DirectoryStorage:
    """A directory, for example one that another machine mounts.

    Args:
        directory: The directory; created if missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.name = str(directory)

    def list_sizes(self) -> Mapping[str, int]:
        """Return the sizes of all files, without unfinished ones."""
        with self._map_errors():
            return {
                path.relative_to(self._directory).as_posix(): path.stat().st_size
                for path in self._directory.rglob("*")
                if path.is_file() and not path.name.startswith(".")
            }

    def read_object(self, name: str) -> bytes:
        """Return the content of a small file."""
        with self._map_errors():
            return (self._directory / name).read_bytes()

    def compute_sha256(self, name: str) -> str:
        """Return the digest of a file."""
        with self._map_errors(), (self._directory / name).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def write_object(self, name: str, source: Path) -> None:
        """Write or replace a file."""
        path = self._directory / name
        with self._map_errors():
            durable.make_directory(path.parent)
            with source.open("rb") as reader, durable.open_for_replace(path) as stream:
                shutil.copyfileobj(reader, stream, BLOCK)

    @contextlib.contextmanager
    def _map_errors(self) -> Iterator[None]:
        with report_errors(STORAGE_FAILED, OSError, place=self.name):
            yield


class ObjectStorage:
    """An S3 bucket, or a prefix in one, accessed with s3fs.

    Credentials come from the usual AWS sources (environment, ``~/.aws``, the machine's role), never
    from the command line.

    Args:
        url: ``s3://BUCKET/PREFIX``.
        endpoint: Address of an object store other than Amazon's.

    Raises:
        STORAGE_INVALID: If the URL has no bucket, or s3fs is not installed.
    """

    def __init__(self, url: str, endpoint: str | None = None) -> None:
        self.name = url
        self._root = url.removeprefix("s3://").strip("/")
        if not self._root:
            raise UpdaterError(STORAGE_INVALID, place=url)
        with report_errors(STORAGE_INVALID, ImportError, place=url):
            from botocore.exceptions import (
                BotoCoreError,
                ClientError,
                NoCredentialsError,
                PartialCredentialsError,
            )
            from s3fs import S3FileSystem
        self._errors = (OSError, BotoCoreError, ClientError)
        self._no_credentials = (NoCredentialsError, PartialCredentialsError)
        # Do not cache listings: another machine may have written objects just now.
        self._store: Any = S3FileSystem(
            endpoint_url=endpoint, use_listings_cache=False, skip_instance_cache=True
        )

    def list_sizes(self) -> Mapping[str, int]:
        """Return the sizes of all objects below the prefix."""
        with self._map_errors():
            found = self._store.find(self._root, detail=True)
        return {
            path.removeprefix(f"{self._root}/"): int(info["size"]) for path, info in found.items()
        }

    def read_object(self, name: str) -> bytes:
        """Return the content of a small object."""
        with self._map_errors():
            return bytes(self._store.cat_file(f"{self._root}/{name}"))

    def compute_sha256(self, name: str) -> str:
        """Return the digest of an object, downloaded in blocks."""
        digest = hashlib.sha256()
        with self._map_errors(), self._store.open(f"{self._root}/{name}", "rb", BLOCK) as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
        return digest.hexdigest()

    def write_object(self, name: str, source: Path) -> None:
        """Write or replace an object; large ones as one multipart upload."""
        kind = "application/json" if name.endswith(".json") else "application/octet-stream"
        with self._map_errors():
            self._store.put_file(
                str(source),
                f"{self._root}/{name}",
                CacheControl=get_cache_control(name),
                ContentType=kind,
            )

    @contextlib.contextmanager
    def _map_errors(self) -> Iterator[None]:
        try:
            yield
        except self._no_credentials as error:
            raise UpdaterError(STORAGE_NO_CREDENTIALS, place=self.name) from error
        except self._errors as error:
            raise UpdaterError(
                STORAGE_FAILED, place=self.name, detail=describe_system_error(error)
            ) from error


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def open_storage(address: str, endpoint: str | None = None) -> FeedStorage:
    """Open a storage by its address: a path, or ``s3://BUCKET/PREFIX``.

    Raises:
        STORAGE_INVALID: If it is neither.
    """
    if address.startswith("s3://"):
        return ObjectStorage(address, endpoint)
    # A word with a colon is a mistyped URL: "s3:/bucket" would be a local directory.
    if not address or _SCHEME.match(address):
        raise UpdaterError(STORAGE_INVALID, place=address)
    return DirectoryStorage(Path(address))


@dataclass(frozen=True)
class UploadReport:
    """Result of an upload.

    Attributes:
        written: Names of the written files, in order.
        unchanged: Number of files that were already there.
        timestamp: Version of the timestamp that clients now get.
    """

    written: tuple[str, ...]
    unchanged: int
    timestamp: int


def sort_for_upload(names: Iterable[str], *, root_last: bool) -> list[str]:
    """Sort names in the order in which they may be written, without foreign files. Pure.

    Args:
        names: Paths relative to the feed.
        root_last: Whether the timestamp is written before new roots, see :func:`upload_feed`.
    """
    ranks = {"targets": 2, "snapshot": 3, "root": 6 if root_last else 4}

    def rank(name: str) -> tuple[int, int, str] | None:
        if name == TIMESTAMP:
            return (5, 0, name)
        if name.startswith("targets/"):
            return (0, 0, name)
        found = METADATA.fullmatch(name)
        if found is None or found["role"] == "timestamp":
            return None
        return (ranks.get(found["role"], 1), int(found["version"]), name)

    ranked = [(place, name) for name in names if (place := rank(name)) is not None]
    return [name for _, name in sorted(ranked)]


def upload_feed(
    feed: FeedDirectory,
    storage: FeedStorage,
    progress: ProgressListener,
    accept_interruption: bool = False,
) -> UploadReport:
    """Copy the feed to a storage.

    Args:
        feed: The published feed, which is verified first.
        storage: The storage.
        progress: Receives the name of each file.
        accept_interruption: Whether to continue even if a change of keys makes a request of a
            client between two writes fail once.

    Raises:
        FEED_BROKEN, FEED_BUSY: If the feed is incomplete, or being published to.
        OTHER_FEED, STORAGE_AHEAD: If the storage has files that must not be overwritten.
        KEY_CHANGE_NOT_ATOMIC: If there is no safe order of writes.
        STORAGE_FAILED, STORAGE_DIFFERS: If writing fails, or a file read back differs.
    """
    with feed.lock():
        state = feed.read_state()
        if state.timestamp is None:
            raise UpdaterError(FEED_BROKEN, path=feed.directory, reason="no timestamp")
        local = {
            path.relative_to(feed.directory).as_posix(): path
            for path in feed.directory.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        }
        sizes = storage.list_sizes()
        served = _read_served_state(feed, state, storage, sizes)
        root_last = must_write_root_last(
            served,
            state,
            accept=accept_interruption,
            names_missing_root=_names_missing_root(state, sizes),
        )
        written: list[str] = []
        order = sort_for_upload(local, root_last=root_last)
        uploaded = {name for name in order if _is_uploaded(local[name], name, storage, sizes)}
        for number, name in enumerate(order):
            if name in uploaded:
                continue
            uploading = LazyText(N_("uploading {name}"), {"name": name})
            progress.report(uploading, Amount(number, len(order)))
            storage.write_object(name, local[name])
            if storage.compute_sha256(name) != hash_file(local[name]):
                raise UpdaterError(STORAGE_DIFFERS, name=name, place=storage.name)
            written.append(name)
        return UploadReport(tuple(written), len(uploaded), state.timestamp.signed.version)


def _is_uploaded(path: Path, name: str, place: FeedStorage, there: Mapping[str, int]) -> bool:
    """Return whether an object is already there; refuse metadata that differs from ours."""
    if name.startswith("targets/"):
        return there.get(name) == path.stat().st_size
    if name not in there:
        return False
    content, mine = place.read_object(name), path.read_bytes()
    if content != mine and name != TIMESTAMP:
        try:
            other = Metadata.from_bytes(content).signed
        except RepositoryError:
            return False  # damaged in transfer; rewritten
        if other != Metadata.from_bytes(mine).signed:
            raise UpdaterError(STORAGE_AHEAD, place=place.name, name=name)
    return content == mine


def _read_served_state(
    feed: FeedDirectory, state: FeedState, place: FeedStorage, there: Mapping[str, int]
) -> FeedState | None:
    """Return the state that clients of the storage see; None before the first copy.

    It is read from our own files.
    """
    first = "metadata/1.root.json"
    if first in there and place.read_object(first) != (feed.directory / first).read_bytes():
        raise UpdaterError(OTHER_FEED, place=place.name, feed=feed.directory)
    newest = max((n for n in map(_parse_root_version, there) if n), default=0)
    roots = feed.read_roots()
    if newest > len(roots):
        raise UpdaterError(STORAGE_AHEAD, place=place.name, name=f"metadata/{newest}.root.json")
    if TIMESTAMP not in there:
        return None
    content = place.read_object(TIMESTAMP)
    mine = state.timestamp
    with report_errors(STORAGE_AHEAD, RepositoryError, place=place.name, name=TIMESTAMP):
        timestamp: Metadata[Timestamp] = Metadata.from_bytes(content)
        version = timestamp.signed.version
    if mine is None or (version >= mine.signed.version and timestamp.signed != mine.signed):
        raise UpdaterError(STORAGE_AHEAD, place=place.name, name=TIMESTAMP)
    # Metadata of another role names no snapshot.
    with report_errors(
        STORAGE_AHEAD, UpdaterError, AttributeError, place=place.name, name=TIMESTAMP
    ):
        return feed.assemble_state(tuple(roots[: max(newest, 1)]), timestamp)


def _parse_root_version(name: str) -> int:
    found = METADATA.fullmatch(name)
    return int(found["version"]) if found and found["role"] == "root" else 0


def _names_missing_root(state: FeedState, there: Mapping[str, int]) -> bool:
    """Tell whether the timestamp names a root that is not there yet."""
    named = (
        state.timestamp.signed.unrecognized_fields.get(ROOT_VERSION_FIELD) if state.timestamp else 0
    )
    return isinstance(named, int) and f"metadata/{named}.root.json" not in there
