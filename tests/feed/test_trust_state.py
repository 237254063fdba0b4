"""Tests of the trust state: a compromised reading process cannot roll metadata back.

The attacker has everything that the process that reads the feed can write to, and keys that were
revoked, or none at all. The site is the real one: its reader is a child, its memory lies in the
state directory.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from ncen_updater.agent.adapters.feed_reader.worker_source import WorkerReleaseSource
from ncen_updater.agent.config.loader import load_config
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.json_records import compute_sha256, encode_canonical_json
from ncen_updater.common.messages import (
    DOWNLOAD_NOT_VERIFIED,
    LOCAL_STORE_FAILED,
    METADATA_NOT_VERIFIED,
    METADATA_OLDER_THAN_TRUSTED,
    MIXED_VERSIONS,
    ROLE_EXPIRED,
    TRUST_STATE_DAMAGED,
    ErrorMessage,
)
from ncen_updater.common.progress import SilentProgress
from ncen_updater.common.workers import Worker
from ncen_updater.feed.offers import DownloadedRelease
from ncen_updater.feed.trust_state import (
    RoleVerification,
    TrustState,
    TrustStateStore,
    VerifiedRole,
    VerifiedSet,
    record_roles,
    record_verified_set,
)
from ncen_updater.formats.release_document import Offer
from ncen_updater.formats.target_names import ISSUE_TIME_FIELD
from tests.badinput.hostile import typed
from tests.feed.test_reader_unit import CONFIG
from tests.support import workers
from tests.support.forks import workers_place
from tests.support.http_server import WebServer
from tests.support.rotation import in_turns
from tests.support.tuf_repository import Feed

PRODUCTS = ("ncen", "ncen-updater")


def both(test: Callable[..., None]) -> Callable[..., None]:
    """Of the application's product and of the agent's; in a whole run of one of them."""
    of_each = pytest.mark.parametrize("product", PRODUCTS)(test)
    marked: Callable[..., None] = in_turns("product")(of_each)
    return marked


@dataclass
class Place:
    """A site over a real feed, whose reader is a child of its own."""

    feed: Feed
    config: Path

    @property
    def received(self) -> Path:
        """All that the attacker can write to."""
        return self.config.parent / "received"

    @property
    def grace(self) -> timedelta:
        """The grace of metadata that may have been imported."""
        return timedelta(days=load_config(self.config).feed.offline_grace_days)

    @property
    def memory(self) -> Path:
        """What they cannot."""
        return self.config.parent / "state/trust-state.json"

    def source(self, product: str) -> WorkerReleaseSource:
        """As a fresh process."""
        return WorkerReleaseSource(load_config(self.config), self.config, product)

    def rotate(self, *roles: str) -> dict[str, list[CryptoSigner]]:
        """New keys for everything but root, as after a theft; returns the old ones."""
        feed, stolen = self.feed, dict(self.feed.signers)
        root, targets = feed.roles["root"], feed.roles["targets"]
        for role in roles or ("targets", "snapshot", "timestamp", *PRODUCTS):
            owner = targets if role in PRODUCTS else root
            for signer in feed.signers[role]:
                owner.revoke_key(signer.public_key.keyid, role)
            feed.signers[role] = [CryptoSigner.generate_ed25519() for _ in stolen[role]]
            for signer in feed.signers[role]:
                owner.add_key(signer.public_key, role)
        feed.rotate_root()
        feed.publish()
        return stolen


@pytest.fixture(autouse=True)
def forked_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers that are forked: what they are judged by is what they leave on the disk."""
    monkeypatch.setattr(Worker, "build_command", workers.forked(workers_place()))


@pytest.fixture
def place(feed: Feed, server: WebServer, tmp_path: Path) -> Place:
    feed.add_release("1.0.0", product="ncen-updater")
    feed.publish()
    feed.trusted_root(tmp_path / "root.json")
    config = tmp_path / "agent.toml"
    text = CONFIG.format(url=server.url, root=tmp_path).replace('runner = "systemd"\n', "")
    config.write_text(text)
    return Place(feed, config)


