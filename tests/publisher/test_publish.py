"""Tests that nothing below its threshold is published."""

from __future__ import annotations

import json
import os
import shutil
import signal
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from ncen_updater.common.cli.render import encode_as_words
from ncen_updater.common.messages import (
    BAD_EVENT,
    BELOW_THRESHOLD,
    DIGEST_INVALID,
    DIGEST_MISMATCH,
    FEED_BROKEN,
    FEED_BUSY,
    KEY_NOT_ALLOWED,
    PUBLISHER_BAD_SIGNATURE,
    PUBLISHER_ROLE_EXPIRED,
    PUBLISHER_TARGET_MISSING,
    SIGNATURES_UNUSABLE,
    STALE_EVENT,
    ErrorMessage,
)
from ncen_updater.publisher.distribute.publishing import Publisher
from ncen_updater.publisher.feed.feed_directory import DurableWriter, FeedDirectory
from ncen_updater.publisher.new.trial import FeedKeys, create_feed, publish_draft
from ncen_updater.publisher.signing.draft import (
    draft_renewal,
)
from ncen_updater.publisher.signing.signing_event import SigningEvent
from tests.publisher.feeds import (
    client_sees,
    contents,
    drafted,
    fresh_signer,
)
from tests.publisher.releases import NOW, clock
from tests.support.errors import refused


def test_one_of_two_signatures_is_insufficient(
    feed: Path, staged: Path, tmp_path: Path, keys: FeedKeys
) -> None:
    event = drafted(feed, staged, tmp_path / "event")
    before = contents(feed)
    publisher = Publisher(FeedDirectory(feed), clock)
    for officers in ([], keys.signers[:1], [keys.signers[0], keys.signers[0]]):
        for officer in officers:
            event.sign_drafts(officer, event.digest)
        with refused(BELOW_THRESHOLD) as caught:
            publisher.publish_event(event, [staged], keys.online)
        assert "bo" in str(caught.value.values["missing"])
    assert contents(feed) == before
    event.sign_drafts(keys.signers[2], event.digest)
    publisher.publish_event(event, [staged], keys.online)
    assert client_sees(feed, tmp_path / "site", feed / "metadata/1.root.json") == "3.4.0"


def test_invalid_signatures_do_not_count(
    feed: Path, staged: Path, tmp_path: Path, keys: FeedKeys
) -> None:
    event = drafted(feed, staged, tmp_path / "event")
    before = contents(feed)
    stranger = fresh_signer(tmp_path / "strange", "mallory")
    with refused(KEY_NOT_ALLOWED) as unknown:
        event.sign_drafts(stranger, event.digest)
    assert "amina (" in unknown.value.remedy_text.render()
    with refused(KEY_NOT_ALLOWED):
        event.sign_drafts(keys.online["timestamp"][0], event.digest)
    with refused(DIGEST_MISMATCH):
        event.sign_drafts(keys.signers[0], "0" * 64)
    with refused(DIGEST_MISMATCH) as wrong:
        event.sign_drafts(keys.signers[0], event.digest[:31] + "01"[event.digest[31] == "0"])
    assert event.digest not in f"{wrong.value} {wrong.value.values}", "it is told, not copied"
    assert wrong.value.state and wrong.value.state.render() == "Nothing was signed."
    for typed in (event.digest[:31], event.digest[:31] + "x", "yes", ""):
        with refused(DIGEST_INVALID):
            event.sign_drafts(keys.signers[0], typed)
    event.refuse_other_digest(encode_as_words(event.digest))
    good = event.sign_drafts(keys.signers[0], event.digest)[0]
    answer = json.loads(good.read_bytes())
    other = keys.signers[1].public_key.keyid
    cases: list[tuple[dict[str, object], ErrorMessage]] = [
        ({"keyid": other}, PUBLISHER_BAD_SIGNATURE),
        ({"keyid": stranger.public_key.keyid}, KEY_NOT_ALLOWED),
        ({"sig": "00" * 64}, PUBLISHER_BAD_SIGNATURE),
        ({"digest": "0" * 64}, SIGNATURES_UNUSABLE),
        ({"version": 9}, SIGNATURES_UNUSABLE),
        ({"role": "root"}, SIGNATURES_UNUSABLE),
        ({"sig": "zz"}, SIGNATURES_UNUSABLE),
    ]
    forged = tmp_path / "forged.json"
    for change, expected in cases:
        forged.write_text(json.dumps({**answer, **change}))
        with refused(expected) as merged:
            event.merge_signatures(forged)
        assert "pydantic" not in str(merged.value.detail)
        # Put there behind the program's back, it stops the publication as well.
        planted = event.directory / "sig" / "planted.json"
        shutil.copy(forged, planted)
        with refused(expected):
            Publisher(FeedDirectory(feed), clock).publish_event(event, [staged], keys.online)
        planted.unlink()
    assert contents(feed) == before


def test_altered_draft_is_refused(feed: Path, staged: Path, tmp_path: Path, keys: FeedKeys) -> None:
    event = drafted(feed, staged, tmp_path / "event")
    for officer in keys.signers[:2]:
        event.sign_drafts(officer, event.digest)
    path = event.directory / "draft" / "ncen.json"
    path.write_text(path.read_text().replace("3.4.0", "3.5.0"))
    with refused(BAD_EVENT):
        SigningEvent.load(event.directory)


