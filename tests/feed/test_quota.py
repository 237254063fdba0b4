"""Tests of the disk quota of a compromised reader: the rule, and real readers that flood."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.feed_reader import disk_quota as quota
from ncen_updater.agent.adapters.feed_reader.disk_quota import (
    MARGIN_BYTES,
    MARGIN_INODES,
    RESERVED_BYTES,
    RESERVED_INODES,
    SLACK_BYTES,
    DiskMonitor,
    DiskUsage,
    DiskVerdict,
    FreeSpace,
    judge_disk_usage,
    measure_usage,
)
from ncen_updater.agent.adapters.feed_reader.worker_source import WorkerReleaseSource
from ncen_updater.agent.config.loader import load_config
from ncen_updater.common.directory_handle import DirectoryHandle
from ncen_updater.common.errors import InsufficientSpaceError
from ncen_updater.common.messages import READER_FAILED, READER_FILLS_DISK
from ncen_updater.common.progress import SilentProgress
from ncen_updater.common.workers import Worker
from tests.feed.test_reader_unit import CONFIG, needs_activator, unit
from tests.support.errors import refused
from tests.support.http_server import WebServer
from tests.support.tuf_repository import Feed

NOTHING, ROOMY = DiskUsage(), FreeSpace(1 << 40, 1 << 30, 1 << 31)
LISTS = DiskUsage()


@dataclass(frozen=True)
class Case:
    """One row of the rule."""

    name: str
    verdict: DiskVerdict
    before: DiskUsage = NOTHING
    now: DiskUsage = NOTHING
    order: DiskUsage = LISTS
    announced: DiskUsage | None = LISTS
    room_before: FreeSpace = ROOMY
    room: FreeSpace = ROOMY


CASES = (
    Case("nothing came", DiskVerdict.OK),
    Case("lists came", DiskVerdict.OK, now=DiskUsage(MARGIN_BYTES, MARGIN_INODES)),
    Case("more than lists came", DiskVerdict.OVER_ALLOWANCE, now=DiskUsage(MARGIN_BYTES + 1)),
    Case("many names came", DiskVerdict.OVER_ALLOWANCE, now=DiskUsage(0, MARGIN_INODES + 1)),
    Case(
        "a release came",
        DiskVerdict.OK,
        now=DiskUsage(1 << 30),
        order=DiskUsage(1 << 30),
        announced=DiskUsage(1 << 30),
    ),
    Case(
        "a release came and no metadata can be verified",
        DiskVerdict.OK,
        now=DiskUsage(1 << 30),
        order=DiskUsage(1 << 30),
        announced=None,
    ),
    Case(
        "a little each time, and in the end more than was announced",
        DiskVerdict.UNANNOUNCED,
        before=DiskUsage(MARGIN_BYTES),
        now=DiskUsage(MARGIN_BYTES + SLACK_BYTES + 1),
    ),
    Case(
        "of old more lies there, and only lists come",
        DiskVerdict.OK,
        before=DiskUsage(1 << 40),
        now=DiskUsage((1 << 40) + SLACK_BYTES),
    ),
    Case(
        "the last room is taken, by nothing that can be seen",
        DiskVerdict.NO_SPACE,
        room_before=FreeSpace(RESERVED_BYTES + MARGIN_BYTES),
        room=FreeSpace(RESERVED_BYTES - 1),
    ),
    Case(
        "the last room was taken before",
        DiskVerdict.OK,
        room_before=FreeSpace(RESERVED_BYTES - 1),
        room=FreeSpace(RESERVED_BYTES - 4096),
    ),
    Case(
        "the last room was taken before, and the directory is full of what no list announces",
        DiskVerdict.NO_SPACE,
        before=DiskUsage(MARGIN_BYTES + SLACK_BYTES),
        now=DiskUsage(MARGIN_BYTES + SLACK_BYTES + 4096),
        room_before=FreeSpace(RESERVED_BYTES),
        room=FreeSpace(RESERVED_BYTES - 4096),
    ),
    Case(
        "the same, and nothing came",
        DiskVerdict.OK,
        before=DiskUsage(MARGIN_BYTES + SLACK_BYTES),
        now=DiskUsage(MARGIN_BYTES + SLACK_BYTES),
        room_before=FreeSpace(RESERVED_BYTES),
        room=FreeSpace(RESERVED_BYTES - 4096),
    ),
    Case(
        "the same and no metadata can be verified",
        DiskVerdict.NO_SPACE,
        before=DiskUsage(MARGIN_BYTES + SLACK_BYTES),
        now=DiskUsage(MARGIN_BYTES + SLACK_BYTES + 4096),
        announced=None,
        room_before=FreeSpace(RESERVED_BYTES),
        room=FreeSpace(RESERVED_BYTES - 4096),
    ),
    Case(
        "the last names go one by one",
        DiskVerdict.NO_SPACE,
        before=DiskUsage(0, MARGIN_INODES + 1),
        now=DiskUsage(0, MARGIN_INODES + 2),
        room_before=FreeSpace(1 << 40, RESERVED_INODES, 9999),
        room=FreeSpace(1 << 40, RESERVED_INODES - 1, 9999),
    ),
    Case(
        "the last names are taken",
        DiskVerdict.NO_SPACE,
        room_before=FreeSpace(1 << 40, 2 * RESERVED_INODES, 9999),
        room=FreeSpace(1 << 40, 0, 9999),
    ),
    Case(
        "a file system that counts no names",
        DiskVerdict.OK,
        room_before=FreeSpace(1 << 40, 0, 0),
        room=FreeSpace(1 << 40, 0, 0),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_quota_is_judged(case: Case) -> None:
    verdict = judge_disk_usage(
        case.before, case.now, case.order, case.announced, case.room_before, case.room
    )
    assert verdict is case.verdict


@pytest.fixture
def config(tmp_path: Path, feed: Feed, server: WebServer) -> Path:
    feed.trusted_root(tmp_path / "root.json")
    path = tmp_path / "agent.toml"
    path.write_text(CONFIG.format(url=server.url, root=tmp_path))
    (tmp_path / "received").mkdir()
    return path


FLOOD = """
import json, os, sys, time
sys.stdin.readline()
say = lambda: print(json.dumps({"template": "", "values": {}}), flush=True)
place = sys.argv[1]
"""
# Each goes on, and does not say that it is done. It leaves twice what is too much and no more: on a
# loaded machine who watches comes late, and all of it has to be removed again.
GOES_ON = """
for _ in range(6_000):
    say()
    time.sleep(0.02)
