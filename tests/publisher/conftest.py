"""Keys, a feed with one release, and the next release built."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.release_flow import publish_release
from ncen_updater.publisher.build.release_build import build_release
from ncen_updater.publisher.new.trial import FeedKeys, create_feed
from ncen_updater.publisher.signing import keys as key_files
from tests.publisher.releases import clock, ring, write_release


@pytest.fixture(scope="session", autouse=True)
def cheap_keys() -> Iterator[None]:
    """Keys that open at once: what a try costs has a test of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_files, "SCRYPT_COST", 1 << 10)
        yield


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FeedKeys]:
    """Keys and a feed, made once: opening encrypted keys is slow on purpose."""
    work = tmp_path_factory.mktemp("made")
    keys = ring(work)
    create_feed(work / "feed", keys, clock)
    publish_release(work / "feed", [write_release(work / "r1", "3.3.0")], keys, clock)
    return work, keys


@pytest.fixture
def keys(tmp_path: Path, made: tuple[Path, FeedKeys]) -> FeedKeys:
    shutil.copytree(made[0] / "keys", tmp_path / "keys")
    return made[1]


@pytest.fixture
def feed(tmp_path: Path, made: tuple[Path, FeedKeys]) -> Path:
    shutil.copytree(made[0] / "feed", tmp_path / "feed")
    return tmp_path / "feed"


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    build_release(write_release(tmp_path / "r2", "3.4.0"), tmp_path / "staging")
    return tmp_path / "staging"
