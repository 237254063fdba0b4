"""Tests of a feed copy in a directory or object store: old or new for clients, never mixed."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demo.release_flow import publish_release
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    FEED_DIRECTORY_MISSING,
    KEY_CHANGE_NOT_ATOMIC,
    OTHER_FEED,
    STORAGE_AHEAD,
    STORAGE_DIFFERS,
    STORAGE_FAILED,
    STORAGE_INVALID,
    STORAGE_NO_CREDENTIALS,
)
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.http_fetcher import HttpFetcher
from ncen_updater.feed.tuf_source import TufReleaseSource
from ncen_updater.publisher.distribute.feed_upload import (
    IMMUTABLE_CACHE_CONTROL,
    MUTABLE_CACHE_CONTROL,
    DirectoryStorage,
    FeedStorage,
    ObjectStorage,
    open_storage,
    sort_for_upload,
    upload_feed,
)
from ncen_updater.publisher.distribute.publishing import Publisher
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import FeedKeys, create_feed
from tests.publisher.releases import NOW, clock, ring, write_release
from tests.support.errors import has_message, refused
from tests.support.forks import DEADLINE_S
from tests.support.http_server import WebServer
from tests.support.object_store import object_store


@pytest.fixture
def keys(tmp_path: Path) -> FeedKeys:
    return ring(tmp_path)


@pytest.fixture
def feed(tmp_path: Path, keys: FeedKeys) -> Path:
    create_feed(tmp_path / "feed", keys, clock)
    publish_release(tmp_path / "feed", [write_release(tmp_path / "r1")], keys, clock)
    return tmp_path / "feed"


def publish_next(feed: Path, keys: FeedKeys, work: Path, version: str = "3.4.0") -> None:
    publish_release(feed, [write_release(work / f"r-{version}", version)], keys, clock)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with object_store(monkeypatch) as url:
        yield url


def site_sees(work: Path, feed: Path, url: str) -> str:
    """The newest release that a new site finds at an address, fetched whole."""
    state = work / "site"
    shutil.rmtree(state, ignore_errors=True)
    source = TufReleaseSource(
        "ncen",
        state=state,
        trusted_root=feed / "metadata" / "1.root.json",
        make_fetcher=lambda: HttpFetcher((url,)),
        now=clock,
    )
    try:
        offers = source.refresh().offers
        for offer in offers:
            source.download_release(offer, SilentProgress())
        return offers[-1].version if offers else "none"
    finally:
        source.close()


class Breaks:
    """A place whose line breaks before or after its n-th write."""

    def __init__(self, place: FeedStorage, at: int, *, after: bool) -> None:
        self._place, self._at, self._after = place, at, after
        self.name = place.name
        self.writes = 0

    def list_sizes(self) -> Mapping[str, int]:
        return self._place.list_sizes()

    def read_object(self, name: str) -> bytes:
        return self._place.read_object(name)

    def compute_sha256(self, name: str) -> str:
        return self._place.compute_sha256(name)

    def write_object(self, name: str, source: Path) -> None:
        self.writes += 1
        if self.writes == self._at and not self._after:
            raise UpdaterError(STORAGE_FAILED, place=self.name, detail="the line broke")
        self._place.write_object(name, source)
        if self.writes == self._at:
            raise UpdaterError(STORAGE_FAILED, place=self.name, detail="the line broke")


def test_upload_interrupted_at_each_object_is_completed(
    feed: Path, keys: FeedKeys, tmp_path: Path, store: str
) -> None:
    place, url = ObjectStorage("s3://releases/ncen", store), f"{store}/releases/ncen"
    first = upload_feed(FeedDirectory(feed), place, SilentProgress())
    assert first.written[-1] == "metadata/timestamp.json"
    assert site_sees(tmp_path, feed, url) == "3.3.0"
    publish_next(feed, keys, tmp_path)
    at = 0
    while True:
        at += 1
        broken = Breaks(place, at, after=at % 2 == 0)
        try:
            done = upload_feed(FeedDirectory(feed), broken, SilentProgress())
            break
        except UpdaterError as error:
            assert has_message(error, STORAGE_FAILED)
            seen = site_sees(tmp_path, feed, url)
            # The last object is the timestamp; a line that breaks after it has done its work.
            assert seen in ("3.3.0", "3.4.0")
            assert (seen == "3.4.0") == ("metadata/timestamp.json" in _new(place, feed))
        # What was written stays, so each attempt comes at least one object further.
        assert at < 20
    assert site_sees(tmp_path, feed, url) == "3.4.0"
    assert set(done.written) <= set(sort_for_upload(place.list_sizes(), root_last=False))
    again = upload_feed(FeedDirectory(feed), place, SilentProgress())
    assert again.written == ()
    assert again.unchanged == len(place.list_sizes())


def _new(place: FeedStorage, feed: Path) -> list[str]:
    name = "metadata/timestamp.json"
    return [name] if place.read_object(name) == (feed / name).read_bytes() else []


def test_clients_see_a_valid_feed_after_each_object(
    feed: Path, keys: FeedKeys, tmp_path: Path, store: str
) -> None:
    """From the same beginning each time, so that every prefix of the order is seen by a client."""
    old = tmp_path / "old"
    shutil.copytree(feed, old)
    publish_next(feed, keys, tmp_path)
    fresh = len(list(feed.rglob("*.*"))) - len(list(old.rglob("*.*"))) + 1  # and the timestamp
    for at in range(1, fresh + 1):
        place = ObjectStorage(f"s3://releases/{at}", store)
        upload_feed(FeedDirectory(old), place, SilentProgress())
        with refused(STORAGE_FAILED):
            upload_feed(FeedDirectory(feed), Breaks(place, at, after=True), SilentProgress())
        seen = site_sees(tmp_path, feed, f"{store}/releases/{at}")
        assert seen == ("3.4.0" if at == fresh else "3.3.0")


def test_objects_have_their_headers(feed: Path, store: str) -> None:
    upload_feed(FeedDirectory(feed), ObjectStorage("s3://releases/ncen", store), SilentProgress())

    def headers(name: str) -> dict[str, str]:
        with urllib.request.urlopen(f"{store}/releases/ncen/{name}", timeout=DEADLINE_S) as answer:
            return {key.lower(): value for key, value in answer.headers.items()}

    changing, fixed = headers("metadata/timestamp.json"), headers("metadata/1.root.json")
    assert (changing["cache-control"], changing["content-type"]) == (
        MUTABLE_CACHE_CONTROL,
        "application/json",
    )
    assert fixed["cache-control"] == IMMUTABLE_CACHE_CONTROL
    archive = next(p for p in feed.rglob("*.tar.gz")).relative_to(feed)
    assert headers(str(archive))["cache-control"] == IMMUTABLE_CACHE_CONTROL
    with pytest.raises(urllib.error.HTTPError) as caught:
        headers("metadata/2.root.json")
    with caught.value as answer:
        assert answer.code == 404


def test_missing_store_is_reported(feed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with object_store(monkeypatch) as url:
        nowhere = ObjectStorage("s3://no-such-bucket/ncen", url)
        with refused(STORAGE_FAILED) as caught:
            upload_feed(FeedDirectory(feed), nowhere, SilentProgress())
        assert "no-such-bucket" in str(caught.value)


def test_missing_credentials_are_reported(
    feed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with object_store(monkeypatch) as url:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with refused(STORAGE_NO_CREDENTIALS) as caught:
            upload_feed(
                FeedDirectory(feed), ObjectStorage("s3://releases/ncen", url), SilentProgress()
            )
    assert caught.value.detail is None


def test_system_error_is_reported_without_its_number(feed: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with refused(STORAGE_FAILED) as caught:
        upload_feed(
            FeedDirectory(feed), DirectoryStorage(tmp_path / "taken/mirror"), SilentProgress()
        )
    detail = caught.value.detail or ""
    assert detail.startswith(f"file '{tmp_path}")
    assert detail.endswith(": File exists")


def test_feed_is_copied_to_a_directory(feed: Path, keys: FeedKeys, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    place = DirectoryStorage(mirror)
    upload_feed(FeedDirectory(feed), place, SilentProgress())
    with WebServer(mirror) as server:
        assert site_sees(tmp_path, feed, server.url) == "3.3.0"
        publish_next(feed, keys, tmp_path)
        done = upload_feed(FeedDirectory(feed), place, SilentProgress())
        assert site_sees(tmp_path, feed, server.url) == "3.4.0"
    assert [name.rpartition(".")[0] for name in done.written if "metadata" in name] == [
        "metadata/3.ncen", "metadata/3.snapshot", "metadata/timestamp",
    ]  # fmt: skip
    assert done.timestamp == 3


def test_newer_or_diverged_copy_is_not_overwritten(
    feed: Path, keys: FeedKeys, tmp_path: Path
) -> None:
    place = DirectoryStorage(tmp_path / "mirror")
    upload_feed(FeedDirectory(feed), place, SilentProgress())
    old = tmp_path / "old"
    shutil.copytree(feed, old)
    publish_next(feed, keys, tmp_path)
    upload_feed(FeedDirectory(feed), place, SilentProgress())
    before = {name: place.read_object(name) for name in place.list_sizes()}
    with refused(STORAGE_AHEAD):
        upload_feed(FeedDirectory(old), place, SilentProgress())
    stale = tmp_path / "stale"
    shutil.copytree(feed, stale)
    Publisher(FeedDirectory(feed), lambda: NOW + timedelta(days=2)).refresh_online_roles(
        keys.online
    )
    upload_feed(FeedDirectory(feed), place, SilentProgress())
    before = {name: place.read_object(name) for name in place.list_sizes()}
    with refused(STORAGE_AHEAD):  # nothing but the timestamp is older
        upload_feed(FeedDirectory(stale), place, SilentProgress())
    other = ring(tmp_path / "others")
    create_feed(tmp_path / "foreign", other, clock)
    with refused(OTHER_FEED):
        upload_feed(FeedDirectory(tmp_path / "foreign"), place, SilentProgress())
    fork = tmp_path / "fork"
    shutil.copytree(old, fork)
    publish_next(fork, keys, tmp_path, "3.5.0")
    with refused(STORAGE_AHEAD):
        upload_feed(FeedDirectory(fork), place, SilentProgress())
    assert {name: place.read_object(name) for name in place.list_sizes()} == before


def test_other_metadata_in_place_of_the_timestamp_is_refused(feed: Path, tmp_path: Path) -> None:
    place = DirectoryStorage(tmp_path / "mirror")
    upload_feed(FeedDirectory(feed), place, SilentProgress())
    place.write_object("metadata/timestamp.json", feed / "metadata" / "1.snapshot.json")
    with refused(STORAGE_AHEAD):
        upload_feed(FeedDirectory(feed), place, SilentProgress())


def test_altering_storage_is_detected(feed: Path, keys: FeedKeys, tmp_path: Path) -> None:
    place = DirectoryStorage(tmp_path / "mirror")
    upload_feed(FeedDirectory(feed), place, SilentProgress())
    publish_next(feed, keys, tmp_path)

    class Compresses(DirectoryStorage):
        def write_object(self, name: str, source: Path) -> None:
            super().write_object(name, source)
            if name.endswith(".json"):
                path = tmp_path / "mirror" / name
                path.write_bytes(path.read_bytes() + b" ")

    with refused(STORAGE_DIFFERS):
        upload_feed(FeedDirectory(feed), Compresses(tmp_path / "mirror"), SilentProgress())
    with WebServer(tmp_path / "mirror") as server:
        assert site_sees(tmp_path, feed, server.url) == "3.3.0"
        upload_feed(FeedDirectory(feed), place, SilentProgress())
        assert site_sees(tmp_path, feed, server.url) == "3.4.0"


def test_changed_online_keys_are_uploaded_in_a_safe_order(
    feed: Path, keys: FeedKeys, tmp_path: Path
) -> None:
    """Both keys have signed: the timestamp goes before the root. One has not: nothing is safe."""
    from ncen_updater.publisher.new.trial import create_keys, publish_draft
    from ncen_updater.publisher.signing.ceremony import Ceremony, RoleHolders
    from ncen_updater.publisher.signing.draft import draft_key_change
    from tests.publisher.releases import PASSPHRASE

    fresh = create_keys(tmp_path / "new-keys", PASSPHRASE).online
    state = FeedDirectory(feed).read_state()
    public = tuple(signer.public_key for signer in keys.signers)
    roles = {r: RoleHolders(public, 2, 365) for r in ("root", "targets", "ncen", "ncen-updater")}
    for role, signers in fresh.items():
        days = state.policy.expiry_days[role]
        roles[role] = RoleHolders(tuple(s.public_key for s in signers), 1, days)
    place = DirectoryStorage(tmp_path / "mirror")
    upload_feed(FeedDirectory(feed), place, SilentProgress())
    behind = DirectoryStorage(tmp_path / "behind")
    upload_feed(FeedDirectory(feed), behind, SilentProgress())
    both = {role: (*keys.online[role], *fresh[role]) for role in fresh}
    publish_draft(
        feed, draft_key_change(state, Ceremony(roles), NOW), replace(keys, online=both), clock
    )
    with WebServer(tmp_path / "mirror") as server:
        for at in range(1, 4):
            with refused(STORAGE_FAILED):
                upload_feed(FeedDirectory(feed), Breaks(place, 1, after=True), SilentProgress())
            assert site_sees(tmp_path, feed, server.url) == "3.3.0", at
        assert upload_feed(FeedDirectory(feed), place, SilentProgress()).written == ()
        assert site_sees(tmp_path, feed, server.url) == "3.3.0"
    # The other place missed that step, and the newest timestamp knows the new key only.
    Publisher(FeedDirectory(feed), lambda: NOW + timedelta(hours=1)).refresh_online_roles(fresh)
    with refused(KEY_CHANGE_NOT_ATOMIC):
        upload_feed(FeedDirectory(feed), behind, SilentProgress())
    upload_feed(FeedDirectory(feed), behind, SilentProgress(), accept_interruption=True)


def test_upload_order_is_safe() -> None:
    names = [
        "metadata/timestamp.json", "metadata/10.root.json", "metadata/2.root.json",
        "metadata/3.snapshot.json", "metadata/4.targets.json", "metadata/7.ncen.json",
        "metadata/12.ncen-updater.json", "targets/a", "targets/b/c.json", "index.html",
        "metadata/x.root.json", "metadata/1.timestamp.json", "metadata/.1.root.json.partial",
    ]  # fmt: skip
    expected = [
        "targets/a", "targets/b/c.json", "metadata/7.ncen.json", "metadata/12.ncen-updater.json",
        "metadata/4.targets.json", "metadata/3.snapshot.json", "metadata/2.root.json",
        "metadata/10.root.json", "metadata/timestamp.json",
    ]  # fmt: skip
    assert sort_for_upload(names, root_last=False) == expected
    last = [*expected[:6], "metadata/timestamp.json", *expected[6:8]]
    assert sort_for_upload(names, root_last=True) == last


@pytest.mark.parametrize(
    "address", ["", "s3://", "s3:///", "s3:/wco/ncen", "s3:wco", "ftp://host/x", "https://host/x"]
)
def test_invalid_addresses_are_refused(address: str) -> None:
    with refused(STORAGE_INVALID):
        open_storage(address)


def test_mistyped_feed_path_is_not_created(tmp_path: Path) -> None:
    """Seen: an empty directory, which every later command called a feed that is not whole."""
    feed = FeedDirectory(tmp_path / "fed")
    with refused(FEED_DIRECTORY_MISSING):
        upload_feed(feed, DirectoryStorage(tmp_path / "place"), SilentProgress())
    with refused(FEED_DIRECTORY_MISSING):
        Publisher(feed, clock).refresh_online_roles(ring(tmp_path).online)
    later: Any = SimpleNamespace(base={"ncen": None})  # an event that is not a feed's first
    with refused(FEED_DIRECTORY_MISSING):
        Publisher(feed, clock).publish_event(later, [], ring(tmp_path / "again").online)
    assert not feed.directory.exists()
