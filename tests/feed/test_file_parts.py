"""Digests of parts: wrong bytes cost a part, on the line as on the disk."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.fetching import FEED_SCHEME
from ncen_updater.feed.http_fetcher import HttpFetcher
from ncen_updater.feed.resumable_download import (
    ChunkVerifier,
    ConnectionLostError,
    ExpectedFile,
    download_file,
)
from ncen_updater.formats.errors import DownloadDamagedError
from tests.support.http_server import Fault, WebServer, serving

SIZE = 100_000
CONTENT = random.Random(11).randbytes(350_000)


def wanted(content: bytes, size: int) -> ExpectedFile:
    parts = tuple(
        hashlib.sha256(content[start : start + size]).hexdigest()
        for start in range(0, len(content), size)
    )
    return ExpectedFile("big", len(content), hashlib.sha256(content).hexdigest(), size, parts)


def spoilt(start: int) -> bytes:
    """The content with one wrong byte."""
    return CONTENT[:start] + bytes([CONTENT[start] ^ 1]) + CONTENT[start + 1 :]


@given(
    content=st.binary(min_size=1, max_size=200),
    size=st.integers(1, 220),
    cuts=st.lists(st.integers(1, 50), min_size=1, max_size=20),
    wrong=st.integers(0, 199),
)
def test_first_wrong_chunk_is_found_however_bytes_arrive(
    content: bytes, size: int, cuts: list[int], wrong: int
) -> None:
    parts = ChunkVerifier(wanted(content, size))
    wrong %= len(content)
    bad = content[:wrong] + bytes([content[wrong] ^ 255]) + content[wrong + 1 :]
    refused = False
    turn = 0
    while parts.verified_bytes < len(content):
        step = cuts[turn % len(cuts)]
        turn += 1
        source = content if refused else bad
        before = parts.verified_bytes
        if not parts.verify(source[before : before + step]):
            assert not refused
            refused = True
            assert parts.verified_bytes == wrong // size * size
    assert refused
    assert parts.get_digest() == hashlib.sha256(content).hexdigest()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[WebServer, WebServer]]:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "big").write_bytes(CONTENT)
    with serving(tmp_path / "one") as one, serving(tmp_path / "two") as two:
        yield one, two


Fetch = Callable[[], None]


@pytest.fixture
def fetch(tmp_path: Path, served: tuple[WebServer, WebServer]) -> Iterator[Fetch]:
    urls = tuple(server.url for server in served)
    fetcher = HttpFetcher(urls, timeout_s=5, attempts=1, sleep=lambda _: None)
    yield lambda: download_file(
        lambda offset: fetcher.open_stream(f"{FEED_SCHEME}big", offset),
        tmp_path / "site/big",
        wanted(CONTENT, SIZE),
        SilentProgress(),
        mirror_count=fetcher.mirror_count,
        on_wrong_bytes=fetcher.demote_mirror,
    )
    fetcher.close()


def test_wrong_chunk_is_downloaded_again_from_the_next_address(
    tmp_path: Path, served: tuple[WebServer, WebServer], fetch: Fetch
) -> None:
    one, two = served
    (one.directory / "big").write_bytes(spoilt(250_000))
    fetch()
    assert (tmp_path / "site/big").read_bytes() == CONTENT
    assert [request.range for request in one.requests] == [None]
    assert [request.range for request in two.requests] == ["bytes=200000-"]


def test_chunk_wrong_everywhere_is_refused_and_valid_chunks_kept(
    tmp_path: Path, served: tuple[WebServer, WebServer], fetch: Fetch
) -> None:
    for server in served:
        (server.directory / "big").write_bytes(spoilt(250_000))
    with pytest.raises(DownloadDamagedError):
        fetch()
    ranges = [request.range for server in served for request in server.requests]
    assert sorted(map(str, ranges)) == ["None", "bytes=200000-", "bytes=200000-"]
    assert not (tmp_path / "site/big").exists()
    assert (tmp_path / "site/.big.partial").read_bytes() == CONTENT[:200_000]
    for server in served:
        (server.directory / "big").write_bytes(CONTENT)
        server.requests.clear()
    fetch()
    ranges = [request.range for server in served for request in server.requests]
    assert ranges == ["bytes=200000-"]


@pytest.mark.parametrize("damaged", [10, 120_000, 270_000])
def test_damaged_partial_file_blames_no_address(
    tmp_path: Path, served: tuple[WebServer, WebServer], fetch: Fetch, damaged: int
) -> None:
    one, two = served
    one.faults = [Fault("big", cut_after=280_000, times=1), Fault("big", cut_after=0)]
    two.faults = [Fault("big", cut_after=0)]
    with pytest.raises(ConnectionLostError):
        fetch()
    partial = tmp_path / "site/.big.partial"
    content = bytearray(partial.read_bytes())
    content[damaged] ^= 1
    partial.write_bytes(content)
    for server in served:
        server.faults.clear()
        server.requests.clear()
    fetch()
    assert (tmp_path / "site/big").read_bytes() == CONTENT
    asked = [request.range for server in served for request in server.requests]
    again: dict[int, list[str | None]] = {
        10: [None],
        120_000: ["bytes=100000-"],
        270_000: ["bytes=280000-", "bytes=200000-"],
    }
    assert sorted(map(str, asked)) == sorted(map(str, again[damaged]))
    assert [] in (one.requests, two.requests), "no address was put to the end for it"


def test_changed_entity_tag_does_not_discard_the_file(
    served: tuple[WebServer, WebServer], fetch: Fetch
) -> None:
    one, two = served
    one.faults = [Fault("big", cut_after=150_000, times=1, etag='"a"'), Fault("big", etag='"b"')]
    two.faults = [Fault("", status=404)]
    fetch()
    assert [request.range for request in one.requests] == [None, "bytes=150000-"]


def test_valid_chunks_do_not_excuse_a_wrong_digest(
    tmp_path: Path, served: tuple[WebServer, WebServer]
) -> None:
    """Both digests are signed; anyone who signs them differently is refused."""
    good = wanted(CONTENT, SIZE)
    wrong = ExpectedFile("big", good.length, "0" * 64, good.chunk_bytes, good.chunks)
    fetcher = HttpFetcher((served[0].url,), attempts=1)
    with pytest.raises(DownloadDamagedError):
        download_file(
            lambda offset: fetcher.open_stream(f"{FEED_SCHEME}big", offset),
            tmp_path / "big",
            wrong,
            SilentProgress(),
        )
    fetcher.close()
    assert list(tmp_path.glob("*big*")) == []