def _refused(do: Callable[[], object]) -> ErrorMessage:
    error = typed(do)
    assert isinstance(error, UpdaterError), "it was taken"
    return error.message


def _read(
    source: WorkerReleaseSource, version: str | None = None
) -> tuple[Offer, DownloadedRelease]:
    offers = source.refresh().offers
    offer = offers[-1] if version is None else next(o for o in offers if o.version == version)
    return offer, source.download_release(offer, SilentProgress())


def _saved(place: Place, name: str) -> Path:
    kept = place.config.parent / name
    shutil.copytree(place.received, kept)
    return kept


def _put_back(place: Place, kept: Path) -> None:
    shutil.rmtree(place.received)
    shutil.copytree(kept, place.received)


@both
def test_metadata_of_revoked_keys_is_refused(place: Place, product: str) -> None:
    """All keys but root's were stolen; signers rotated them, and this site knows it."""
    source = place.source(product)
    source.refresh()
    stolen = place.rotate()
    source.refresh()
    assert place.source(product).load_last_view() is not None
    # The attacker, with these keys alone: a release of their own, and no root after the first.
    feed, old = place.feed, place.feed.roles["root"]
    feed.signers.update(stolen)
    delegations = feed.roles["targets"].delegations
    for name in PRODUCTS:
        for keyid in list(delegations.roles[name].keyids):
            feed.roles["targets"].revoke_key(keyid, name)
        for signer in stolen[name]:
            feed.roles["targets"].add_key(signer.public_key, name)
    feed.add_release("9.0.0", product=product, content={"bin/app": b"evil"})
    feed.publish()
    assert old.version == 2
    lists = place.received / "metadata"
    shutil.rmtree(lists / "root_history")
    shutil.copyfile(feed.metadata / "1.root.json", lists / "root.json")
    for role in ("targets", product, "snapshot"):
        version = feed.roles[role].version
        shutil.copyfile(feed.metadata / f"{version}.{role}.json", lists / f"{role}.json")
    shutil.copyfile(feed.metadata / "timestamp.json", lists / "timestamp.json")
    fresh = place.config.parent / "anew"
    shutil.move(place.memory.parent, fresh)  # what a site without a memory does: it takes them
    view = place.source(product).load_last_view()
    assert view is not None
    assert view.offers[-1].version == "9.0.0"
    shutil.rmtree(place.memory.parent)
    shutil.move(fresh, place.memory.parent)
    assert _refused(place.source(product).load_last_view) is METADATA_NOT_VERIFIED
    left = place.received / "downloads" / product / "9.0.0"
    left.mkdir(parents=True)
    (left / "verified.json").write_text(json.dumps({"length": 1, "sha256": "0" * 64}))
    assert (
        _refused(lambda: place.source(product).find_downloaded_release(view.offers[-1]))
        is DOWNLOAD_NOT_VERIFIED
    )


@both
@pytest.mark.parametrize("field", ["withdrawn", "halted"])
def test_withdrawn_release_cannot_be_restored_by_replay(
    place: Place, product: str, field: str
) -> None:
    """No key at all: the attacker puts everything back as it was before."""
    source = place.source(product)
    offer, release = _read(source)
    kept = _saved(place, "before")
    name = f"releases/{product}/{offer.version}.json"
    custom = place.feed.roles[product].targets[name].unrecognized_fields["custom"]
    said = {"reason": "it loses records"} | ({"advice": "wait"} if field == "withdrawn" else {})
    custom["ncen"][field] = said
    place.feed.publish()
    view = source.refresh()
    assert getattr(view.offers[-1], field) is not None
    _put_back(place, kept)
    assert _refused(place.source(product).load_last_view) is METADATA_OLDER_THAN_TRUSTED
    assert (
        _refused(lambda: place.source(product).find_downloaded_release(offer))
        is METADATA_OLDER_THAN_TRUSTED
    )
    # An honest reader heals it.
    assert getattr(place.source(product).refresh().offers[-1], field) is not None
    assert release.archive.is_file()


