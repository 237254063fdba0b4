"""Tests of key rotation: required signatures, clients, and replacement of stolen keys."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import Signer
from tuf.api.exceptions import BadVersionNumberError, RepositoryError
from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp  # type: ignore[attr-defined]
from tuf.ngclient import Updater  # type: ignore[attr-defined]

from ncen_updater.common.messages import (
    BAD_CEREMONY,
    BELOW_THRESHOLD,
    FEED_BROKEN,
    KEY_CHANGE_NOT_ATOMIC,
    PUBLISHER_ROLE_EXPIRED,
)
from ncen_updater.publisher.distribute.publishing import Publisher
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import FeedKeys, publish_draft
from ncen_updater.publisher.signing.ceremony import Ceremony, RoleHolders
from ncen_updater.publisher.signing.draft import Draft, draft_key_change, draft_renewal
from ncen_updater.publisher.signing.signing_event import SigningEvent
from tests.publisher.feeds import FeedFiles, contents, fresh_signer
from tests.publisher.releases import NOW, clock
from tests.support.errors import refused

PRODUCTS = ("ncen", "ncen-updater")
OFFLINE = ("root", "targets", *PRODUCTS)
DAYS = {"snapshot": 30, "timestamp": 7}


class Site:
    """A real client that keeps what it has seen."""

    def __init__(self, work: Path, feed: Path) -> None:
        self.work, self.feed = work, feed
        (work / "metadata").mkdir(parents=True)
        shutil.copy(feed / "metadata" / "1.root.json", work / "metadata" / "root.json")

    def look(self, feed: Path | None = None, now: datetime = NOW) -> dict[str, int]:
        """Refresh from a feed directory; return the versions of what is trusted then."""
        updater = Updater(
            metadata_dir=str(self.work / "metadata"),
            metadata_base_url="file:///metadata/",
            target_dir=str(self.work),
            target_base_url="file:///targets/",
            fetcher=FeedFiles(feed or self.feed),
        )
        updater._trusted_set.reference_time = now
        updater.refresh()
        assert updater.get_targetinfo("ncen-3.3.0.tar.gz") is not None
        trusted = updater._trusted_set
        versions = {role: trusted[role].version for role in ("root", "timestamp", "snapshot")}
        return versions | {"targets": trusted["targets"].version, "ncen": trusted["ncen"].version}


@pytest.fixture
def site(feed: Path, tmp_path: Path) -> Site:
    site = Site(tmp_path / "site", feed)
    assert site.look() == {"root": 1, "timestamp": 2, "snapshot": 2, "targets": 1, "ncen": 2}
    return site


@pytest.fixture(scope="session")
def people(
    made: tuple[Path, FeedKeys], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Signer]:
    """All key holders, by name."""
    fresh = tmp_path_factory.mktemp("people")
    amina, bo, chen = made[1].signers
    return {
        "amina": amina, "bo": bo, "chen": chen,
        **{name: fresh_signer(fresh, name) for name in ("dia", "eva", "fu", "online-2")},
        **{role: made[1].online[role][0] for role in DAYS},
    }  # fmt: skip


def ceremony(
    people: Mapping[str, Signer],
    officers: Sequence[str] = ("amina", "bo", "chen"),
    threshold: int = 2,
    online: Mapping[str, str] = {"snapshot": "snapshot", "timestamp": "timestamp"},
    products: Sequence[str] = PRODUCTS,
) -> Ceremony:
    public = tuple(people[name].public_key for name in officers)
    roles = {n: RoleHolders(public, threshold, 365) for n in ("root", "targets", *products)}
    for role, name in (online or {role: role for role in DAYS}).items():
        roles[role] = RoleHolders((people[name].public_key,), 1, DAYS[role])
    return Ceremony(roles)


def publish_signed(
    feed: Path,
    draft: Draft,
    signers: Sequence[Signer],
    online: Mapping[str, Sequence[Signer]],
    place: Path,
    *,
    accept: bool = False,
) -> None:
    shutil.rmtree(place, ignore_errors=True)
    event = SigningEvent.create(place, draft.title, draft.roles, FeedDirectory(feed).read_state())
    for signer in signers:
        event.sign_drafts(signer, event.digest)
    Publisher(FeedDirectory(feed), clock).publish_event(event, [], online, accept)


TOO_FEW = [("amina",), ("amina", "bo"), ("amina", "dia"), ("bo", "dia"), ("bo", "chen")]
ACTS: dict[str, tuple[tuple[str, ...], int, tuple[str, ...], list[tuple[str, ...]]]] = {
    # name: (signers, threshold, who is enough, who is not)
    "bo leaves, dia comes": (("amina", "chen", "dia"), 2, ("amina", "chen"), TOO_FEW),
    "chen lost the key": (("amina", "bo", "eva"), 2, ("amina", "bo"), [("amina", "eva")]),
    "one signer more": (("amina", "bo", "chen", "dia"), 2, ("amina", "chen"), [("amina", "dia")]),
    "one signer less": (("amina", "bo"), 2, ("amina", "bo"), [("amina", "chen")]),
    "all must sign": (("amina", "bo", "chen"), 3, ("amina", "bo", "chen"), [("amina", "bo")]),
    "one is enough": (("amina", "bo", "chen"), 1, ("amina", "bo"), [("amina",)]),
    "bo's key is stolen": (
        ("amina", "chen", "dia"), 3, ("amina", "chen", "dia"),
        [("amina", "chen"), ("bo", "dia", "chen"), ("amina", "bo", "dia")],
    ),
    "all are replaced": (
        ("dia", "eva", "fu"), 2, ("amina", "bo", "dia", "eva"),
        [("dia", "eva", "fu"), ("amina", "bo", "chen"), ("amina", "dia", "eva")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("act", ACTS)
def test_signers_are_replaced(
    feed: Path, tmp_path: Path, site: Site, keys: FeedKeys, people: Mapping[str, Signer], act: str
) -> None:
    """Published only with the old threshold and the new one; every client goes along."""
    officers, threshold, enough, too_few = ACTS[act]
    draft = draft_key_change(
        FeedDirectory(feed).read_state(), ceremony(people, officers, threshold), NOW
    )
    before = contents(feed)
    for names in too_few:
        with refused(BELOW_THRESHOLD):
            signers = [people[name] for name in names]
            publish_signed(feed, draft, signers, keys.online, tmp_path / "event")
    assert contents(feed) == before
    signers = [people[name] for name in enough]
    publish_signed(feed, draft, signers, keys.online, tmp_path / "event")
    assert site.look()["root"] == 2
    assert Site(tmp_path / "new", feed).look() == site.look()
    renewal = draft_renewal(FeedDirectory(feed).read_state(), ["ncen"], NOW)
    gone = [people[name] for name in ("amina", "bo", "chen") if name not in officers]
    if gone:
        with pytest.raises(Exception, match="NU-7009"):
            publish_signed(feed, renewal, gone, keys.online, tmp_path / "event")


def test_role_short_of_signatures_is_drafted_as_well(
    feed: Path, people: Mapping[str, Signer]
) -> None:
    state = FeedDirectory(feed).read_state()
    assert draft_key_change(state, ceremony(people, ("amina", "bo", "dia")), NOW).roles.keys() == {
        "root", "targets",
    }  # fmt: skip
    stolen = draft_key_change(state, ceremony(people, ("amina", "chen", "dia")), NOW)
    assert stolen.roles.keys() == {"root", "targets", "ncen", "ncen-updater"}
    assert stolen.roles["ncen"].signed.targets == state.delegated["ncen"].signed.targets


def _fast_forward(feed: Path, evil: Path, roles: Mapping[str, Sequence[Signer]]) -> None:
    """Show a site what the holder of these keys can: the same feed with enormous versions."""
    shutil.copytree(feed, evil)
    state = FeedDirectory(feed).read_state()
    assert state.snapshot is not None
    assert state.timestamp is not None
    ncen: Metadata[Targets] = state.delegated["ncen"]
    snapshot: Metadata[Snapshot] = state.snapshot
    timestamp: Metadata[Timestamp] = state.timestamp
    far = 10**6
    if "ncen" in roles:
        ncen.signed.version = far
        snapshot.signed.meta["ncen.json"].version = far
    snapshot.signed.version = timestamp.signed.version = far
    timestamp.signed.snapshot_meta.version = far
    for role, metadata in (("ncen", ncen), ("snapshot", snapshot), ("timestamp", timestamp)):
        if role in roles:
            metadata.signatures.clear()
            for signer in roles[role]:
                metadata.sign(signer, append=True)
        name = "timestamp.json" if role == "timestamp" else f"{metadata.signed.version}.{role}.json"
        (evil / "metadata" / name).write_bytes(metadata.to_bytes())


def test_site_recovers_from_stolen_online_keys_and_a_fast_forward(
    feed: Path, tmp_path: Path, site: Site, keys: FeedKeys, people: Mapping[str, Signer]
) -> None:
    _fast_forward(feed, tmp_path / "evil", keys.online)
    assert site.look(tmp_path / "evil")["snapshot"] == 10**6
    with pytest.raises(BadVersionNumberError):
        site.look()
    new = {role: fresh_signer(tmp_path / "new", f"{role}-2") for role in DAYS}
    everybody = {**people, **{f"{role}-2": signer for role, signer in new.items()}}
    agreed = ceremony(everybody, online={role: f"{role}-2" for role in DAYS})
    draft = draft_key_change(FeedDirectory(feed).read_state(), agreed, NOW)
    assert draft.roles.keys() == {"root"}
    with refused(KEY_CHANGE_NOT_ATOMIC):
        publish_signed(
            feed, draft, keys.signers[:2], {r: [s] for r, s in new.items()}, tmp_path / "event"
        )
    both = {role: [keys.online[role][0], new[role]] for role in DAYS}
    publish_signed(feed, draft, keys.signers[:2], both, tmp_path / "event")
    assert site.look() == {"root": 2, "timestamp": 3, "snapshot": 3, "targets": 1, "ncen": 2}
    with pytest.raises(RepositoryError):
        site.look(tmp_path / "evil")


def test_stolen_product_threshold_is_replaced(
    feed: Path, tmp_path: Path, site: Site, keys: FeedKeys, people: Mapping[str, Signer]
) -> None:
    """Two signers' keys and the online keys are stolen, the root's threshold holds."""
    stolen = {**keys.online, "ncen": keys.signers[:2]}
    _fast_forward(feed, tmp_path / "evil", stolen)
    assert site.look(tmp_path / "evil")["ncen"] == 10**6
    new = {role: fresh_signer(tmp_path / "new", f"{role}-2") for role in DAYS}
    everybody = {**people, **{f"{role}-2": signer for role, signer in new.items()}}
    agreed = ceremony(everybody, ("chen", "dia", "eva"), online={r: f"{r}-2" for r in DAYS})
    draft = draft_key_change(FeedDirectory(feed).read_state(), agreed, NOW)
    signers = [*keys.signers, people["dia"], people["eva"]]
    fresh = {role: [signer] for role, signer in new.items()}
    publish_signed(feed, draft, signers, fresh, tmp_path / "event", accept=True)
    assert site.look() == {"root": 2, "timestamp": 3, "snapshot": 3, "targets": 2, "ncen": 3}
    with pytest.raises(RepositoryError):
        site.look(tmp_path / "evil")


def test_removed_product_cannot_return(
    feed: Path, tmp_path: Path, site: Site, keys: FeedKeys, people: Mapping[str, Signer]
) -> None:
    draft = draft_key_change(
        FeedDirectory(feed).read_state(), ceremony(people, products=["ncen"]), NOW
    )
    publish_signed(feed, draft, keys.signers[:2], keys.online, tmp_path / "event")
    assert site.look()["targets"] == 2
    state = FeedDirectory(feed).read_state()
    assert list(state.delegated) == ["ncen"]
    assert state.snapshot is not None
    assert "ncen-updater.json" in state.snapshot.signed.meta, "clients refuse a snapshot without"
    with refused(BAD_CEREMONY, match="existed before"):
        draft_key_change(state, ceremony(people), NOW)


def test_expired_feed_is_renewed_by_one_event(
    feed: Path, tmp_path: Path, site: Site, keys: FeedKeys
) -> None:
    later = NOW + timedelta(days=400)
    with pytest.raises(RepositoryError):
        site.look(now=later)
    one = draft_renewal(FeedDirectory(feed).read_state(), ["root"], later)
    with refused(PUBLISHER_ROLE_EXPIRED) as caught:
        publish_draft(feed, one, keys, lambda: later)
    assert caught.value.values["role"] == "targets, ncen-updater, ncen"
    everything = draft_renewal(FeedDirectory(feed).read_state(), OFFLINE, later)
    publish_draft(feed, everything, keys, lambda: later)
    assert site.look(now=later)["root"] == 2


def test_interrupted_online_key_change_is_completed_by_refresh(
    feed: Path, tmp_path: Path, site: Site, keys: FeedKeys, people: Mapping[str, Signer]
) -> None:
    """The new root is out, the timestamp is still that of the old key."""
    new = {role: [fresh_signer(tmp_path / "new", f"{role}-2")] for role in DAYS}
    everybody = {**people, **{f"{role}-2": signers[0] for role, signers in new.items()}}
    agreed = ceremony(everybody, online={role: f"{role}-2" for role in DAYS})
    draft = draft_key_change(FeedDirectory(feed).read_state(), agreed, NOW)
    old = (feed / "metadata" / "timestamp.json").read_bytes()
    publish_signed(feed, draft, keys.signers[:2], new, tmp_path / "event", accept=True)
    (feed / "metadata" / "timestamp.json").write_bytes(old)
    with pytest.raises(RepositoryError):
        site.look()
    assert "timestamp" in Publisher(FeedDirectory(feed), clock).refresh_online_roles(new).new_roles
    assert site.look()["root"] == 2
    forged = Metadata.from_bytes((feed / "metadata" / "timestamp.json").read_bytes())
    forged.signatures.clear()
    forged.sign(people["eva"])
    (feed / "metadata" / "timestamp.json").write_bytes(forged.to_bytes())
    with refused(FEED_BROKEN, match="last two roots"):
        Publisher(FeedDirectory(feed), clock).refresh_online_roles(new)


def test_timestamp_without_the_newest_root_is_due(feed: Path, keys: FeedKeys) -> None:
    """Killed between the new root and the timestamp: both verify, and a mirror could hide one."""
    timestamp = feed / "metadata" / "timestamp.json"
    old = timestamp.read_bytes()
    publish_draft(feed, draft_renewal(FeedDirectory(feed).read_state(), ["root"], NOW), keys, clock)
    timestamp.write_bytes(old)
    assert Publisher(FeedDirectory(feed), clock).refresh_online_roles(keys.online).new_roles == (
        "timestamp",
    )
    assert b'"x-ncen-root":2' in timestamp.read_bytes()


def test_missing_root_is_an_error(feed: Path, keys: FeedKeys) -> None:
    for _ in range(2):
        publish_draft(
            feed, draft_renewal(FeedDirectory(feed).read_state(), ["root"], NOW), keys, clock
        )
    (feed / "metadata" / "2.root.json").rename(feed / "2.root.json")
    with refused(FEED_BROKEN, match=r"\[1, 3\]"):
        FeedDirectory(feed).read_state()
    with refused(FEED_BROKEN):
        Publisher(FeedDirectory(feed), clock).refresh_online_roles(keys.online)


def test_root_signed_by_a_foreign_key_is_ignored(
    feed: Path, tmp_path: Path, keys: FeedKeys
) -> None:
    """A foreign root in the directory counts as damage, never as the newest root."""
    stranger = fresh_signer(tmp_path / "own", "mallory")
    root = FeedDirectory(feed).read_roots()[0]
    root.signed.version = 2
    root.signatures.clear()
    for signer in (stranger, keys.online["timestamp"][0], keys.signers[0]):
        root.sign(signer, append=True)
    (feed / "metadata" / "2.root.json").write_bytes(root.to_bytes())
    with refused(FEED_BROKEN, match="enough signers"):
        FeedDirectory(feed).read_state()
