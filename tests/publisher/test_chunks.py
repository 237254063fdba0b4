"""Tests of chunk digests of an archive: made by the publisher, used between two mirrors."""

from __future__ import annotations

import hashlib
import random
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from demo.release_flow import publish_release
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.http_fetcher import HttpFetcher
from ncen_updater.feed.tuf_source import TufReleaseSource
from ncen_updater.formats.errors import ReleaseDocumentError
from ncen_updater.formats.release_document import compute_chunk_bytes, parse_release_document
from ncen_updater.publisher.build.release_build import compute_chunk_digests
from ncen_updater.publisher.new.trial import create_feed, create_keys
from tests.publisher.releases import PASSPHRASE, write_release
from tests.support.http_server import serving

MIB = 1 << 20


@pytest.mark.parametrize(
    ("length", "size"),
    [
        (0, 4 * MIB),
        (4 * MIB, 4 * MIB),
        (128 * MIB, 4 * MIB),
        (128 * MIB + 1, 8 * MIB),
        (1 << 30, 32 * MIB),
        (10**10, 512 * MIB),
    ],
)
def test_chunk_count_and_size_are_bounded(length: int, size: int) -> None:
    assert compute_chunk_bytes(length) == size
    assert -(-length // size) <= 32


def test_only_large_files_are_chunked(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(4 * MIB))
    assert compute_chunk_digests(path, 4 * MIB) is None
    content = random.Random(1).randbytes(9 * MIB + 5)
    path.write_bytes(content)
    found = compute_chunk_digests(path, len(content))
    assert found is not None
    assert found.size == 4 * MIB
    assert list(found.sha256) == [
        hashlib.sha256(content[start : start + 4 * MIB]).hexdigest()
        for start in range(0, len(content), 4 * MIB)
    ]


def test_wrong_byte_of_a_mirror_costs_one_chunk(tmp_path: Path) -> None:
    feed, keys = tmp_path / "feed", create_keys(tmp_path / "keys", PASSPHRASE)
    feed.mkdir()
    source = write_release(tmp_path / "release", "3.3.0")
    (source / "large.bin").write_bytes(random.Random(2).randbytes(9 * MIB))
    create_feed(feed, keys, lambda: datetime.now(UTC))
    publish_release(feed, [source], keys, lambda: datetime.now(UTC))
    bad = tmp_path / "bad"
    shutil.copytree(feed, bad)
    (archive,) = (bad / "targets").glob("*.tar.gz")
    with archive.open("r+b") as stream:
        stream.seek(5 * MIB)
        byte = stream.read(1)[0]
        stream.seek(5 * MIB)
        stream.write(bytes([byte ^ 1]))
    with serving(bad) as one, serving(feed) as two:
        site = TufReleaseSource(
            "ncen",
            state=tmp_path / "state",
            trusted_root=feed / "metadata" / "1.root.json",
            make_fetcher=lambda: HttpFetcher((one.url, two.url), sleep=lambda _: None),
        )
        release = site.download_release(site.refresh().offers[0], SilentProgress())
        site.close()
    asked = [[r.range for r in s.requests if r.path.endswith(".tar.gz")] for s in (one, two)]
    assert asked == [[None], [f"bytes={4 * MIB}-"]]
    content = release.document.to_canonical_json()
    short = content.replace(release.document.archive_chunks.sha256[0].encode(), b"")  # type: ignore[union-attr]
    for wrong in (short.replace(b'"",', b""), content.replace(b'"size":4194304', b'"size":1')):
        assert wrong != content
        with pytest.raises(ReleaseDocumentError):
            parse_release_document(wrong, "x")
