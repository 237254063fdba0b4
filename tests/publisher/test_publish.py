"""Nothing below its threshold is published, and a killed publication leaves a whole feed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater  # type: ignore[attr-defined]

from ncen_updater.publisher.build import build_release
from ncen_updater.publisher.ceremony import Ceremony, RoleHolders
from ncen_updater.publisher.drafting import (
    draft_first,
    draft_keys,
    draft_releases,
    draft_renewal,
)
from ncen_updater.publisher.errors import (
    BadEvent,
    BadSignature,
    BelowThreshold,
    DigestMismatch,
    DuplicateKey,
    FeedBroken,
    FeedBusy,
    KeyNotAllowed,
    NotAtomic,
    PublisherError,
    RoleLapsed,
    StaleEvent,
    TargetMissing,
    WriteFailed,
)
from ncen_updater.publisher.event import Event
from ncen_updater.publisher.feed import DurableWriter, Feed
from ncen_updater.publisher.keys import new_key, open_signer
from ncen_updater.publisher.publish import Publisher
from ncen_updater.publisher.release_flow import KeyRing, make_feed, publish_draft, publish_release
from tests.publisher.releases import NOW, PASSPHRASE, clock, ring, write_release


class _Files(FetcherInterface):
    """The feed directory as a client fetches it."""

    def __init__(self, feed: Path) -> None:
        self._feed = feed

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self._feed / url.removeprefix("file:///")
        if not path.is_file():
            raise DownloadHTTPError("not there", 404)
        return iter([path.read_bytes()])


def client_sees(feed: Path, site: Path, trusted: Path) -> str:
    """The newest release that a real client finds, with its archive downloaded and verified."""
    shutil.rmtree(site, ignore_errors=True)
    (site / "metadata").mkdir(parents=True)
    (site / "targets").mkdir()
    shutil.copy(trusted, site / "metadata" / "root.json")
    updater = Updater(
        metadata_dir=str(site / "metadata"),
        metadata_base_url="file:///metadata/",
        target_dir=str(site / "targets"),
        target_base_url="file:///targets/",
        fetcher=_Files(feed),
    )
    updater._trusted_set.reference_time = NOW
    updater.refresh()
    for version in ("3.4.0", "3.3.0"):
        found = updater.get_targetinfo(f"ncen-{version}.tar.gz")
        if found is not None:
            updater.download_target(found)
            document = updater.get_targetinfo(f"releases/ncen/{version}.json")
            assert document is not None
            updater.download_target(document)
            return version
    return "none"


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


def drafted(feed: Path, staging: Path, place: Path) -> Event:
    state = Feed(feed).state()
    draft = draft_releases(state, staging, NOW)
    return Event.create(place, draft.title, draft.roles, state)


def contents(feed: Path) -> dict[str, bytes]:
    return {str(p.relative_to(feed)): p.read_bytes() for p in feed.rglob("*") if p.is_file()}


def fresh_signer(directory: Path, name: str) -> Signer:
    pair = new_key(directory, name, PASSPHRASE)
    return open_signer(pair.private, lambda _: PASSPHRASE)


def test_one_of_two_signatures(feed: Path, staged: Path, tmp_path: Path, keys: KeyRing) -> None:
    event = drafted(feed, staged, tmp_path / "event")
    before = contents(feed)
    publisher = Publisher(Feed(feed), clock)
    for officers in ([], keys.officers[:1], [keys.officers[0], keys.officers[0]]):
        for officer in officers:
            event.sign(officer, event.digest)
        with pytest.raises(BelowThreshold) as caught:
            publisher.publish(event, [staged], keys.online)
        assert "bo" in str(caught.value.values["missing"])
    assert contents(feed) == before
    event.sign(keys.officers[2], event.digest)
    publisher.publish(event, [staged], keys.online)
    assert client_sees(feed, tmp_path / "site", feed / "metadata/1.root.json") == "3.4.0"


def test_signatures_that_do_not_count(
    feed: Path, staged: Path, tmp_path: Path, keys: KeyRing
) -> None:
    event = drafted(feed, staged, tmp_path / "event")
    before = contents(feed)
    stranger = fresh_signer(tmp_path / "strange", "mallory")
    with pytest.raises(KeyNotAllowed):
        event.sign(stranger, event.digest)
    with pytest.raises(KeyNotAllowed):
        event.sign(keys.online["timestamp"][0], event.digest)
    with pytest.raises(DigestMismatch):
        event.sign(keys.officers[0], "0" * 64)
    with pytest.raises(DigestMismatch):
        event.sign(keys.officers[0], event.digest[:15])
    good = event.sign(keys.officers[0], event.digest)[0]
    answer = json.loads(good.read_bytes())
    other = keys.officers[1].public_key.keyid
    cases: list[tuple[dict[str, object], type[PublisherError]]] = [
        ({"keyid": other}, BadSignature),
        ({"keyid": stranger.public_key.keyid}, KeyNotAllowed),
        ({"sig": "00" * 64}, BadSignature),
        ({"digest": "0" * 64}, DigestMismatch),
        ({"version": 9}, DigestMismatch),
        ({"role": "root"}, BadEvent),
        ({"sig": "zz"}, BadEvent),
    ]
    forged = tmp_path / "forged.json"
    for change, expected in cases:
        forged.write_text(json.dumps({**answer, **change}))
        with pytest.raises(expected):
            event.merge(forged)
        # Put there behind the program's back, it stops the publication as well.
        planted = event.directory / "sig" / "planted.json"
        shutil.copy(forged, planted)
        with pytest.raises(expected):
            Publisher(Feed(feed), clock).publish(event, [staged], keys.online)
        planted.unlink()
    assert contents(feed) == before


def test_a_draft_changed_after_it_was_made(
    feed: Path, staged: Path, tmp_path: Path, keys: KeyRing
) -> None:
    event = drafted(feed, staged, tmp_path / "event")
    for officer in keys.officers[:2]:
        event.sign(officer, event.digest)
    path = event.directory / "draft" / "ncen.json"
    path.write_text(path.read_text().replace("3.4.0", "3.5.0"))
    with pytest.raises(DigestMismatch):
        Event.load(event.directory)


def test_an_event_that_the_feed_has_left_behind(
    feed: Path, staged: Path, tmp_path: Path, keys: KeyRing
) -> None:
    event = drafted(feed, staged, tmp_path / "event")
    for officer in keys.officers[:2]:
        event.sign(officer, event.digest)
    publish_draft(feed, draft_renewal(Feed(feed).state(), ["ncen"], NOW), keys, clock)
    with pytest.raises(StaleEvent):
        Publisher(Feed(feed), clock).publish(event, [staged], keys.online)


def test_target_files_are_hashed_again(
    feed: Path, staged: Path, tmp_path: Path, keys: KeyRing
) -> None:
    event = drafted(feed, staged, tmp_path / "event")
    for officer in keys.officers[:2]:
        event.sign(officer, event.digest)
    archive = staged / "targets" / "ncen-3.4.0.tar.gz"
    content = archive.read_bytes()
    archive.write_bytes(content[:-1] + b"!")
    before = contents(feed)
    with pytest.raises(TargetMissing):
        Publisher(Feed(feed), clock).publish(event, [staged], keys.online)
    with pytest.raises(TargetMissing):
        Publisher(Feed(feed), clock).publish(event, [], keys.online)
    assert contents(feed) == before


def test_a_lapsed_role_and_a_second_publisher(feed: Path, keys: KeyRing) -> None:
    state = Feed(feed).state()
    late = NOW + timedelta(days=366)
    with pytest.raises(RoleLapsed):
        publish_draft(feed, draft_renewal(state, ["ncen"], late), keys, lambda: late)
    with Feed(feed).lock(), pytest.raises(FeedBusy):
        Publisher(Feed(feed), clock).refresh(keys.online)


def test_the_same_key_under_two_ids(tmp_path: Path, keys: KeyRing) -> None:
    first = keys.officers[0].public_key
    data = first.to_dict() | {"x-ncen-keyowner": "twin"}
    twin = type(first).from_dict("f" * 64, data)
    officers = RoleHolders((first, twin), 2, 365)
    online = {r: RoleHolders((keys.online[r][0].public_key,), 1, 7) for r in keys.online}
    with pytest.raises(DuplicateKey):
        Ceremony({"root": officers, "targets": officers, "ncen": officers, **online})


class _Stops(DurableWriter):
    """Kills its process before, in the middle of, or after the n-th write."""

    def __init__(self, at: int, end: Callable[[], None]) -> None:
        self._left, self._end = at, end

    def put(self, path: Path, content: bytes) -> None:
        self._count()
        super().put(path, content)

    def copy(self, path: Path, source: Path) -> None:
        self._count()
        super().copy(path, source)

    def _count(self) -> None:
        if self._left == 0:
            self._end()
        self._left -= 1


def _kill_in_child(run: Callable[[], object]) -> int:
    """Run in a forked process that may be killed; return how it ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_at_every_write(feed: Path, staged: Path, tmp_path: Path, keys: KeyRing) -> None:
    """Before each write: the old feed. After the last: the new one. The same call completes."""
    event = drafted(feed, staged, tmp_path / "event")
    for officer in keys.officers[:2]:
        event.sign(officer, event.digest)
    trusted = feed / "metadata/1.root.json"
    seen = []
    for at in range(20):
        copy = tmp_path / f"feed{at}"
        shutil.copytree(feed, copy)
        status = _kill_in_child(
            lambda copy=copy, at=at: Publisher(Feed(copy), clock, _Stops(at, _die)).publish(  # type: ignore[misc]
                event, [staged], keys.online
            )
        )
        seen.append(client_sees(copy, tmp_path / "site", trusted))
        if not os.WIFSIGNALED(status):
            break
        Publisher(Feed(copy), clock).publish(event, [staged], keys.online)
        assert client_sees(copy, tmp_path / "site", trusted) == "3.4.0"
    assert seen == ["3.3.0"] * 6 + ["3.4.0"]  # three targets, role, snapshot, timestamp


