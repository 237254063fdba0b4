"""The process that reads the feed, taken over by an attacker: nothing it leaves is used unproved.

The attacker writes whatever they like into the directory of lists and downloads, as that process
can, and has no key but their own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]

from ncen_updater.agent.adapters.feed_reader.worker_source import WorkerReleaseSource
from ncen_updater.agent.config.loader import load_config
from ncen_updater.common.json_records import compute_sha256
from ncen_updater.common.messages import METADATA_NOT_VERIFIED
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.errors import TrustedRootMissingError, UnverifiedDownloadError
from ncen_updater.feed.offers import DownloadedRelease
from ncen_updater.feed.trust_state import TrustStateStore
from ncen_updater.feed.tuf_source import TufReleaseSource
from ncen_updater.formats.release_document import Offer
from tests.badinput.hostile import typed
from tests.badinput.test_signed import Directory
from tests.feed.conftest import Agent
from tests.feed.test_reader_unit import CONFIG
from tests.support.errors import refused
from tests.support.http_server import WebServer
from tests.support.tuf_repository import Feed

User = Callable[..., TufReleaseSource]


@pytest.fixture
def user(agent: Agent) -> User:
    """The process that builds slots of the files: never uses a network."""

    def make(memory: str = "root") -> TufReleaseSource:
        def nothing() -> object:
            raise AssertionError("it asked the network")

        return TufReleaseSource(
            "ncen",
            state=agent.state,
            trusted_root=agent.trusted_root,
            make_fetcher=nothing,  # type: ignore[arg-type]
            now=agent.now,
            trust_state=TrustStateStore(agent.state.with_name(memory), agent.now),
        )

    return make


@pytest.fixture
def left(agent: Agent, server: WebServer, feed: Feed) -> DownloadedRelease:
    """A release that was read honestly, over three roots."""
    for _ in range(2):
        feed.rotate_root()
    source = agent.source(server.url)
    return source.download_release(source.refresh().offers[0], SilentProgress())


def _taken_over(agent: Agent, feed: Feed, place: Path) -> tuple[Feed, Offer]:
    """Everything that an honest process would leave, of a feed of the attacker's own."""
    own = Feed(place / "own")
    own.add_release("3.3.0", manifest={"upgrade_from": ">=3.2"}, content={"bin/app": b"evil"})
    own.publish()
    site = Agent(place / "elsewhere", own)
    source = TufReleaseSource(
        "ncen",
        state=site.state,
        trusted_root=site.trusted_root,
        make_fetcher=lambda: Directory(own.directory),
    )
    offer = source.refresh().offers[0]
    source.download_release(offer, SilentProgress())
    for name in ("feed", "downloads", "metadata"):
        shutil.rmtree(agent.state / name, ignore_errors=True)
        shutil.copytree(site.state / name, agent.state / name)
    return own, offer


def test_honest_metadata_is_verified_whatever_its_age(
    agent: Agent, left: DownloadedRelease, user: User
) -> None:
    agent.offset = timedelta(days=4000)
    view = user().load_last_view()
    assert view is not None
    assert user().find_downloaded_release(view.offers[0]) == left
    assert user().find_smallest_download(view.offers[0], ()) == left


def test_release_of_an_attacker_is_refused(
    agent: Agent, feed: Feed, left: DownloadedRelease, user: User, tmp_path: Path
) -> None:
    """A whole feed, well signed, but not by those whom the installed root names."""
    _, offer = _taken_over(agent, feed, tmp_path)
    assert agent.source().find_downloaded_release(offer) is not None, (
        "it is whole, and was not proved"
    )
    for ask in (user().find_downloaded_release, lambda o: user().find_smallest_download(o, ())):
        error = typed(lambda ask=ask: ask(offer))  # type: ignore[misc]
        assert isinstance(error, UnverifiedDownloadError)


@pytest.mark.parametrize("kept", ["root", "targets", "ncen"])
def test_attacker_metadata_below_honest_metadata_is_refused(
    agent: Agent, feed: Feed, left: DownloadedRelease, user: User, tmp_path: Path, kept: str
) -> None:
    """The chain is honest down to one role, and the attacker's from there on."""
    honest = tmp_path / "honest"
    shutil.copytree(agent.state / "metadata", honest)
    _, offer = _taken_over(agent, feed, tmp_path)
    shutil.rmtree(agent.state / "metadata/root_history", ignore_errors=True)
    shutil.copytree(honest / "root_history", agent.state / "metadata/root_history")
    for role in ("root", "targets", "ncen")[: ("root", "targets", "ncen").index(kept) + 1]:
        shutil.copyfile(honest / f"{role}.json", agent.state / f"metadata/{role}.json")
    error = typed(lambda: user().find_downloaded_release(offer))
    assert isinstance(error, UnverifiedDownloadError)


def test_other_release_under_a_signed_name_is_refused(
    agent: Agent, left: DownloadedRelease, user: User
) -> None:
    """Document and record are exchanged; the metadata is honest."""
    place = left.archive.parent
    offer = left.document.to_offer()
    for change in ({"unpacked_bytes": 1}, {"upgrade_from": ">=1"}, {"required": True}):
        forged = offer.model_copy(update=change)
        assert isinstance(
            typed(lambda forged=forged: user().find_downloaded_release(forged)),  # type: ignore[misc]
            UnverifiedDownloadError,
        )
    content = left.document.model_copy(update={"tree_digest": "0" * 64}).to_canonical_json()
    (place / "release.json").write_bytes(content)
    assert user().find_downloaded_release(offer) is None
    record = {"length": len(content), "sha256": compute_sha256(content)}
    (place / "verified.json").write_text(json.dumps(record))
    assert user().find_downloaded_release(offer) is None, "what the record says does not count"