@both
def test_reader_clock_affects_no_other_process(place: Place, product: str) -> None:
    source = place.source(product)
    source.refresh()
    before = datetime.now(UTC)
    (place.received / "clock.json").write_text('{"floor": "2090-01-01T00:00:00+00:00"}')
    assert place.source(product).get_reference_time() < before + timedelta(days=1)


@both
def test_signed_time_is_the_clock_floor(place: Place, product: str) -> None:
    """Where the system clock is behind, what signers signed holds, whatever the reader has."""
    signed = (datetime.now(UTC) + timedelta(days=2)).replace(microsecond=0)
    place.feed.roles[product].unrecognized_fields[ISSUE_TIME_FIELD] = signed.isoformat()
    place.feed.publish()
    place.source(product).refresh()
    (place.received / "clock.json").unlink()
    assert place.source(product).get_reference_time() == signed


@both
def test_feed_summary_of_the_reader_is_not_trusted(place: Place, product: str) -> None:
    """The stored summary names an unsigned release, without expiry."""
    source = place.source(product)
    offer, _ = _read(source)  # verified twice: the first does not tell whether it was imported
    path = place.received / "feed" / f"{product}.json"
    data = json.loads(path.read_text())
    forged = offer.model_copy(update={"required": True, "version": "9.0.0"})
    data["offers"] = [forged.model_dump(mode="json")]
    data["expires_at"], data["version"] = "2090-01-01T00:00:00+00:00", 99
    path.write_text(json.dumps(data))
    view = place.source(product).load_last_view()
    assert view is not None
    assert view.offers == (offer,)
    assert view.version == place.feed.roles[product].version
    lapses = place.feed.roles["timestamp"].expires
    assert view.expires_at == lapses
    TrustStateStore(place.memory.parent).update(
        lambda before: replace(before, offline_timestamp_version=before.roles["timestamp"].version)
    )
    again = place.source(product).load_last_view()
    assert again is not None
    assert again.expires_at == lapses + place.grace


@both
def test_newer_snapshot_with_older_targets_keeps_the_earlier_expiry(
    place: Place, product: str
) -> None:
    """The reader may be interrupted between the two; the earlier expiry remains then."""
    source = place.source(product)
    source.refresh()
    kept = (place.received / f"metadata/{product}.json").read_bytes()
    lapses = place.feed.roles["timestamp"].expires
    assert source.refresh().expires_at == lapses
    place.feed.now += timedelta(days=300)  # the reader's list in our own form says so, too
    place.feed.publish()
    place.source(product)._ask_worker({"act": "refresh"}, None)
    newest = (place.received / f"metadata/{product}.json").read_bytes()
    (place.received / f"metadata/{product}.json").write_bytes(kept)
    view = place.source(product).load_last_view()
    assert view is not None
    assert view.expires_at == lapses
    (place.received / f"metadata/{product}.json").write_bytes(newest)
    assert place.source(product).load_last_view() is not None
    (place.received / f"metadata/{product}.json").write_bytes(kept)
    assert _refused(place.source(product).load_last_view) is METADATA_OLDER_THAN_TRUSTED


def test_metadata_never_verified_together_is_refused(place: Place) -> None:
    source = place.source("ncen")
    source.refresh()
    kept = (place.received / "metadata/ncen.json").read_bytes()
    place.feed.publish()
    source.refresh()
    place.memory.unlink()
    (place.received / "metadata/ncen.json").write_bytes(kept)
    assert _refused(place.source("ncen").load_last_view) is MIXED_VERSIONS