def test_killed_at_random_system_calls(
    feed: Path, staged: Path, tmp_path: Path, keys: KeyRing
) -> None:
    """SIGKILL wherever a line of the writing code happens to be; seeded."""
    event = drafted(feed, staged, tmp_path / "event")
    for officer in keys.officers[:2]:
        event.sign(officer, event.digest)
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
                if name.endswith(("durable.py", "publish.py", "feed.py")):
                    count[0] -= 1
                    if count[0] <= 0:
                        _die()
                return trace

            sys.settrace(trace)  # type: ignore[arg-type]
            Publisher(Feed(copy), clock).publish(event, [staged], keys.online)

        status = _kill_in_child(run)
        outcome = client_sees(copy, tmp_path / "site", trusted)
        assert outcome in ("3.3.0", "3.4.0")
        outcomes.add((outcome, os.WIFSIGNALED(status)))
        Publisher(Feed(copy), clock).publish(event, [staged], keys.online)
        assert client_sees(copy, tmp_path / "site", trusted) == "3.4.0"
    assert ("3.3.0", True) in outcomes


def test_a_first_publication_that_was_killed(tmp_path: Path, keys: KeyRing) -> None:
    feed = tmp_path / "feed"
    public = tuple(s.public_key for s in keys.officers)
    roles = {n: RoleHolders(public, 2, 365) for n in ("root", "targets", "ncen")}
    roles |= {r: RoleHolders((keys.online[r][0].public_key,), 1, 7) for r in keys.online}
    draft = draft_first(Ceremony(roles), NOW)
    event = Event.create(tmp_path / "event", draft.title, draft.roles, None)
    for officer in keys.officers[:2]:
        event.sign(officer, event.digest)
    for at in range(5):
        shutil.rmtree(feed, ignore_errors=True)
        status = _kill_in_child(
            lambda at=at: Publisher(Feed(feed), clock, _Stops(at, _die)).publish(  # type: ignore[misc]
                event, [], keys.online
            )
        )
        assert os.WIFSIGNALED(status)
        assert not Feed(feed).exists
    other = draft_first(Ceremony(roles), NOW + timedelta(seconds=5))
    foreign = Event.create(tmp_path / "foreign", other.title, other.roles, None)
    for officer in keys.officers[:2]:
        foreign.sign(officer, foreign.digest)
    with pytest.raises(StaleEvent):
        Publisher(Feed(feed), clock).publish(foreign, [], keys.online)
    Publisher(Feed(feed), clock).publish(event, [], keys.online)
    assert client_sees(feed, tmp_path / "site", feed / "metadata/1.root.json") == "none"


