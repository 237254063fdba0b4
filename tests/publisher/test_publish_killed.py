"""Tests of a publication that is killed or meets a full disk: the feed stays valid."""

from __future__ import annotations

import os
import random
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import KEY_CHANGE_NOT_ATOMIC, STALE_EVENT, WRITE_FAILED
from ncen_updater.publisher.distribute.publishing import Publisher
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import FeedKeys
from ncen_updater.publisher.signing.ceremony import Ceremony, RoleHolders
from ncen_updater.publisher.signing.draft import (
    draft_initial_roles,
    draft_key_change,
)
from ncen_updater.publisher.signing.signing_event import SigningEvent
from tests.publisher.feeds import (
    Stops,
    ceremony_of,
    client_sees,
    contents,
    die,
    drafted,
    fresh_signer,
    kill_in_child,
)
from tests.publisher.releases import NOW, clock
from tests.support.errors import refused


def test_kill_at_every_write_leaves_a_valid_feed(
    feed: Path, staged: Path, tmp_path: Path, keys: FeedKeys
) -> None:
    """Before each write: the old feed. After the last: the new one. The same call completes."""
    event = drafted(feed, staged, tmp_path / "event")
    for officer in keys.signers[:2]:
        event.sign_drafts(officer, event.digest)
    trusted = feed / "metadata/1.root.json"
    seen = []
    for at in range(20):
        copy = tmp_path / f"feed{at}"
        shutil.copytree(feed, copy)
        status = kill_in_child(
            lambda copy=copy, at=at: Publisher(
                FeedDirectory(copy), clock, Stops(at, die)
            ).publish_event(  # type: ignore[misc]
                event, [staged], keys.online
            )
        )
        seen.append(client_sees(copy, tmp_path / "site", trusted))
        if not os.WIFSIGNALED(status):
            break
        Publisher(FeedDirectory(copy), clock).publish_event(event, [staged], keys.online)
        assert client_sees(copy, tmp_path / "site", trusted) == "3.4.0"
    assert seen == ["3.3.0"] * 6 + ["3.4.0"]  # three targets, role, snapshot, timestamp


def test_kill_at_random_system_calls_leaves_a_valid_feed(
    feed: Path, staged: Path, tmp_path: Path, keys: FeedKeys
) -> None:
    """SIGKILL wherever a line of the writing code happens to be; seeded."""
    event = drafted(feed, staged, tmp_path / "event")
    for officer in keys.signers[:2]:
        event.sign_drafts(officer, event.digest)
    trusted = feed / "metadata/1.root.json"
    chance = random.Random(7299)
    outcomes = set()
    for _ in range(25):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(feed, copy)
        left = chance.randrange(400)

        def run(copy: Path = copy, left: int = left) -> None:
            import sys

            count = [left]

            def trace(frame: object, *_: object) -> object:
                name = getattr(getattr(frame, "f_code", None), "co_filename", "")
                if name.endswith(("atomic_files.py", "publishing.py", "feed_directory.py")):
                    count[0] -= 1
                    if count[0] <= 0:
                        die()
                return trace

            sys.settrace(trace)  # type: ignore[arg-type]
            Publisher(FeedDirectory(copy), clock).publish_event(event, [staged], keys.online)

        status = kill_in_child(run)
        outcome = client_sees(copy, tmp_path / "site", trusted)
        assert outcome in ("3.3.0", "3.4.0")
        outcomes.add((outcome, os.WIFSIGNALED(status)))
        Publisher(FeedDirectory(copy), clock).publish_event(event, [staged], keys.online)
        assert client_sees(copy, tmp_path / "site", trusted) == "3.4.0"
    assert ("3.3.0", True) in outcomes


def test_incomplete_files_are_removed(
    feed: Path, staged: Path, tmp_path: Path, keys: FeedKeys
) -> None:
    """Large files that are copied again and again, each time from the beginning, fill a disk."""
    left = [feed / "targets/.a.tar.gz.partial-0011aabb", feed / "metadata/.x.json.partial-0011aabb"]
    other = feed / "targets/.htaccess"
    for path in (*left, other):
        path.write_bytes(b"half")
    event = drafted(feed, staged, tmp_path / "event")
    for officer in keys.signers[:2]:
        event.sign_drafts(officer, event.digest)
    Publisher(FeedDirectory(feed), clock).publish_event(event, [staged], keys.online)
    assert [path for path in (*left, other) if path.exists()] == [other]