def test_metadata_signed_for_another_role_is_refused(
    agent: Agent, server: WebServer, feed: Feed, left: DownloadedRelease, user: User
) -> None:
    """The same signers hold both roles; the attacker serves one in place of the other."""
    offer = left.document.to_offer()
    feed.roles["ncen"].unrecognized_fields["x-ncen-role"] = "ncen-updater"
    feed.roles["ncen"].version += 1
    (agent.state / "metadata/ncen.json").write_bytes(feed.sign("ncen"))
    assert isinstance(typed(lambda: user().find_downloaded_release(offer)), UnverifiedDownloadError)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _sign_with_foreign_key(path: Path) -> None:
    metadata = Metadata[Root].from_bytes(path.read_bytes())
    metadata.signatures.clear()
    for _ in range(3):
        metadata.sign(CryptoSigner.generate_ed25519(), append=True)
    path.write_bytes(metadata.to_bytes())


def _again(path: Path) -> None:
    other = {"2.root.json": "3.root.json", "3.root.json": "2.root.json"}[path.name]
    path.write_bytes(path.with_name(other).read_bytes())


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [Path.unlink, _cut, _sign_with_foreign_key, _again, _pipe])
@pytest.mark.parametrize("number", [2, 3])
def test_gap_in_the_stored_roots_is_repaired_by_the_next_check(
    agent: Agent, server: WebServer, feed: Feed, user: User, number: int,
    damage: Callable[[Path], None],
) -> None:  # fmt: skip
    """Root 2 has new root keys, and root 3 new targets keys: both are needed."""
    root = feed.roles["root"]
    for role in ("root", "targets"):
        old, new = feed.signers[role], [CryptoSigner.generate_ed25519() for _ in range(2)]
        for signer in old:
            root.revoke_key(signer.public_key.keyid, role)
        for signer in new:
            root.add_key(signer.public_key, role)
        feed.signers[role] = new
        root.version += 1
        signers = [*old, *new] if role == "root" else feed.signers["root"]
        feed.write(f"{root.version}.root.json", feed.sign("root", signers))
    feed.publish()
    source = agent.source(server.url)
    offer = source.refresh().offers[0]
    release = source.download_release(offer, SilentProgress())
    assert user().find_downloaded_release(offer) == release
    kept = agent.state / f"metadata/root_history/{number}.root.json"
    good = kept.read_bytes()
    damage(kept)
    assert isinstance(
        typed(lambda: user("new").find_downloaded_release(offer)), UnverifiedDownloadError
    )
    assert user().find_downloaded_release(offer) == release, "these roots were proved before"
    agent.source(server.url).refresh()
    assert kept.read_bytes() == good
    assert user("new").find_downloaded_release(offer) == release


def test_unavailable_old_roots_do_not_block_a_check(
    agent: Agent, server: WebServer, feed: Feed, left: DownloadedRelease
) -> None:
    shutil.rmtree(agent.state / "metadata/root_history")
    (feed.metadata / "2.root.json").unlink()
    assert agent.source(server.url).refresh().offers
    (feed.metadata / "2.root.json").write_bytes(b"{}")
    assert agent.source(server.url).refresh().offers
    assert not (agent.state / "metadata/root_history").exists()


def test_stored_newest_root_is_sufficient(agent: Agent, server: WebServer, feed: Feed) -> None:
    """As at an offline site, whose older agent stored no older roots."""
    feed.rotate_root()
    agent.source(server.url).refresh()
    history = agent.state / "metadata/root_history"
    shutil.rmtree(history)
    (feed.metadata / "2.root.json").unlink()
    assert agent.source(server.url).refresh().offers
    newest = (agent.state / "metadata/root.json").read_bytes()
    assert (history / "2.root.json").read_bytes() == newest


def test_missing_installed_root_is_reported(
    agent: Agent, server: WebServer, left: DownloadedRelease, user: User
) -> None:
    for content in (b"{", (agent.state / "metadata/targets.json").read_bytes()):
        agent.trusted_root.write_bytes(content)
        error = typed(lambda: user().find_downloaded_release(left.document.to_offer()))
        assert isinstance(error, TrustedRootMissingError)
        error = typed(lambda: agent.source(server.url).refresh())
        assert isinstance(error, TrustedRootMissingError)


def test_site_process_verifies_what_the_reader_stored(
    agent: Agent, server: WebServer, feed: Feed, tmp_path: Path
) -> None:
    """The whole way: the real reader as a child, and then an attacker in its directory."""
    feed.trusted_root(tmp_path / "root.json")
    path = tmp_path / "agent.toml"
    text = CONFIG.format(url=server.url, root=tmp_path).replace('runner = "systemd"\n', "")
    path.write_text(text)
    source = WorkerReleaseSource(load_config(path), path)
    offer = source.refresh().offers[0]
    release = source.download_release(offer, SilentProgress())
    assert source.find_downloaded_release(offer) == release
    site = Agent(tmp_path / "site", feed)
    site.state = tmp_path / "received"
    _, forged = _taken_over(site, feed, tmp_path)
    with refused(METADATA_NOT_VERIFIED):
        source.load_last_view()
    with pytest.raises(UnverifiedDownloadError):
        source.find_downloaded_release(forged)


def test_verification_imports_no_http_library() -> None:
    code = (
        "import sys; sys.modules['boto3'] = sys.modules['botocore'] = None;"  # no site has them
        "import ncen_updater.feed.metadata_verifier;"
        "heavy = {'requests', 'urllib3', 'tuf.ngclient', 'http.client'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
