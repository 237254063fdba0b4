"""Tests of a release by delta pack, end to end: signed feed, web server, source, slots."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

from ncen_updater.agent.engine.slot_builder import (
    ARCHIVE_SOURCE,
    build_slot,
    list_slot_trees,
)
from ncen_updater.agent.storage.slots.store import SlotStore
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.progress import Amount, SilentProgress
from ncen_updater.feed import download_store as downloads
from ncen_updater.feed.http_fetcher import HttpFetcher
from ncen_updater.feed.offers import DownloadedPack, DownloadedRelease
from ncen_updater.feed.tuf_source import TufReleaseSource
from ncen_updater.formats.release_document import Offer
from tests.support.http_server import Fault, WebServer, serving
from tests.support.packs import FIRST, SECOND, THIRD, PackFeed

PACK = f"{FIRST}--{SECOND}"


class RecordingProgress:
    """Records reported progress."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        self.lines.append(text.render())


class Place:
    """A site that runs the first release, and what it is served."""

    def __init__(self, root: Path, feed: PackFeed, server: WebServer) -> None:
        self.root, self.feed, self.server = root, feed, server
        self.store = SlotStore(root / "slots", root / "current")
        self.heard = RecordingProgress()

    def source(self) -> TufReleaseSource:
        """A source as a restarted agent has it."""
        return TufReleaseSource(
            "ncen",
            state=self.root / "state",
            trusted_root=self.feed.root,
            make_fetcher=lambda: HttpFetcher((self.server.url,), attempts=2, sleep=lambda _: None),
        )

    def offer(self, version: str) -> Offer:
        """The offer of a version, freshly read."""
        (offer,) = [o for o in self.source().refresh().offers if o.version == version]
        return offer

    def install(self, version: str) -> None:
        """Bring a release here and let the site run it; only then count requests."""
        self.obtain(version)
        self.store.switch_current(Version(version))
        self.server.requests.clear()

    def obtain(self, version: str) -> str:
        """Fetch, then build as a later process would; return what it was built from."""
        offer, held = self.offer(version), list_slot_trees(self.store)
        self.source().download_smallest(offer, held, self.heard)
        source = self.source()
        fetched = source.find_smallest_download(offer, held)
        assert fetched is not None
        return build_slot(self.store, source, offer, fetched, held, self.heard)

    def asked(self) -> list[str]:
        """Last parts of the names of the targets that were asked for, without digests."""
        paths = [path for path in self.server.paths() if "/targets/" in path]
        return [path.rpartition("/")[2].partition(".")[2] for path in paths]

    def whole(self, version: str) -> bool:
        """Whether the slot stands as released."""
        return self.store.verify_slot(Version(version)) == ()


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> PackFeed:
    return PackFeed(tmp_path_factory.mktemp("feed"), (FIRST, SECOND, THIRD))


@pytest.fixture
def place(tmp_path: Path, feed: PackFeed) -> Iterator[Place]:
    with serving(feed.directory) as server:
        made = Place(tmp_path / "site", feed, server)
        made.install(FIRST)
        yield made


def test_delta_pack_is_downloaded_instead_of_the_archive(place: Place) -> None:
    assert place.obtain(SECOND) == f"deltas/ncen/{PACK}"
    assert place.asked() == [f"{SECOND}.json", PACK]
    assert place.whole(SECOND)
    assert place.whole(FIRST)
    assert (
        place.store.get_slot_directory(Version(SECOND)) / "app/run"
    ).stat().st_mode & 0o777 == 0o555


def test_first_release_is_downloaded_as_an_archive(place: Place) -> None:
    assert place.store.read_document(Version(FIRST)).deltas == ()
    assert place.store.list_versions() == (Version(FIRST),)


def test_release_may_be_skipped(place: Place) -> None:
    assert place.obtain(THIRD) == f"deltas/ncen/{FIRST}--{THIRD}"
    assert place.asked() == [f"{THIRD}.json", f"{FIRST}--{THIRD}"]
    assert place.whole(THIRD)


def test_any_installed_slot_may_be_the_base(place: Place) -> None:
    """After a rollback the newer slot remains; the smaller pack may start from it."""
    place.install(SECOND)
    place.store.switch_current(Version(FIRST))
    document = place.obtain(THIRD)
    assert document in {f"deltas/ncen/{FIRST}--{THIRD}", f"deltas/ncen/{SECOND}--{THIRD}"}
    assert place.whole(THIRD)


def test_altered_slot_file_falls_back_to_the_archive(place: Place) -> None:
    data = place.store.get_slot_directory(Version(FIRST)) / "app/data.bin"
    data.chmod(0o644)
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    assert place.obtain(SECOND) == ARCHIVE_SOURCE
    assert place.whole(SECOND)
    assert f"ncen-{SECOND}.tar.gz" in place.asked()
    (said,) = [line for line in place.heard.lines if "not used (NU-" in line]
    assert "NU-3157" in said
    assert place.source().list_bad_packs(place.offer(SECOND)) == {f"deltas/ncen/{PACK}": "NU-3157"}