def test_a_full_disk(feed: Path, staged: Path, tmp_path: Path, keys: KeyRing) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    event = drafted(feed, staged, tmp_path / "event")
    for officer in keys.officers[:2]:
        event.sign(officer, event.digest)
    with pytest.raises(WriteFailed) as caught:
        Publisher(Feed(feed), clock, _Stops(4, full)).publish(event, [staged], keys.online)
    assert caught.value.exit_code == 8
    assert client_sees(feed, tmp_path / "site", feed / "metadata/1.root.json") == "3.3.0"


def _ceremony(officers: tuple[Signer, ...], online: Mapping[str, Signer]) -> Ceremony:
    public = tuple(signer.public_key for signer in officers)
    roles = {n: RoleHolders(public, 2, 365) for n in ("root", "targets", "ncen", "ncen-updater")}
    days = {"snapshot": 30, "timestamp": 7}
    roles |= {r: RoleHolders((s.public_key,), 1, days[r]) for r, s in online.items()}
    return Ceremony(roles)


def test_a_new_root_needs_the_old_officers(feed: Path, tmp_path: Path, keys: KeyRing) -> None:
    """A root that only its own new officers signed, though enough of them, is not published."""
    new = tuple(fresh_signer(tmp_path / "new", name) for name in ("dia", "eva", "fu"))
    online = {role: signers[0] for role, signers in keys.online.items()}
    state = Feed(feed).state()
    draft = draft_keys(state, _ceremony(new, online), NOW)
    root_only = replace(draft, roles={"root": draft.roles["root"]})
    before = contents(feed)
    with pytest.raises(BelowThreshold):
        publish_draft(feed, root_only, replace(keys, officers=new), clock)
    with pytest.raises(BelowThreshold):
        publish_draft(feed, root_only, replace(keys, officers=(new[0], keys.officers[0])), clock)
    assert contents(feed) == before