def test_reader_without_new_metadata_does_not_extend_expiry(place: Place, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """It claims that it verified the metadata just now, and it expired."""
    source = place.source("ncen")
    source.refresh()
    monkeypatch.setattr(WorkerReleaseSource, "_ask_worker", lambda *_: {})
    source._trust_state.now = lambda: datetime.now(UTC) + timedelta(days=8)
    assert _refused(source.refresh) is ROLE_EXPIRED


@both
def test_rotated_keys_are_followed(place: Place, product: str) -> None:
    """Also back from versions raised by a thief; no other role goes back by that."""
    for role in ("targets", *PRODUCTS, "snapshot", "timestamp"):
        place.feed.roles[role].version = 10_000
    place.feed.publish()
    source = place.source(product)
    source.refresh()
    for role in ("targets", *PRODUCTS, "snapshot", "timestamp"):
        place.feed.roles[role].version = 7
    place.rotate()
    view = source.refresh()
    assert view.version == 8
    proved = TrustStateStore(place.memory.parent).load()
    assert proved.root_version == 2
    assert proved.roles[product].version == 8


@both
def test_installed_root_of_a_newer_package_is_used(place: Place, product: str) -> None:
    place.source(product).refresh()
    place.rotate("targets")
    shutil.copyfile(place.feed.metadata / "2.root.json", place.config.parent / "root.json")
    assert place.source(product).refresh().offers
    assert TrustStateStore(place.memory.parent).load().root_version == 2


@both
def test_older_site_without_a_trust_state_creates_it(place: Place, product: str) -> None:
    offer, release = _read(place.source(product))
    for file in place.memory.parent.iterdir():
        file.unlink()
    assert place.source(product).find_downloaded_release(offer) == release
    assert place.memory.exists()


@in_turns("damage")
@pytest.mark.parametrize("damage", ["cut", "turned", "empty", "other", "directory"])
def test_damaged_trust_state_is_reported_and_not_replaced(place: Place, damage: str) -> None:
    source = place.source("ncen")
    offer, _ = _read(source)
    content = place.memory.read_bytes()
    place.memory.unlink()
    if damage == "directory":
        place.memory.mkdir()
    else:
        place.memory.write_bytes(
            {
                "cut": content[:-20],
                "turned": content.replace(b'"version":', b'"wersion":', 1),
                "empty": b"",
                "other": encode_canonical_json(
                    {"schema": 1, "trust_state": {"x": 1}, "sha256": "0"}
                ),
            }[damage]
        )
    before = None if damage == "directory" else place.memory.read_bytes()
    for ask in (
        source.load_last_view,
        source.get_reference_time,
        source.refresh,
        lambda: source.find_downloaded_release(offer),
    ):
        assert _refused(ask) is TRUST_STATE_DAMAGED
    assert damage == "directory" or place.memory.read_bytes() == before


def test_unsaved_trust_state_verifies_nothing(place: Place) -> None:
    """What is relied on is on the disk before."""
    source = place.source("ncen")
    state = place.memory.parent
    state.parent.joinpath("state").write_bytes(b"")  # a file in the place of the directory
    assert _refused(source.refresh) is LOCAL_STORE_FAILED


AT = datetime(2029, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def _seen(version: int, signers: str = "ab", issued: datetime | None = AT) -> VerifiedRole:
    return VerifiedRole(version, tuple(signers), issued)


@pytest.mark.parametrize(
    ("name", "before", "found", "keys", "taken"),
    [
        ("first", None, _seen(1), "ab", True),
        ("same", _seen(5), _seen(5), "ab", True),
        ("newer", _seen(5), _seen(6), "ab", True),
        ("newer by number, earlier by time", _seen(5), _seen(6, issued=AT - DAY), "ab", True),
        ("older", _seen(5), _seen(4, issued=AT - DAY), "ab", False),
        ("older by number, later by time", _seen(5), _seen(4, issued=AT + DAY), "ab", False),
        ("a key was added: who signed the one seen still may", _seen(5), _seen(4), "abc", False),
        ("a key was taken away", _seen(5), _seen(4, "ac", AT + DAY), "ac", True),
        ("the same, signed earlier", _seen(5), _seen(4, "ac", AT - DAY), "ac", False),
        ("the same, which says no time", _seen(5), _seen(4, "ac", None), "ac", False),
        ("a thief signed ahead", _seen(5, issued=AT + 300 * DAY), _seen(4, "cd"), "cd", True),
        ("neither says a time", _seen(5, issued=None), _seen(4, "cd", None), "cd", True),
    ],
)
def test_newer_role_versions_are_accepted(
    name: str, before: VerifiedRole | None, found: VerifiedRole, keys: str, taken: bool
) -> None:
    memory = TrustState(roles={} if before is None else {"ncen": before, "targets": _seen(9)})
    proof = RoleVerification(found, frozenset(keys), 2)
    error = typed(lambda: record_roles(memory, {"ncen": proof}, AT + 2 * DAY))
    assert (error is None) is taken, name
    if taken:
        after = record_roles(memory, {"ncen": proof}, AT + 2 * DAY)
        assert after.roles == {**memory.roles, "ncen": found}


def test_signed_time_only_increases() -> None:
    whole = VerifiedSet(3, AT)
    first = record_verified_set(TrustState(), "ncen", whole, AT)
    assert first.clock_floor == AT
    assert record_verified_set(first, "ncen", whole, AT - DAY) == first
    assert record_verified_set(first, "ncen", whole, None) == first
    assert record_verified_set(first, "ncen-updater", whole, AT + DAY).clock_floor == AT + DAY


def test_trust_state_file_has_a_checksum(tmp_path: Path) -> None:
    memory = TrustStateStore(tmp_path / "state")
    memory.update(lambda before: record_verified_set(before, "ncen", VerifiedSet(3, AT), AT))
    data = json.loads((tmp_path / "state/trust-state.json").read_text())
    assert data["sha256"] == compute_sha256(encode_canonical_json(data["trust_state"]))
    assert TrustStateStore(tmp_path / "state").load().clock_floor == AT


def test_mirror_made_older_is_refused(place: Place, tmp_path: Path) -> None:
    """As an attacker in the process that makes it would; a root that is newer is walked to."""
    for product in PRODUCTS:
        place.source(product).refresh()
    source, older = place.source("ncen"), tmp_path / "older"
    shutil.copytree(place.feed.directory, older)
    source.require_fresh_mirror(older)
    place.feed.publish()
    source.refresh()
    assert _refused(lambda: source.require_fresh_mirror(older)) is METADATA_OLDER_THAN_TRUSTED
    place.rotate()
    before = TrustStateStore(place.memory.parent).load()
    source.require_fresh_mirror(place.feed.directory)
    assert TrustStateStore(place.memory.parent).load() == before, (
        "this site has not these lists yet"
    )
    (place.feed.metadata / "2.root.json").unlink()
    assert (
        _refused(lambda: source.require_fresh_mirror(place.feed.directory)) is METADATA_NOT_VERIFIED
    )


def test_product_removed_from_the_feed_does_not_block_a_mirror(
    place: Place, tmp_path: Path
) -> None:
    """The mirror has no metadata of it any more, and this site verified some."""
    for product in PRODUCTS:
        place.source(product).refresh()
    gone = place.feed.roles["ncen-updater"].version
    place.feed.roles["targets"].delegations.roles.pop("ncen-updater")
    place.feed.publish("targets", "ncen")
    mirror = tmp_path / "mirror"
    shutil.copytree(place.feed.directory, mirror)
    listed = mirror / f"metadata/{gone}.ncen-updater.json"
    listed.unlink()
    place.source("ncen").require_fresh_mirror(mirror)
    # One that is in the feed has to be there.
    (mirror / f"metadata/{place.feed.roles['ncen'].version}.ncen.json").unlink()
    assert (
        _refused(lambda: place.source("ncen").require_fresh_mirror(mirror)) is METADATA_NOT_VERIFIED
    )


def test_imported_metadata_has_a_longer_grace_but_cannot_be_older(place: Place) -> None:
    source = place.source("ncen")
    source.refresh()
    kept = _saved(place, "before")
    assert TrustStateStore(place.memory.parent).load().offline_timestamp_version is None
    source.verify_import()
    memory = TrustStateStore(place.memory.parent).load()
    assert memory.offline_timestamp_version == place.feed.roles["timestamp"].version
    place.feed.publish()
    lapses = place.feed.roles["timestamp"].expires
    assert source.refresh().expires_at == lapses, "that came over the line"
    _put_back(place, kept)
    assert _refused(place.source("ncen").verify_import) is METADATA_OLDER_THAN_TRUSTED
