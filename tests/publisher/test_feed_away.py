"""A feed whose name was typed wrong is not one that is broken."""

from __future__ import annotations

from pathlib import Path

from ncen_updater.common.messages import FEED_AWAY, FEED_BROKEN
from ncen_updater.publisher.feed.feed import Feed
from tests.support.errors import refused


def test_a_name_that_was_typed_wrong_sends_nobody_to_a_backup(tmp_path: Path) -> None:
    """Seen: "The feed in fed is not whole ... Restore it from its backup"."""
    with refused(FEED_AWAY, match="no such directory"):
        Feed(tmp_path / "fed").state()
    (tmp_path / "fed").mkdir()
    with refused(FEED_BROKEN):
        Feed(tmp_path / "fed").state()