def test_only_the_old_root_is_missing(feed: Path, tmp_path: Path, keys: KeyRing) -> None:
    """Everything else verifies: the new officers hold the root alone, and they all signed it."""
    new = tuple(fresh_signer(tmp_path / "new", name) for name in ("dia", "eva", "fu"))
    online = {role: signers[0] for role, signers in keys.online.items()}
    roles = dict(_ceremony(keys.officers, online).roles)
    roles["root"] = RoleHolders(tuple(signer.public_key for signer in new), 2, 365)
    draft = draft_keys(Feed(feed).state(), Ceremony(roles), NOW)
    assert list(draft.roles) == ["root"]
    before = contents(feed)
    with pytest.raises(BelowThreshold):
        publish_draft(feed, draft, replace(keys, officers=new, threshold=3), clock)
    mixed = (*keys.officers[:1], *new)
    with pytest.raises(BelowThreshold):
        publish_draft(feed, draft, replace(keys, officers=mixed, threshold=4), clock)
    only_old = replace(keys, threshold=3)
    with pytest.raises(BelowThreshold):
        publish_draft(feed, draft, only_old, clock)
    assert contents(feed) == before
    both = replace(keys, officers=(*keys.officers[:2], *new[:2]), threshold=4)
    assert publish_draft(feed, draft, both, clock).versions["root"] == 2
    assert client_sees(feed, tmp_path / "site", feed / "metadata/1.root.json") == "3.3.0"


def test_one_role_in_the_place_of_another(tmp_path: Path, keys: KeyRing) -> None:
    """The same officers hold both, so the signatures alone would fit."""
    feed = tmp_path / "feed"
    make_feed(feed, keys, clock)
    metadata = feed / "metadata"
    shutil.copy(metadata / "1.ncen.json", metadata / "1.ncen-updater.json")
    with pytest.raises(FeedBroken):
        Feed(feed).state()


def test_other_online_keys_with_and_without_the_old(
    feed: Path, tmp_path: Path, keys: KeyRing
) -> None:
    """Killed at every write while the online keys change, a client always finds a valid feed."""
    fresh = {role: fresh_signer(tmp_path / "new", f"{role}-2") for role in keys.online}
    state = Feed(feed).state()
    draft = draft_keys(state, _ceremony(keys.officers, fresh), NOW)
    event = Event.create(tmp_path / "event", draft.title, draft.roles, state)
    for officer in keys.officers[:2]:
        event.sign(officer, event.digest)
    only_new = {role: (signer,) for role, signer in fresh.items()}
    both = {role: (*keys.online[role], signer) for role, signer in fresh.items()}
    before = contents(feed)
    with pytest.raises(NotAtomic):
        Publisher(Feed(feed), clock).publish(event, [], only_new)
    assert contents(feed) == before
    trusted = feed / "metadata/1.root.json"
    ends = 0
    for at in range(10):
        copy = tmp_path / f"copy{at}"
        shutil.copytree(feed, copy)
        status = _kill_in_child(
            lambda copy=copy, at=at: Publisher(Feed(copy), clock, _Stops(at, _die)).publish(  # type: ignore[misc]
                event, [], both
            )
        )
        assert client_sees(copy, tmp_path / "site", trusted) == "3.3.0"
        if not os.WIFSIGNALED(status):
            assert status == 0
            assert Feed(copy).state().root.signed.version == 2
            ends = at
            break
    assert ends == 3  # snapshot, timestamp, and the root last
    accepted = Publisher(Feed(feed), clock).publish(event, [], only_new, accept_interruption=True)
    assert accepted.versions["root"] == 2
    assert client_sees(feed, tmp_path / "site", tmp_path / "copy0/metadata/1.root.json") == "3.3.0"


def test_refresh_signs_a_timestamp_and_later_a_snapshot(feed: Path, keys: KeyRing) -> None:
    publisher = Publisher(Feed(feed), lambda: NOW + timedelta(days=3))
    assert publisher.refresh(keys.online).new_roles == ("timestamp",)
    later = Publisher(Feed(feed), lambda: NOW + timedelta(days=20))
    assert later.refresh(keys.online).new_roles == ("snapshot", "timestamp")
    wrong = {role: (CryptoSigner.generate_ed25519(),) for role in keys.online}
    with pytest.raises(KeyNotAllowed):
        later.refresh(wrong)
