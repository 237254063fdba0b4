"""Tests that new keys are published only with signatures of the old ones."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from ncen_updater.common.messages import (
    BELOW_THRESHOLD,
    DUPLICATE_KEY,
    FEED_BROKEN,
    ONLINE_KEY_MISSING,
)
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import FeedKeys, create_feed, publish_draft
from ncen_updater.publisher.signing.ceremony import Ceremony, RoleHolders
from ncen_updater.publisher.signing.draft import (
    draft_key_change,
)
from ncen_updater.publisher.signing.keys import compute_fingerprint
from tests.publisher.feeds import (
    ceremony_of,
    client_sees,
    contents,
    fresh_signer,
)
from tests.publisher.releases import NOW, clock
from tests.support.errors import refused


def test_same_key_under_two_ids_is_refused(tmp_path: Path, keys: FeedKeys) -> None:
    first = keys.signers[0].public_key
    data = first.to_dict() | {"x-ncen-keyowner": "twin"}
    twin = type(first).from_dict("f" * 64, data)
    officers = RoleHolders((first, twin), 2, 365)
    online = {r: RoleHolders((keys.online[r][0].public_key,), 1, 7) for r in keys.online}
    with refused(DUPLICATE_KEY):
        Ceremony({"root": officers, "targets": officers, "ncen": officers, **online})


def test_new_root_needs_the_previous_signers(feed: Path, tmp_path: Path, keys: FeedKeys) -> None:
    """A root that only its own new signers signed, though enough of them, is not published."""
    new = tuple(fresh_signer(tmp_path / "new", name) for name in ("dia", "eva", "fu"))
    online = {role: signers[0] for role, signers in keys.online.items()}
    state = FeedDirectory(feed).read_state()
    draft = draft_key_change(state, ceremony_of(new, online), NOW)
    root_only = replace(draft, roles={"root": draft.roles["root"]})
    before = contents(feed)
    with refused(BELOW_THRESHOLD):
        publish_draft(feed, root_only, replace(keys, signers=new), clock)
    with refused(BELOW_THRESHOLD):
        publish_draft(feed, root_only, replace(keys, signers=(new[0], keys.signers[0])), clock)
    assert contents(feed) == before


def test_missing_new_online_key_is_named_with_its_option(
    feed: Path, tmp_path: Path, keys: FeedKeys
) -> None:
    """The new key has the name of the old one, so that only the fingerprint tells them apart."""
    new = {role: fresh_signer(tmp_path / "new", role) for role in keys.online}
    state = FeedDirectory(feed).read_state()
    draft = draft_key_change(state, ceremony_of(keys.signers, new), NOW)
    before = contents(feed)
    with refused(ONLINE_KEY_MISSING) as caught:
        publish_draft(feed, draft, keys, clock)
    digits = compute_fingerprint(new["snapshot"].public_key)[:8]
    assert f"--snapshot-key with one of these keys: snapshot ({digits}...)" in (
        caught.value.remedy_text.render()
    )
    assert contents(feed) == before


def test_role_change_needs_the_previous_root_signers(
    feed: Path, tmp_path: Path, keys: FeedKeys
) -> None:
    """Everything else verifies: the new signers hold the root alone, and they all signed it."""
    new = tuple(fresh_signer(tmp_path / "new", name) for name in ("dia", "eva", "fu"))
    online = {role: signers[0] for role, signers in keys.online.items()}
    roles = dict(ceremony_of(keys.signers, online).roles)
    roles["root"] = RoleHolders(tuple(signer.public_key for signer in new), 2, 365)
    draft = draft_key_change(FeedDirectory(feed).read_state(), Ceremony(roles), NOW)
    assert list(draft.roles) == ["root"]
    before = contents(feed)
    with refused(BELOW_THRESHOLD):
        publish_draft(feed, draft, replace(keys, signers=new, threshold=3), clock)
    mixed = (*keys.signers[:1], *new)
    with refused(BELOW_THRESHOLD):
        publish_draft(feed, draft, replace(keys, signers=mixed, threshold=4), clock)
    only_old = replace(keys, threshold=3)
    with refused(BELOW_THRESHOLD):
        publish_draft(feed, draft, only_old, clock)
    assert contents(feed) == before
    both = replace(keys, signers=(*keys.signers[:2], *new[:2]), threshold=4)
    assert publish_draft(feed, draft, both, clock).versions["root"] == 2
    assert client_sees(feed, tmp_path / "site", feed / "metadata/1.root.json") == "3.3.0"


def test_role_in_place_of_another_is_refused(tmp_path: Path, keys: FeedKeys) -> None:
    """The same signers hold both, so the signatures alone would fit."""
    feed = tmp_path / "feed"
    create_feed(feed, keys, clock)
    metadata = feed / "metadata"
    shutil.copy(metadata / "1.ncen.json", metadata / "1.ncen-updater.json")
    with refused(FEED_BROKEN):
        FeedDirectory(feed).read_state()