def test_killed_first_publication_is_completed(tmp_path: Path, keys: FeedKeys) -> None:
    feed = tmp_path / "feed"
    public = tuple(s.public_key for s in keys.signers)
    roles = {n: RoleHolders(public, 2, 365) for n in ("root", "targets", "ncen")}
    roles |= {r: RoleHolders((keys.online[r][0].public_key,), 1, 7) for r in keys.online}
    draft = draft_initial_roles(Ceremony(roles), NOW)
    event = SigningEvent.create(tmp_path / "event", draft.title, draft.roles, None)
    for officer in keys.signers[:2]:
        event.sign_drafts(officer, event.digest)
    for at in range(5):
        shutil.rmtree(feed, ignore_errors=True)
        status = kill_in_child(
            lambda at=at: Publisher(FeedDirectory(feed), clock, Stops(at, die)).publish_event(  # type: ignore[misc]
                event, [], keys.online
            )
        )
        assert os.WIFSIGNALED(status)
        assert not FeedDirectory(feed).exists
    other = draft_initial_roles(Ceremony(roles), NOW + timedelta(seconds=5))
    foreign = SigningEvent.create(tmp_path / "foreign", other.title, other.roles, None)
    for officer in keys.signers[:2]:
        foreign.sign_drafts(officer, foreign.digest)
    with refused(STALE_EVENT):
        Publisher(FeedDirectory(feed), clock).publish_event(foreign, [], keys.online)
    Publisher(FeedDirectory(feed), clock).publish_event(event, [], keys.online)
    assert client_sees(feed, tmp_path / "site", feed / "metadata/1.root.json") == "none"


def test_full_disk_leaves_the_old_feed(
    feed: Path, staged: Path, tmp_path: Path, keys: FeedKeys
) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    event = drafted(feed, staged, tmp_path / "event")
    for officer in keys.signers[:2]:
        event.sign_drafts(officer, event.digest)
    with pytest.raises(UpdaterError) as caught:
        Publisher(FeedDirectory(feed), clock, Stops(4, full)).publish_event(
            event, [staged], keys.online
        )
    assert (caught.value.code, caught.value.exit_code) == (WRITE_FAILED.code, 8)
    assert client_sees(feed, tmp_path / "site", feed / "metadata/1.root.json") == "3.3.0"


def test_kill_while_changing_online_keys_leaves_a_valid_feed(
    feed: Path, tmp_path: Path, keys: FeedKeys
) -> None:
    """Killed at every write while the online keys change, a client always finds a valid feed."""
    fresh = {role: fresh_signer(tmp_path / "new", f"{role}-2") for role in keys.online}
    state = FeedDirectory(feed).read_state()
    draft = draft_key_change(state, ceremony_of(keys.signers, fresh), NOW)
    event = SigningEvent.create(tmp_path / "event", draft.title, draft.roles, state)
    for officer in keys.signers[:2]:
        event.sign_drafts(officer, event.digest)
    only_new = {role: (signer,) for role, signer in fresh.items()}
    both = {role: (*keys.online[role], signer) for role, signer in fresh.items()}
    before = contents(feed)
    with refused(KEY_CHANGE_NOT_ATOMIC):
        Publisher(FeedDirectory(feed), clock).publish_event(event, [], only_new)
    assert contents(feed) == before
    trusted = feed / "metadata/1.root.json"
    ends = 0
    for at in range(10):
        copy = tmp_path / f"copy{at}"
        shutil.copytree(feed, copy)
        status = kill_in_child(
            lambda copy=copy, at=at: Publisher(
                FeedDirectory(copy), clock, Stops(at, die)
            ).publish_event(  # type: ignore[misc]
                event, [], both
            )
        )
        assert client_sees(copy, tmp_path / "site", trusted) == "3.3.0"
        if not os.WIFSIGNALED(status):
            assert status == 0
            assert FeedDirectory(copy).read_state().root.signed.version == 2
            ends = at
            break
    assert ends == 3  # snapshot, timestamp, and the root last
    accepted = Publisher(FeedDirectory(feed), clock).publish_event(
        event, [], only_new, accept_interruption=True
    )
    assert accepted.versions["root"] == 2
    assert client_sees(feed, tmp_path / "site", tmp_path / "copy0/metadata/1.root.json") == "3.3.0"
