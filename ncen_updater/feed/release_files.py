"""Files of a downloaded release: the record of its verified document, and its signed tree."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import (
    FileTooLargeError,
    NotRegularFileError,
    open_file,
    parse_json,
    read_file,
)
from ncen_updater.common.directory_handle import DirectoryHandle
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import JsonRecord, compute_sha256
from ncen_updater.common.messages import LOCAL_STORE_FAILED, TREE_MISMATCH
from ncen_updater.feed.errors import TrustError
from ncen_updater.feed.resumable_download import ExpectedFile
from ncen_updater.formats.release_document import ReleaseDocument
from ncen_updater.formats.tree import MAX_TREE_BYTES, Tree, parse_tree

logger = logging.getLogger(__name__)

MAX_RECORD_BYTES = 10_000
DOCUMENT_NAME, RECORD_NAME = "release.json", "verified.json"


@dataclass(frozen=True)
class _DocumentRecord(JsonRecord):
    """Signed length and SHA-256 of a release document."""

    length: int
    sha256: str


def write_document_record(directory: Path, length: int, sha256: str) -> None:
    """Store the signed length and digest of a release document."""
    record = _DocumentRecord(length, sha256)
    durable.write_file(directory / RECORD_NAME, json.dumps(record.to_json()).encode())


def read_document_record(directory: Path) -> ExpectedFile | None:
    """Return the signed length and digest of a release document; None without a usable record.

    Raises:
        LOCAL_STORE_FAILED: If the file exists but cannot be read.
    """
    try:
        record = _DocumentRecord.from_json(
            parse_json(read_file(directory / RECORD_NAME, MAX_RECORD_BYTES))
        )
        return ExpectedFile(DOCUMENT_NAME, record.length, record.sha256)
    except FileNotFoundError:
        return None
    except (ValueError, NotRegularFileError, FileTooLargeError) as error:
        logger.warning("%s is damaged; the release will be downloaded again: %s", directory, error)
        return None
    except OSError as error:
        raise TrustError(LOCAL_STORE_FAILED, detail=str(error)) from error


@contextlib.contextmanager
def open_download_directory(directory: Path) -> Iterator[tuple[DirectoryHandle, str]]:
    """Open the feed-reading process's state directory to change the downloads of a release.

    The directory belongs to the user that reads the feed, and the caller may run as root. So the
    names in it are not trusted and no symbolic link is followed.

    Args:
        directory: Directory of the release, ``downloads/<product>/<version>`` in the state
            directory.

    Yields:
        A handle of the state directory, and the path of the release in it.

    Raises:
        LOCAL_STORE_FAILED: If the path is not a plain directory, or the disk fails.
    """
    root = directory.parents[2]
    try:
        with DirectoryHandle(root.resolve()) as handle:
            yield handle, directory.relative_to(root).as_posix()
    except OSError as error:
        raise TrustError(LOCAL_STORE_FAILED, detail=str(error)) from error


def discard_release(directory: Path) -> None:
    """Delete all downloaded files of a release, if there are any.

    Raises:
        LOCAL_STORE_FAILED: If the path is not a plain directory, or the disk fails.
    """
    if not directory.parents[2].exists():
        return
    with (
        open_download_directory(directory) as (handle, name),
        contextlib.suppress(FileNotFoundError),
    ):
        with contextlib.suppress(FileNotFoundError):
            handle.remove_file(f"{name}/{RECORD_NAME}")  # first: without the record no file is used
        handle.remove_tree(name)


def read_tree(document: ReleaseDocument, path: Path) -> Tree:
    """Decompress and verify the tree of a release document.

    Raises:
        TREE_MISMATCH: If its digest or length differs from the document.
        TreeError: If it contains entries that a release may not have.
    """
    version = document.manifest.version
    content = _decompress_tree(path, document.tree_bytes, version)
    if compute_sha256(content) != document.tree_digest:
        raise TrustError(TREE_MISMATCH, version=version, detail="digest mismatch")
    tree = parse_tree(content, document.tree.target)
    if tree.total_bytes != document.unpacked_bytes:
        raise TrustError(TREE_MISMATCH, version=version, detail="length mismatch")
    return tree


def _decompress_tree(path: Path, length: int, version: str) -> bytes:
    """Return exactly ``length`` decompressed bytes; refuse a longer tree without reading it."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    if length > MAX_TREE_BYTES:
        raise TrustError(
            TREE_MISMATCH,
            version=version,
            detail=LazyText(
                "{length} bytes, more than {limit}",
                {"length": length, "limit": MAX_TREE_BYTES},
            ),
        )
    try:
        with open_file(path) as packed, zstd.open(packed, "rb") as stream:
            content = stream.read(length + 1)
    except (zstd.ZstdError, EOFError, NotRegularFileError) as error:
        raise TrustError(TREE_MISMATCH, version=version, detail=str(error)) from error
    if len(content) != length:
        raise TrustError(TREE_MISMATCH, version=version, detail="length mismatch")
    return bytes(content)
