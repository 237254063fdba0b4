"""Large files over a real connection that breaks, lies, and knows no ranges."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ncen_updater.common.errors import InsufficientSpaceError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import ExitCode
from ncen_updater.common.progress import Amount, SilentProgress, Unit
from ncen_updater.feed.fetching import FEED_SCHEME
from ncen_updater.feed.http_fetcher import HttpFetcher
from ncen_updater.feed.resumable_download import (
    ConnectionLostError,
    DownloadStream,
    ExpectedFile,
    download_file,
    is_complete,
)
from ncen_updater.formats.errors import DownloadDamagedError
from tests.badinput.hostile import NO_FILES, bounded
from tests.support.http_server import Fault, WebServer, serving

CONTENT = random.Random(7).randbytes(400_000)
WANTED = ExpectedFile("big", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebServer]:
    served = tmp_path / "served"
    served.mkdir()
    (served / "big").write_bytes(CONTENT)
    with serving(served) as server:
        yield server


@pytest.fixture
def opener(server: WebServer) -> Iterator[Callable[[int], DownloadStream]]:
    fetcher = HttpFetcher((server.url,), timeout_s=5, attempts=1, sleep=lambda _: None)
    yield lambda offset: fetcher.open_stream(f"{FEED_SCHEME}big", offset)
    fetcher.close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "site" / "big"


def _left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_file_is_downloaded_without_leftovers(
    opener: Callable[[int], DownloadStream], target: Path, server: WebServer
) -> None:
    told: list[tuple[int | None, int | None]] = []

    class Listener:
        def report(self, text: LazyText, amount: Amount | None = None) -> None:
            assert amount and (text.render(), amount.unit) == ("downloading big", Unit.BYTES)
            told.append((amount.done, amount.total))

    download_file(opener, target, WANTED, Listener())
    assert target.read_bytes() == CONTENT
    assert _left(target) == ["big"]
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted(done or 0 for done, _ in told)
    asked = len(server.requests)
    download_file(opener, target, WANTED, SilentProgress())
    assert len(server.requests) == asked, "a whole file is not fetched again"


def test_broken_download_resumes(
    opener: Callable[[int], DownloadStream], target: Path, server: WebServer
) -> None:
    server.faults = [Fault("big", cut_after=150_000, times=2)]
    download_file(opener, target, WANTED, SilentProgress())
    assert target.read_bytes() == CONTENT
    assert [r.range for r in server.requests] == [None, "bytes=150000-", "bytes=300000-"]


def test_stalled_download_is_abandoned_and_kept(
    opener: Callable[[int], DownloadStream], target: Path, server: WebServer
) -> None:
    server.faults = [Fault("big", cut_after=100_000, times=1), Fault("big", cut_after=0)]
    with pytest.raises(ConnectionLostError):
        download_file(opener, target, WANTED, SilentProgress())
    assert len(server.requests) == 4
    assert _left(target) == [".big.partial", ".big.partial.json"]
    server.faults.clear()
    server.requests.clear()
    download_file(opener, target, WANTED, SilentProgress())
    assert [r.range for r in server.requests] == ["bytes=100000-"]
    assert _left(target) == ["big"]


def test_download_restarts_where_ranges_are_unsupported(
    opener: Callable[[int], DownloadStream], target: Path, server: WebServer
) -> None:
    server.ranges = False
    server.faults = [Fault("big", cut_after=150_000, times=1)]
    download_file(opener, target, WANTED, SilentProgress())
    assert target.read_bytes() == CONTENT


def test_download_restarts_where_the_file_changed(
    opener: Callable[[int], DownloadStream], target: Path, server: WebServer
) -> None:
    server.faults = [
        Fault("big", cut_after=150_000, times=1, etag='"old"'),
        Fault("big", etag='"new"'),
    ]
    download_file(opener, target, WANTED, SilentProgress())
    assert target.read_bytes() == CONTENT
    assert [r.range for r in server.requests] == [None, "bytes=150000-", None]


def test_wrong_bytes_twice_are_refused_and_removed(
    opener: Callable[[int], DownloadStream], target: Path, server: WebServer
) -> None:
    server.faults = [Fault("big", body=b"!" * len(CONTENT))]
    with pytest.raises(DownloadDamagedError) as caught:
        download_file(opener, target, WANTED, SilentProgress())
    assert caught.value.exit_code is ExitCode.TRUST
    assert len(server.requests) == 2
    assert _left(target) == []


def test_bytes_beyond_the_signed_length_are_not_read(
    opener: Callable[[int], DownloadStream], target: Path, server: WebServer
) -> None:
    server.faults = [Fault("big", endless=True)]
    with pytest.raises(DownloadDamagedError):
        download_file(opener, target, WANTED, SilentProgress())
    assert _left(target) == []


@pytest.mark.parametrize("damage", ["tail", "too long", "other", "note", "link"])
def test_damaged_partial_file_only_costs_a_restart(
    opener: Callable[[int], DownloadStream], target: Path, server: WebServer, damage: str
) -> None:
    server.faults = [Fault("big", cut_after=100_000, times=1), Fault("big", cut_after=0)]
    with pytest.raises(ConnectionLostError):
        download_file(opener, target, WANTED, SilentProgress())
    server.faults.clear()
    partial, note = target.with_name(".big.partial"), target.with_name(".big.partial.json")
    outside = target.parent.parent / "outside"
    outside.write_bytes(b"mine")
    if damage == "tail":
        partial.write_bytes(CONTENT[:90_000] + bytes(10_000))
    elif damage == "too long":
        partial.write_bytes(CONTENT + b"more")
    elif damage == "other":
        note.write_text(json.dumps({**json.loads(note.read_text()), "sha256": "0" * 64}))
    elif damage == "note":
        note.write_text("{")
    else:
        partial.unlink()
        partial.symlink_to(outside)
    download_file(opener, target, WANTED, SilentProgress())
    assert target.read_bytes() == CONTENT
    assert outside.read_bytes() == b"mine"
    assert _left(target) == ["big"]


def test_space_is_checked_before_the_request(
    opener: Callable[[int], DownloadStream], target: Path, server: WebServer
) -> None:
    with pytest.raises(InsufficientSpaceError) as caught:
        download_file(opener, target, ExpectedFile("big", 1 << 60, "0" * 64), SilentProgress())
    assert caught.value.exit_code is ExitCode.SPACE
    figures = caught.value.values
    assert isinstance(figures["needed_bytes"], int)
    assert isinstance(figures["free_bytes"], int)
    assert figures["missing_bytes"] == figures["needed_bytes"] - figures["free_bytes"]
    assert server.requests == []


def test_killed_download_resumes(target: Path, server: WebServer) -> None:
    """SIGKILL in the middle: the next process continues with the bytes that are there."""
    server.faults = [Fault("big", drip=0.0005, times=1)]
    code = (
        "import sys, pathlib\n"
        "from ncen_updater.feed.resumable_download import download_file\n"
        "from ncen_updater.feed.resumable_download import ExpectedFile\n"
        "from ncen_updater.feed.http_fetcher import HttpFetcher\n"
        "fetcher = HttpFetcher((sys.argv[1],), minimum_bytes_per_s=1)\n"
        "class Told:\n"
        "    def report(self, what, amount=None):\n"
        "        if amount.done > 2000: print('going', flush=True)\n"
        "download_file(lambda o: fetcher.open_stream('ncen-feed:/big', o), "
        "pathlib.Path(sys.argv[2]),\n"
        "         ExpectedFile('big', int(sys.argv[3]), sys.argv[4]), Told())\n"
    )
    argv = [sys.executable, "-c", code, server.url, str(target), str(WANTED.length), WANTED.digest]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"going\n"
        process.kill()
    assert process.returncode == -9
    assert not target.exists()
    fetcher = HttpFetcher((server.url,), timeout_s=5)
    download_file(
        lambda o: fetcher.open_stream(f"{FEED_SCHEME}big", o), target, WANTED, SilentProgress()
    )
    fetcher.close()
    assert target.read_bytes() == CONTENT
    assert _left(target) == ["big"]


def test_complete_means_length_and_digest(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert not is_complete(path, WANTED)
    path.write_bytes(CONTENT)
    assert is_complete(path, WANTED)
    path.write_bytes(CONTENT[:-1])
    assert not is_complete(path, WANTED)
    path.write_bytes(CONTENT[:-1] + b"?")
    assert not is_complete(path, WANTED)
    (tmp_path / "link").symlink_to(path)
    path.write_bytes(CONTENT)
    assert not is_complete(tmp_path / "link", WANTED)


@pytest.mark.parametrize("kind", NO_FILES)
def test_special_file_is_neither_complete_nor_awaited(tmp_path: Path, kind: str) -> None:
    NO_FILES[kind](tmp_path / "x")
    with bounded(60):
        assert not is_complete(
            tmp_path / "x", ExpectedFile("x", 0, hashlib.sha256(b"").hexdigest())
        )


def test_growing_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a" * 10)
    with path.open("ab") as more:

        class Growing(io.BufferedReader):
            def read(self, size: int | None = -1) -> bytes:
                more.write(b"a" * 10)
                more.flush()
                assert size is not None
                assert 0 < size <= 10
                return super().read(size)

        monkeypatch.setattr(os, "fdopen", lambda fd, _: Growing(io.FileIO(fd)))
        assert is_complete(path, ExpectedFile("x", 10, hashlib.sha256(b"a" * 10).hexdigest()))
    assert path.stat().st_size == 20, "read once"


def test_server_that_restarts_every_time_is_abandoned(target: Path) -> None:
    """Two connections bring a part, the third begins again: it would never end."""
    asked: list[int] = []

    def opener(offset: int) -> DownloadStream:
        asked.append(offset)
        assert len(asked) < 50, "it goes on for ever"
        start = 0 if len(asked) % 2 else offset

        def chunks() -> Iterator[bytes]:
            yield CONTENT[start : start + 100_000]
            raise ConnectionLostError("cut")

        return DownloadStream(start, chunks(), "one", None, lambda: None)

    with pytest.raises(ConnectionLostError):
        download_file(opener, target, WANTED, SilentProgress())
    assert len(asked) < 10


def test_other_supported_digests_are_verified(target: Path) -> None:
    def opener(offset: int) -> DownloadStream:
        return DownloadStream(offset, iter([CONTENT[offset:]]), "one", None, lambda: None)

    right, wrong = hashlib.sha512(CONTENT).hexdigest(), hashlib.sha512(b"").hexdigest()
    with pytest.raises(DownloadDamagedError):
        download_file(
            opener,
            target,
            ExpectedFile("big", len(CONTENT), wrong, algorithm="sha512"),
            SilentProgress(),
        )
    download_file(
        opener,
        target,
        ExpectedFile("big", len(CONTENT), right, algorithm="sha512"),
        SilentProgress(),
    )
    assert target.read_bytes() == CONTENT