def test_outdated_event_is_refused(
    feed: Path, staged: Path, tmp_path: Path, keys: FeedKeys
) -> None:
    event = drafted(feed, staged, tmp_path / "event")
    for officer in keys.signers[:2]:
        event.sign_drafts(officer, event.digest)
    publish_draft(feed, draft_renewal(FeedDirectory(feed).read_state(), ["ncen"], NOW), keys, clock)
    with refused(STALE_EVENT):
        Publisher(FeedDirectory(feed), clock).publish_event(event, [staged], keys.online)


def test_target_files_are_hashed_again(
    feed: Path, staged: Path, tmp_path: Path, keys: FeedKeys
) -> None:
    event = drafted(feed, staged, tmp_path / "event")
    for officer in keys.signers[:2]:
        event.sign_drafts(officer, event.digest)
    archive = staged / "targets" / "ncen-3.4.0.tar.gz"
    content = archive.read_bytes()
    archive.write_bytes(content[:-1] + b"!")
    before = contents(feed)
    with refused(PUBLISHER_TARGET_MISSING):
        Publisher(FeedDirectory(feed), clock).publish_event(event, [staged], keys.online)
    with refused(PUBLISHER_TARGET_MISSING):
        Publisher(FeedDirectory(feed), clock).publish_event(event, [], keys.online)
    assert contents(feed) == before


def test_target_changed_during_the_copy_is_detected(
    feed: Path, staged: Path, tmp_path: Path, keys: FeedKeys
) -> None:
    """After the look at the staging directory, before the copy."""
    event = drafted(feed, staged, tmp_path / "event")
    for officer in keys.signers[:2]:
        event.sign_drafts(officer, event.digest)

    class Changes(DurableWriter):
        def copy_file(self, path: Path, source: Path, sha256: str) -> None:
            source.write_bytes(b"!" * source.stat().st_size)
            super().copy_file(path, source, sha256)

    before = contents(feed)
    with refused(PUBLISHER_TARGET_MISSING):
        Publisher(FeedDirectory(feed), clock, Changes()).publish_event(event, [staged], keys.online)
    assert contents(feed) == before


@pytest.mark.parametrize("name", ["timestamp.json", "1.root.json"])
def test_fifo_in_a_feed_copy_is_refused(feed: Path, name: str) -> None:
    """Reading it would wait for ever."""
    path = feed / "metadata" / name
    path.unlink()
    os.mkfifo(path)
    signal.alarm(20)
    try:
        with refused(FEED_BROKEN, match="regular"):
            FeedDirectory(feed).read_state()
    finally:
        signal.alarm(0)


def test_root_file_with_another_number_is_ignored(feed: Path) -> None:
    (feed / "metadata" / "\u00b2.root.json").write_bytes(b"{}")
    assert len(FeedDirectory(feed).read_roots()) == 1


def test_expired_role_and_second_publisher_are_refused(feed: Path, keys: FeedKeys) -> None:
    state = FeedDirectory(feed).read_state()
    late = NOW + timedelta(days=366)
    with refused(PUBLISHER_ROLE_EXPIRED):
        publish_draft(feed, draft_renewal(state, ["ncen"], late), keys, lambda: late)
    with FeedDirectory(feed).lock(), refused(FEED_BUSY):
        Publisher(FeedDirectory(feed), clock).refresh_online_roles(keys.online)


@pytest.mark.parametrize(
    ("hours", "roles"),
    [
        (0, ()),
        (23, ()),
        (25, ("timestamp",)),
        (24 * 14, ("timestamp",)),
        (24 * 15 + 1, ("snapshot", "timestamp")),
        (24 * 300, ("snapshot", "timestamp")),
    ],
)
def test_refresh_signs_what_is_due(
    feed: Path, keys: FeedKeys, hours: int, roles: tuple[str, ...]
) -> None:
    later = NOW + timedelta(hours=hours)
    before = contents(feed)
    publisher = Publisher(FeedDirectory(feed), lambda: later)
    assert publisher.refresh_online_roles(keys.online).new_roles == roles
    assert (contents(feed) == before) is not bool(roles)
    after = contents(feed)
    assert publisher.refresh_online_roles(keys.online).new_roles == ()
    assert contents(feed) == after
    wrong = {role: (CryptoSigner.generate_ed25519(),) for role in keys.online}
    with refused(KEY_NOT_ALLOWED):
        publisher.refresh_online_roles(wrong)


def test_validity_periods_are_signed(tmp_path: Path, keys: FeedKeys) -> None:
    create_feed(tmp_path / "own", keys, clock, expiry_days={"timestamp": 3, "snapshot": 9})
    policy = FeedDirectory(tmp_path / "own").read_state().policy
    assert policy.expiry_days["timestamp"] == 3
    assert [
        policy.get_renewal_window(role).days for role in ("timestamp", "snapshot", "root", "ncen")
    ] == [
        2,
        5,
        90,
        60,
    ]
