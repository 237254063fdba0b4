"""Tests that a mistyped feed path is not reported as a damaged feed."""

from __future__ import annotations

from pathlib import Path

from ncen_updater.common.messages import FEED_BROKEN, FEED_DIRECTORY_MISSING
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from tests.support.errors import refused


def test_mistyped_feed_path_is_not_reported_as_damaged(tmp_path: Path) -> None:
    """Seen: "The feed in fed is not whole ... Restore it from its backup"."""
    with refused(FEED_DIRECTORY_MISSING, match="not found"):
        FeedDirectory(tmp_path / "fed").read_state()
    (tmp_path / "fed").mkdir()
    with refused(FEED_BROKEN):
        FeedDirectory(tmp_path / "fed").read_state()
