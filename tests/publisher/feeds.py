"""Helpers for tests of a feed: read it as a client does, draft, sign, and die while writing."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Signer
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater  # type: ignore[attr-defined]

from ncen_updater.formats.manifest import Channel
from ncen_updater.formats.rollout import ReleaseHalt
from ncen_updater.publisher.feed.feed_directory import DurableWriter, FeedDirectory, FeedState
from ncen_updater.publisher.signing.ceremony import Ceremony, RoleHolders
from ncen_updater.publisher.signing.draft import (
    Draft,
    OfferSubject,
    draft_offer_change,
    draft_releases,
)
from ncen_updater.publisher.signing.keys import create_key, open_signer
from ncen_updater.publisher.signing.signing_event import SigningEvent
from tests.publisher.releases import NOW, PASSPHRASE


class FeedFiles(FetcherInterface):
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
        fetcher=FeedFiles(feed),
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


def drafted(feed: Path, staging: Path, place: Path) -> SigningEvent:
    state = FeedDirectory(feed).read_state()
    draft = draft_releases(state, staging, NOW)
    return SigningEvent.create(place, draft.title, draft.roles, state)


def contents(feed: Path) -> dict[str, bytes]:
    return {str(p.relative_to(feed)): p.read_bytes() for p in feed.rglob("*") if p.is_file()}


def fresh_signer(directory: Path, name: str) -> Signer:
    pair = create_key(directory, name, PASSPHRASE)
    return open_signer(pair.private, lambda _: PASSPHRASE)


class Stops(DurableWriter):
    """Kills its process before, in the middle of, or after the n-th write."""

    def __init__(self, at: int, end: Callable[[], None]) -> None:
        self._left, self._end = at, end

    def write_file(self, path: Path, content: bytes) -> None:
        self._count()
        super().write_file(path, content)

    def copy_file(self, path: Path, source: Path, sha256: str) -> None:
        self._count()
        super().copy_file(path, source, sha256)

    def _count(self) -> None:
        if self._left == 0:
            self._end()
        self._left -= 1


def kill_in_child(run: Callable[[], object]) -> int:
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


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ceremony_of(officers: tuple[Signer, ...], online: Mapping[str, Signer]) -> Ceremony:
    public = tuple(signer.public_key for signer in officers)
    roles = {n: RoleHolders(public, 2, 365) for n in ("root", "targets", "ncen", "ncen-updater")}
    days = {"snapshot": 30, "timestamp": 7}
    roles |= {r: RoleHolders((s.public_key,), 1, days[r]) for r, s in online.items()}
    return Ceremony(roles)


def make_halt(
    state: FeedState, product: str, version: str, halt: ReleaseHalt, now: datetime
) -> Draft:
    return draft_offer_change(state, product, version, OfferSubject.HALT, {"halted": halt}, now)


def make_halt_end(state: FeedState, product: str, version: str, now: datetime) -> Draft:
    return draft_offer_change(state, product, version, OfferSubject.HALT_END, {"halted": None}, now)


def make_channel(
    state: FeedState, product: str, version: str, channel: Channel, now: datetime
) -> Draft:
    return draft_offer_change(
        state, product, version, OfferSubject.CHANNEL, {"channel": channel}, now
    )


def make_audience(
    state: FeedState, product: str, version: str, countries: Sequence[str], now: datetime
) -> Draft:
    changes = {"countries": tuple(sorted(set(countries)))}
    return draft_offer_change(state, product, version, OfferSubject.COUNTRIES, changes, now)
