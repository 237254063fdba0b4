"""A whole release through a real web server, and what stays usable without it."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    FEED_UNREACHABLE,
    OFFER_CHANGED,
    OFFER_INVALID,
    OFFER_WITHDRAWN,
    TREE_MISMATCH,
    VIEW_DAMAGED,
    WRONG_PRODUCT,
)
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed import download_store as downloads
from ncen_updater.feed.errors import DocumentMismatchError
from ncen_updater.feed.feed_summary import get_view_path, read_feed_summary
from ncen_updater.formats.archive import unpack_archive
from ncen_updater.formats.release_document import TargetRef
from tests.feed.conftest import Agent
from tests.support.errors import refused
from tests.support.http_server import Fault, WebServer
from tests.support.tuf_repository import Feed


def test_release_is_listed_and_downloaded(agent: Agent, server: WebServer, feed: Feed) -> None:
    source = agent.source(server.url)
    assert source.load_last_view() is None
    view = source.refresh()
    assert [offer.version for offer in view.offers] == ["3.3.0"]
    assert view.expires_at == feed.roles["timestamp"].expires
    assert view.version == feed.roles["ncen"].version
    assert source.find_downloaded_release(view.offers[0]) is None
    release = source.download_release(view.offers[0], SilentProgress())
    assert release.tree.compute_digest() == release.document.tree_digest
    assert release.archive.read_bytes() == feed.served(release.document.archive).read_bytes()
    assert source.find_downloaded_release(view.offers[0]) == release


def test_downloaded_release_needs_no_network(agent: Agent, server: WebServer) -> None:
    source = agent.source(server.url)
    offer = source.refresh().offers[0]
    release = source.download_release(offer, SilentProgress())
    agent.offset += timedelta(days=4000)
    asked = len(server.requests)
    later = agent.source(server.url)
    view = later.load_last_view()
    assert view is not None
    assert view.offers == (offer,)
    assert later.find_downloaded_release(offer) == release
    assert later.download_release(offer, SilentProgress()) == release
    assert len(server.requests) == asked


def test_only_a_changed_file_is_downloaded_again(agent: Agent, server: WebServer) -> None:
    source = agent.source(server.url)
    offer = source.refresh().offers[0]
    release = source.download_release(offer, SilentProgress())
    good = release.archive.read_bytes()
    release.archive.write_bytes(good[:-1] + b"!")
    assert source.find_downloaded_release(offer) is None
    server.requests.clear()
    assert source.download_release(offer, SilentProgress()).archive.read_bytes() == good
    assert [path for path in server.paths() if "targets" in path] == [
        f"/targets/{offer.archive.sha256}.ncen-3.3.0.tar.gz"
    ]


def test_import_does_not_parse_the_tree(
    agent: Agent, server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = agent.source(server.url)
    offer = source.refresh().offers[0]
    with monkeypatch.context() as patch:
        patch.setattr(downloads, "read_tree", lambda *_: pytest.fail("it takes memory"))
        source.download_files(offer, None, SilentProgress())
        asked = len(server.requests)
        source.download_files(offer, [], SilentProgress())  # whole, and hashed again
        assert len(server.requests) == asked
    release = source.find_downloaded_release(offer)
    assert release is not None
    assert release.tree.compute_digest() == release.document.tree_digest


def test_discard_leaves_nothing(agent: Agent, server: WebServer) -> None:
    source = agent.source(server.url)
    offer = source.refresh().offers[0]
    release = source.download_release(offer, SilentProgress())
    source.discard_release(offer)
    assert not release.archive.parent.exists()
    assert source.find_downloaded_release(offer) is None
    source.discard_release(offer)


def test_last_view_loads_without_heavy_libraries(agent: Agent, server: WebServer) -> None:
    agent.source(server.url).refresh()
    code = (
        "import sys, pathlib; from ncen_updater.feed.feed_summary import *;"
        "view = read_feed_summary(get_view_path(pathlib.Path(sys.argv[1]), 'ncen'));"
        "assert view.versions == ('3.3.0',), view;"
        "heavy = {'tuf', 'tufup', 'requests', 'pydantic', 'packaging'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, str(agent.state)], check=True)
    code = (
        "import sys, pathlib; from ncen_updater.feed.tuf_source import TufReleaseSource;"
        "root = pathlib.Path(sys.argv[1]);"
        "source = TufReleaseSource('ncen', state=root, trusted_root=root, make_fetcher=None);"
        "assert len(source.load_last_view().offers) == 1;"
        "heavy = {'tuf', 'tufup', 'requests'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, str(agent.state)], check=True)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b'{"schema": 9}'])
def test_damaged_last_view_is_reported_and_replaced(
    agent: Agent, server: WebServer, content: bytes
) -> None:
    source = agent.source(server.url)
    source.refresh()
    path = get_view_path(agent.state, "ncen")
    path.write_bytes(content)
    with refused(VIEW_DAMAGED):
        source.load_last_view()
    with refused(VIEW_DAMAGED):
        read_feed_summary(path)
    source.refresh()
    assert source.load_last_view() is not None


def test_release_withdrawn_before_its_download_is_refused(
    agent: Agent, server: WebServer, feed: Feed
) -> None:
    offer = agent.source(server.url).refresh().offers[0]
    feed.add_release(
        "3.3.0",
        manifest={"upgrade_from": ">=3.2"},
        change_offer=lambda o: o.update(withdrawn={"reason": "loses photographs"}),
    )
    feed.publish()
    with refused(OFFER_WITHDRAWN):
        agent.source(server.url).download_release(offer, SilentProgress())
    assert not (agent.state / "downloads/ncen").exists()


def test_other_release_under_the_same_version_is_refused(
    agent: Agent, server: WebServer, feed: Feed
) -> None:
    offer = agent.source(server.url).refresh().offers[0]
    feed.add_release("3.3.0", content={"other": b"other"})
    feed.publish()
    with refused(OFFER_CHANGED):
        agent.source(server.url).download_release(offer, SilentProgress())


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"product": "other"}, "product 'other'"),
        ({"version": "3.3.1"}, "ncen 3.3.1"),
        ({"upgrade_from": "nonsense"}, "specifier"),
        (
            {"archive": {"target": "ncen-3.3.0.tar.gz", "length": 1, "sha256": "0" * 64}},
            "archive does not match",
        ),
        ({"archive": {"target": "x", "length": 1, "sha256": "0" * 64}}, "archive is x"),
    ],
)
def test_offer_contradicting_its_metadata_is_refused(
    agent: Agent, server: WebServer, feed: Feed, change: dict[str, object], detail: str
) -> None:
    feed.add_release("3.3.0", change_offer=lambda offer: offer.update(change))
    feed.publish()
    with refused(OFFER_INVALID, WRONG_PRODUCT, match=detail):
        agent.source(server.url).refresh()
    assert agent.source(server.url).load_last_view() is None


def test_release_needs_a_sha256_digest(agent: Agent, server: WebServer, feed: Feed) -> None:
    signed = feed.roles["ncen"].targets["releases/ncen/3.3.0.json"]
    signed.hashes = {"sha512": "0" * 128}
    feed.publish()
    with refused(OFFER_INVALID, match="SHA-256"):
        agent.source(server.url).refresh()


def test_document_contradicting_its_offer_is_refused(
    agent: Agent, server: WebServer, feed: Feed
) -> None:
    feed.add_release("3.3.0", change_offer=lambda offer: offer.update(upgrade_from=">=1"))
    feed.publish()
    source = agent.source(server.url)
    with pytest.raises(DocumentMismatchError, match="upgrade_from"):
        source.download_release(source.refresh().offers[0], SilentProgress())


def _resigned(feed: Feed, **changes: object) -> None:
    """Sign 3.3.0 with a document that differs in some fields from the files."""
    built = feed.add_release("3.3.0")
    document = built.document.model_copy(update=changes)
    offer = document.to_offer().model_dump(mode="json", exclude_none=True)
    feed.add_file("ncen", "releases/ncen/3.3.0.json", document.to_canonical_json(), {"ncen": offer})
    feed.publish()


@pytest.mark.parametrize(
    "changes",
    [{"tree_bytes": 10}, {"tree_bytes": 10**6}, {"tree_digest": "0" * 64}, {"unpacked_bytes": 1}],
    ids=lambda c: "-".join(map(str, c.items())),
)
def test_tree_contradicting_its_document_is_refused(
    agent: Agent, server: WebServer, feed: Feed, changes: dict[str, object]
) -> None:
    _resigned(feed, **changes)
    source = agent.source(server.url)
    with refused(TREE_MISMATCH):
        source.download_release(source.refresh().offers[0], SilentProgress())


def test_next_address_is_used_when_the_first_fails(agent: Agent, server: WebServer) -> None:
    source = agent.source("http://127.0.0.1:9/", server.url)
    assert source.refresh().offers


def test_unreachable_feed_is_an_error_and_keeps_the_last_metadata(
    agent: Agent, server: WebServer
) -> None:
    agent.source(server.url).refresh()
    before = agent.contents()
    source = agent.source("http://127.0.0.1:9/")
    with refused(FEED_UNREACHABLE):
        source.refresh()
    assert source.load_last_view() is not None
    assert agent.contents() == before


def test_download_resumes_after_a_restart(agent: Agent, server: WebServer, feed: Feed) -> None:

    big = random.Random(1).randbytes(600_000)
    feed.add_release("3.4.0", content={"big": big})
    feed.publish()
    server.faults = [Fault(".tar.gz", cut_after=100_000, times=1), Fault(".tar.gz", cut_after=0)]
    source = agent.source(server.url)
    offer = source.refresh().offers[-1]
    with pytest.raises(UpdaterError) as caught:
        source.download_release(offer, SilentProgress())
    assert caught.value.code == "NU-2107"
    server.faults.clear()
    server.requests.clear()
    release = agent.source(server.url).download_release(offer, SilentProgress())
    assert release.archive.stat().st_size == offer.archive.length
    ranges = [r.range for r in server.requests if r.path.endswith(".tar.gz")]
    assert ranges == ["bytes=100000-"]


def test_no_temporary_files_are_used_elsewhere(
    agent: Agent, server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TMPDIR may be small, in memory, or read by others: whatever goes there fails here."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    source = agent.source(server.url)
    release = source.download_release(source.refresh().offers[0], SilentProgress())
    unpack_archive(release.archive, release.tree, tmp_path / "slot", SilentProgress())
    assert (tmp_path / "slot/VERSION").is_file()


def test_check_without_news_sends_two_requests(agent: Agent, server: WebServer, feed: Feed) -> None:
    """Nothing new: two requests, and the only answer is small metadata."""
    agent.source(server.url).refresh()
    server.requests.clear()
    agent.source(server.url).refresh()
    assert server.paths() == ["/metadata/2.root.json", "/metadata/timestamp.json"]
    assert (feed.metadata / "timestamp.json").stat().st_size < 1500
    feed.add_release("3.4.0")
    feed.publish("ncen")
    server.requests.clear()
    assert len(agent.source(server.url).refresh().offers) == 2
    snapshot, product = feed.roles["snapshot"].version, feed.roles["ncen"].version
    assert server.paths() == [
        "/metadata/2.root.json",
        "/metadata/timestamp.json",
        f"/metadata/{snapshot}.snapshot.json",
        f"/metadata/{product}.ncen.json",
    ]


def test_only_signed_files_are_requested(agent: Agent, server: WebServer, feed: Feed) -> None:
    """Extraneous dependencies: whatever else lies on the server, a release is what was signed."""
    feed.serve("ncen-3.3.0-extra.tar.gz", b"more")
    source = agent.source(server.url)
    offer = source.refresh().offers[0]
    server.requests.clear()
    source.download_release(offer, SilentProgress())
    signed = {
        f"/targets/{feed.served(ref).relative_to(feed.targets)}"
        for ref in (
            TargetRef(target=name, length=file.length, sha256=file.hashes["sha256"])
            for name, file in feed.roles["ncen"].targets.items()
        )
    }
    assert set(server.paths()) == signed