def test_rejected_pack_is_not_downloaded_again(place: Place) -> None:
    offer, held = place.offer(SECOND), list_slot_trees(place.store)
    fetched = place.source().download_smallest(offer, held, SilentProgress())
    assert isinstance(fetched, DownloadedPack)
    place.source().mark_pack_bad(offer, fetched.ref, AnyError())
    assert not fetched.path.exists()
    place.server.requests.clear()
    again = place.source().download_smallest(offer, held, SilentProgress())
    assert not isinstance(again, DownloadedPack)
    assert PACK not in place.asked()
    place.source().discard_release(offer)
    again = place.source().download_smallest(offer, held, SilentProgress())
    assert isinstance(again, DownloadedPack)


@pytest.mark.parametrize(
    "fault",
    [Fault(PACK, status=404), Fault(PACK, body=b"x" * 999)],
    ids=["missing in the mirror", "other bytes"],
)
def test_pack_with_wrong_bytes_falls_back_to_the_archive(place: Place, fault: Fault) -> None:
    place.server.faults.append(fault)
    assert place.obtain(SECOND) == ARCHIVE_SOURCE
    assert place.whole(SECOND)
    assert any("not used (NU-" in line for line in place.heard.lines)


def test_pack_with_a_false_result_falls_back_to_the_archive(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a pack does: what comes out is compared with the signed tree."""
    from ncen_updater.formats.delta import apply

    right = apply.apply_pack

    def other(*args: object, **kwargs: object) -> object:
        tree = right(*args, **kwargs)  # type: ignore[arg-type]
        last, place = tree.entries[-1], args[3]
        assert isinstance(place, Path)
        (place / last.path).unlink()  # so that tree and files agree with each other
        return tree.model_copy(update={"entries": tree.entries[:-1]})

    monkeypatch.setattr(apply, "apply_pack", other)
    assert place.obtain(SECOND) == ARCHIVE_SOURCE
    assert place.whole(SECOND)
    assert not place.store.list_leftovers()


def test_missing_capability_falls_back_to_the_archive(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer, held = place.offer(SECOND), list_slot_trees(place.store)
    fetched = place.source().download_smallest(offer, held, SilentProgress())
    assert isinstance(fetched, DownloadedPack)
    needing = fetched.ref.model_copy(update={"needs": ("a-thing-of-the-future",)})
    document = fetched.document.model_copy(update={"deltas": (needing,)})
    monkeypatch.setattr(downloads.DownloadStore, "load_document", lambda *_: document)
    place.source().discard_release(offer)
    place.server.requests.clear()
    assert isinstance(
        place.source().download_smallest(offer, held, SilentProgress()), DownloadedRelease
    )
    assert PACK not in place.asked()
    monkeypatch.setattr(downloads, "list_capabilities", lambda: {"a-thing-of-the-future"})
    place.source().discard_release(offer)
    assert isinstance(
        place.source().download_smallest(offer, held, SilentProgress()), DownloadedPack
    )


def test_nearly_complete_archive_is_preferred_to_a_pack(place: Place) -> None:
    offer, held = place.offer(SECOND), list_slot_trees(place.store)
    length = offer.archive.length
    place.server.faults.append(Fault(".tar.gz", times=1, cut_after=length - 100))
    place.server.faults.append(Fault(".tar.gz", status=500))
    source = place.source()
    with pytest.raises(Exception, match=r"tar\.gz"):
        source.download_release(offer, SilentProgress())
    place.server.faults.clear()
    again = place.source().download_smallest(offer, held, SilentProgress())
    assert not isinstance(again, DownloadedPack)
    assert PACK not in place.asked()


KILLED = """
import os, signal, sys
from pathlib import Path
from ncen_updater.feed.http_fetcher import HttpFetcher
from ncen_updater.feed.tuf_source import TufReleaseSource

state, root, url, digest = sys.argv[1:]
source = TufReleaseSource("ncen", state=Path(state), trusted_root=Path(root),
    make_fetcher=lambda: HttpFetcher((url,), attempts=2, sleep=lambda _: None))

class Kill:
    def report(self, what, amount=None):
        if "--" in what.render() and amount:
            os.kill(os.getpid(), signal.SIGKILL)

(offer,) = [o for o in source.refresh().offers if o.version == "3.3.0"]
source.download_smallest(offer, [digest], Kill())
"""


def test_killed_pack_download_resumes(place: Place) -> None:
    pack = place.feed.served(PACK)
    (digest,) = list_slot_trees(place.store)
    argv = [str(place.root / "state"), str(place.feed.root), place.server.url, digest]
    ended = subprocess.run([sys.executable, "-c", KILLED, *argv], check=False)
    assert ended.returncode == -signal.SIGKILL
    partial = place.root / f"state/downloads/ncen/{SECOND}/.{PACK}.partial"
    # What was not flushed may be lost; give it a part, as after a kill in the middle.
    partial.write_bytes(pack.read_bytes()[:100])
    place.server.requests.clear()
    assert place.obtain(SECOND) == f"deltas/ncen/{PACK}"
    (request,) = [r for r in place.server.requests if PACK in r.path]
    assert request.range == "bytes=100-"
    assert place.whole(SECOND)


class AnyError(UpdaterError):
    """Any error."""

    code = "NU-3150"