"""
FLOODS = {
    # 4 MB a file: below any limit of one file.
    "files": """
for n in range(24):
    with open(f"{place}/f{n}", "wb") as stream:
        stream.write(bytes(1 << 22))
    say()
""",
    "names": """
for n in range(5_000):
    os.mkdir(f"{place}/d{n}")
    n % 100 or say()
""",
    "depth": """
os.chdir(place)
for n in range(100):
    os.mkdir("d")
    os.chdir("d")
""",
    "links": """
os.symlink("/", f"{place}/root")
for n in range(5_000):
    os.symlink("/usr", f"{place}/l{n}")
    n % 100 or say()
""",
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule with other figures: what a flood comes to before it is seen is thrown away."""
    monkeypatch.setattr(quota, "MARGIN_BYTES", 32 << 20)
    monkeypatch.setattr(quota, "MIN_POLL_INTERVAL_S", 0.05)


@needs_activator
@pytest.mark.parametrize("runner", ["systemd", "process"])
@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.usefixtures("small")
def test_flooding_reader_is_terminated(
    config: Path, runner: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(config.read_text().replace('"systemd"', f'"{runner}"'))
    words = [sys.executable, "-Sc", FLOOD + FLOODS[kind] + GOES_ON, str(config.parent / "received")]
    monkeypatch.setattr(Worker, "build_command", lambda _self: words)
    with unit(config, *words), refused(READER_FILLS_DISK) as caught:
        WorkerReleaseSource(load_config(config), config).refresh()
    assert caught.value.exit_code == 6
    assert caught.value.values["path"] == config.parent / "received"


@pytest.mark.usefixtures("small")
def test_files_left_after_the_answer_count(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text(config.read_text().replace('"systemd"', '"process"'))
    monkeypatch.setattr(quota, "MIN_POLL_INTERVAL_S", 1000)
    code = FLOOD + 'open(f"{place}/f", "wb").write(bytes(40 << 20)); print(\'{"done": true}\')'
    words = [sys.executable, "-Sc", code, str(config.parent / "received")]
    monkeypatch.setattr(Worker, "build_command", lambda _self: words)
    with refused(READER_FILLS_DISK):
        WorkerReleaseSource(load_config(config), config).refresh()


def test_kernel_limits_one_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text(config.read_text().replace('"systemd"', '"process"'))
    code = (
        FLOOD
        + """
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open(f"{place}/f", "wb") as stream:
    stream.truncate(128 << 20)
    try:
        stream.truncate((128 << 20) + 1)
    except OSError as error:
        sys.exit(f"refused: {error.errno}")
"""
    )
    words = [sys.executable, "-Sc", code, str(config.parent / "received")]
    monkeypatch.setattr(Worker, "build_command", lambda _self: words)
    with refused(READER_FAILED) as caught:
        WorkerReleaseSource(load_config(config), config).refresh()
    assert "refused: 27" in str(caught.value.detail)


@needs_activator
def test_honest_reader_stays_below_the_quota(config: Path) -> None:
    source = WorkerReleaseSource(load_config(config), config)
    with unit(config):
        offer = source.refresh().offers[0]
        source.download_release(offer, SilentProgress())
        source.refresh()
    assert source.find_downloaded_release(offer) is not None


@contextlib.contextmanager
def _own_file_system(place: Path, size: str, names: int) -> Iterator[None]:
    """As packaging/examples has it: a file with a file system in it, mounted."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    image = place.parent / "received.img"
    subprocess.run(["truncate", "-s", size, image], check=True)
    words = ["mkfs.ext4", "-q", "-m", "0", "-N", str(names), "-O", "^has_journal", str(image)]
    subprocess.run(words, check=True)
    mounted = subprocess.run(
        ["mount", "-o", "loop,nosuid,nodev,noexec", image, place], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.decode()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.parametrize("kind", ["files", "names"])
def test_separate_file_system_limits_the_reader(
    config: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no watch at all: the kernel refuses it, and what lies beside goes on."""
    config.write_text(config.read_text().replace('"systemd"', '"process"'))
    monkeypatch.setattr(DiskMonitor, "check_now", lambda _self: DiskVerdict.OK)
    place = config.parent / "received"
    words = [sys.executable, "-Sc", FLOOD + FLOODS[kind] + GOES_ON, str(place)]
    monkeypatch.setattr(Worker, "build_command", lambda _self: words)
    with _own_file_system(place, "48M", 3000):
        with refused(READER_FAILED) as caught:
            WorkerReleaseSource(load_config(config), config).refresh()
        assert "No space left" in str(caught.value.detail)
        (config.parent / "beside").write_bytes(b"x" * 100_000)
        assert is_file_system_full(place)


def is_file_system_full(place: Path) -> bool:
    """Whether bytes or names of a file system are at their end."""
    room = quota.measure_free_space(place)
    return room.size < 8 << 20 or room.inodes == 0


def test_last_free_space_is_reported_as_such(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text(config.read_text().replace('"systemd"', '"process"'))
    verdicts = iter([DiskVerdict.OK, DiskVerdict.NO_SPACE])
    monkeypatch.setattr(DiskMonitor, "check_now", lambda _self: next(verdicts))
    with pytest.raises(InsufficientSpaceError) as caught:
        WorkerReleaseSource(load_config(config), config).refresh()
    assert caught.value.values["path"] == config.parent / "received"


def test_used_space_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "sparse").touch()
    os.truncate(tmp_path / "a" / "sparse", 1 << 40)
    (tmp_path / "a" / "b" / "whole").write_bytes(bytes(8192))
    (tmp_path / "out").symlink_to("/")
    found = measure_usage([tmp_path, tmp_path / "missing"], DiskUsage(1 << 40, 1000))
    assert found.inodes == 5
    assert 8192 <= found.size < 200_000
    assert json.dumps(found.size)


def test_vanishing_files_do_not_hide_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that makes and removes a name all the time would otherwise never be counted."""
    for number in range(20):
        (tmp_path / f"{number}").write_bytes(bytes(8192))
    real = DirectoryHandle.scan_directory

    @contextlib.contextmanager
    def churned(handle: DirectoryHandle, path: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        with real(handle, path) as items:
            listed = list(items)
            (tmp_path / listed[0].name).unlink()
            yield iter(listed)

    monkeypatch.setattr(DirectoryHandle, "scan_directory", churned)
    assert measure_usage([tmp_path], DiskUsage(1 << 40, 1000)).size >= 19 * 8192
