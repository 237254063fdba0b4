"""Tests of foreign files in a staging directory, and of a drafter whose clock is wrong."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata

from ncen_updater.common.messages import BAD_DATES
from ncen_updater.formats.target_names import MAX_DOCUMENT_BYTES
from ncen_updater.publisher.distribute.publishing import Publisher
from ncen_updater.publisher.errors import BuildError
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import FeedKeys
from ncen_updater.publisher.signing.draft import draft_releases, draft_renewal
from ncen_updater.publisher.signing.signing_event import SigningEvent
from tests.publisher.feeds import contents
from tests.publisher.releases import NOW
from tests.support.errors import refused


def test_leftovers_of_a_killed_build_are_ignored(feed: Path, staged: Path) -> None:
    (staged / "targets/.ncen-3.4.0.tar.gz.partial-0011aabb").write_bytes(b"half")
    draft = draft_releases(FeedDirectory(feed).read_state(), staged, NOW)
    assert not [name for name in draft.roles["ncen"].signed.targets if "partial" in name]


def link(place: Path) -> None:
    place.symlink_to("/etc/hostname")


def loop(place: Path) -> None:
    place.symlink_to(place.parent)


def huge(place: Path) -> None:
    with place.open("wb") as stream:
        os.truncate(stream.fileno(), MAX_DOCUMENT_BYTES + 1)


@pytest.mark.parametrize("make", [link, loop, huge])
def test_foreign_files_in_staging_are_refused(feed: Path, staged: Path, make: object) -> None:
    assert callable(make)
    make(staged / "targets/releases/ncen/3.5.0.json")
    with pytest.raises(BuildError):
        draft_releases(FeedDirectory(feed).read_state(), staged, NOW)


@pytest.mark.parametrize(("days", "is_refused"), [(1, False), (3, True), (4000, True)])
def test_draft_with_a_clock_behind_is_refused(
    feed: Path, tmp_path: Path, days: int, is_refused: bool
) -> None:
    """The draft would expire earlier; each signer's program refuses it."""
    state = FeedDirectory(feed).read_state()
    draft = draft_renewal(state, ["ncen"], NOW - timedelta(days=days))
    if is_refused:
        with refused(BAD_DATES, match=r"\d UTC\)?\) before the version it replaces \(.* UTC\)"):
            SigningEvent.create(tmp_path / "event", draft.title, draft.roles, state)
    else:
        SigningEvent.create(tmp_path / "event", draft.title, draft.roles, state)


@pytest.mark.parametrize(("days", "is_refused"), [(1, False), (3, True), (4000, True)])
def test_publishing_with_a_clock_behind_is_refused(
    feed: Path, keys: FeedKeys, days: int, is_refused: bool
) -> None:
    """It would sign metadata that has expired for every site."""
    (feed / "metadata/timestamp.json").write_bytes(
        _renewed_timestamp(feed, keys.online["timestamp"][0], NOW - timedelta(days=days))
    )
    before = contents(feed)
    publisher = Publisher(FeedDirectory(feed), lambda: NOW - timedelta(days=days))
    if is_refused:
        with refused(BAD_DATES, match=r"UTC\)?, but the clock of this machine shows .*:\d\d .*UTC"):
            publisher.refresh_online_roles(keys.online)
        assert contents(feed) == before
    else:
        publisher.refresh_online_roles(keys.online)


def _renewed_timestamp(feed: Path, signer: Signer, expires: datetime) -> bytes:
    """A timestamp that is due: it expires just now."""
    timestamp = Metadata.from_file(str(feed / "metadata/timestamp.json"))
    timestamp.signed.expires = expires
    timestamp.sign(signer)
    return timestamp.to_bytes()
