"""Keys, a feed with one release, and the next release built."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncen_updater.publisher.build import build_release
from ncen_updater.publisher.release_flow import KeyRing, make_feed, publish_release
from tests.publisher.releases import clock, ring, write_release


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    return ring(tmp_path)


@pytest.fixture
def feed(tmp_path: Path, keys: KeyRing) -> Path:
    make_feed(tmp_path / "feed", keys, clock)
    publish_release(tmp_path / "feed", [write_release(tmp_path / "r1", "3.3.0")], keys, clock)
    return tmp_path / "feed"


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    build_release(write_release(tmp_path / "r2", "3.4.0"), tmp_path / "staging")
    return tmp_path / "staging"
