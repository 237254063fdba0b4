"""Tests of the feed reader as systemd starts it: one process for each connection."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.feed_reader.worker_source import (
    REQUEST_LIMITS,
    WorkerReleaseSource,
)
from ncen_updater.agent.config.loader import load_config
from ncen_updater.common.messages import READER_FAILED, READER_UNIT_UNREACHABLE
from ncen_updater.common.progress import SilentProgress
from ncen_updater.common.unix_http import connect_unix_socket
from ncen_updater.common.workers import Worker, WorkerLimits
from ncen_updater.feed.errors import FeedStatusError
from tests.support.activation import ACTIVATOR, activated
from tests.support.errors import refused
from tests.support.forks import DEADLINE_S
from tests.support.http_server import WebServer
from tests.support.tuf_repository import Feed

CONFIG = """
schema = 1
[site]
id = "ke"
country = "KE"
[feed]
urls = ["{url}"]
[databases]
engine = "sqlite"
[databases.names]
cases = "cases"
[databases.sqlite]
directory = "databases"
[application]
unit = "ncen.service"
health_url = "http://127.0.0.1:1"
maintenance_file = "door"
[paths]
root = "{root}"
state = "state"
feed_state = "received"
trusted_root = "root.json"
[service]
runner = "systemd"
fetch_socket = "fetch.sock"
"""
needs_activator = pytest.mark.skipif(
    ACTIVATOR is None, reason="systemd-socket-activate is not installed"
)


@pytest.fixture
def config(tmp_path: Path, feed: Feed, server: WebServer) -> Path:
    feed.trusted_root(tmp_path / "root.json")
    path = tmp_path / "agent.toml"
    path.write_text(CONFIG.format(url=server.url, root=tmp_path))
    return path


@pytest.fixture
def source(config: Path) -> WorkerReleaseSource:
    return WorkerReleaseSource(load_config(config), config)


@contextlib.contextmanager
def unit(config: Path, *words: str) -> Iterator[None]:
    worker = words or (
        sys.executable,
        "-I",
        "-m",
        "ncen_updater.agent.adapters.feed_reader.worker",
        str(config),
    )
    with activated(config.parent / "fetch.sock", worker, config.parent / "unit.log"):
        yield


@needs_activator
def test_release_is_listed_and_downloaded_through_the_unit(
    source: WorkerReleaseSource, config: Path
) -> None:
    with unit(config):
        offer = source.refresh().offers[0]
        release = source.download_release(offer, SilentProgress())
    assert release.tree.compute_digest() == release.document.tree_digest
    assert release.archive.is_relative_to(config.parent / "received")
    # Verified by each caller: the unit stores nothing there.
    left = {path.name for path in (config.parent / "state").iterdir()}
    assert left == {"trust-state.json", "trust-state.lock"}
    assert source.find_downloaded_release(offer) == release


@needs_activator
def test_feed_error_is_passed_unchanged(
    source: WorkerReleaseSource, config: Path, server: WebServer, feed: Feed
) -> None:
    (feed.directory / "metadata" / "timestamp.json").unlink()
    with unit(config), pytest.raises(FeedStatusError):
        source.refresh()


def test_missing_unit_is_reported(source: WorkerReleaseSource, config: Path) -> None:
    with refused(READER_UNIT_UNREACHABLE) as caught:
        source.refresh()
    assert caught.value.values == {"path": config.parent / "fetch.sock"}
    assert not (config.parent / "received").exists()


@needs_activator
@pytest.mark.parametrize(
    "words",
    [
        ("true",),
        ("sh", "-c", "echo nonsense"),
        ("sh", "-c", "kill -9 $$"),
        ("sh", "-c", """read order; echo '{"report": {}}'"""),
    ],
)
def test_failing_unit_is_reported(
    source: WorkerReleaseSource, config: Path, words: tuple[str, ...]
) -> None:
    with unit(config, *words), refused(READER_FAILED):
        source.refresh()


SILENT = [sys.executable, "-Sc", "import time; time.sleep(1000)"]


@needs_activator
@pytest.mark.parametrize("runner", ["systemd", "process"])
def test_silent_reader_does_not_block_the_agent(
    config: Path, runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(config.read_text().replace('"systemd"', f'"{runner}"'))
    monkeypatch.setitem(REQUEST_LIMITS, "refresh", WorkerLimits(silence_timeout_s=0.5))
    monkeypatch.setattr(Worker, "build_command", lambda _self: SILENT)
    with unit(config, *SILENT), refused(READER_FAILED) as caught:
        WorkerReleaseSource(load_config(config), config).refresh()
    assert caught.value.exit_code == 1


def _workers(config: Path) -> set[int]:
    found = set()
    for number in (int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()):
        with contextlib.suppress(OSError):
            words = (Path("/proc") / str(number) / "cmdline").read_bytes().split(b"\0")
            # The activator holds the same words behind its own.
            if (
                b"ncen_updater.agent.adapters.feed_reader.worker" in words
                and b"--accept" not in words
            ):
                found |= {number} if os.fsencode(config) in words else set()
    return found


def _wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # between two looks


@needs_activator
def test_unit_ends_with_its_caller(config: Path) -> None:
    """A download without a caller does not continue."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        accepted: list[socket.socket] = []
        threading.Thread(target=lambda: accepted.append(silent.accept()[0]), daemon=True).start()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        config.write_text(CONFIG.format(url=address, root=config.parent))
        with unit(config):
            order = b'{"product": "ncen", "act": "refresh"}\n'
            with connect_unix_socket(config.parent / "fetch.sock", 20) as asker:
                asker.sendall(order)
                _wait_for(lambda: bool(accepted))  # it waits for a server that says nothing
                assert _workers(config)
            _wait_for(lambda: not _workers(config))
        for connection in accepted:
            connection.close()
