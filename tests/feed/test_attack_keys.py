"""The chain of roots, stolen keys, and the rollback from both."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.tuf_source import TufReleaseSource
from ncen_updater.formats.target_names import ISSUE_TIME_FIELD, ROOT_VERSION_FIELD
from tests.badinput.test_signed import Directory
from tests.feed.conftest import Agent
from tests.support.http_server import WebServer, serving
from tests.support.tuf_repository import Feed

DAYS = timedelta(days=1)


def test_long_root_chain_is_followed(agent: Agent, server: WebServer, feed: Feed) -> None:
    """60 roots later, all but the last expired, with every key replaced on the way."""
    root = feed.roles["root"]
    for step in range(60):
        root.expires = feed.now - DAYS if step < 59 else feed.expiry("root")
        if step % 20 == 10:
            old, new = feed.signers["root"][step // 20], CryptoSigner.generate_ed25519()
            root.revoke_key(old.public_key.keyid, "root")
            root.add_key(new.public_key, "root")
            feed.signers["root"] = [*feed.signers["root"], new]
        feed.rotate_root()
    feed.publish()
    assert agent.source(server.url).refresh().offers
    stored = json.loads((agent.state / "metadata/root.json").read_text())
    assert stored["signed"]["version"] == 61


def test_number_of_roots_is_not_limited(agent: Agent, feed: Feed) -> None:
    """More than the bound that a walk once had; from the disk, since a server would add nothing."""
    root = feed.roles["root"]
    for step in range(1030):
        root.expires = feed.now - DAYS if step < 1029 else feed.expiry("root")
        feed.rotate_root()
    source = TufReleaseSource(
        "ncen",
        state=agent.state,
        trusted_root=agent.trusted_root,
        make_fetcher=lambda: Directory(feed.directory),
    )
    assert source.refresh().offers
    stored = json.loads((agent.state / "metadata/root.json").read_text())
    assert stored["signed"]["version"] == 1031


@pytest.mark.parametrize(
    ("said", "code", "says"),
    [(True, "NU-2021", "newest 5, last received 2"), (False, "NU-2023", "'root'")],
    ids=["feed-says-its-newest-root", "older-feed"],
)
def test_root_chain_with_a_gap_is_an_error(
    agent: Agent, server: WebServer, feed: Feed, said: bool, code: str, says: str
) -> None:
    feed.roles["root"].expires = feed.now - DAYS
    feed.rotate_root()
    feed.roles["root"].expires = feed.expiry("root")
    for _ in range(3):
        feed.rotate_root()
    (feed.metadata / "3.root.json").unlink()
    if said:
        feed.roles["timestamp"].unrecognized_fields[ROOT_VERSION_FIELD] = 5
        feed.publish("ncen")
    with pytest.raises(UpdaterError) as caught:
        agent.source(server.url).refresh()
    assert caught.value.code == code
    assert says in str(caught.value)


def test_site_recovers_from_a_fast_forward(agent: Agent, server: WebServer, feed: Feed) -> None:
    """A thief of the online keys jumped ahead; new keys in a new root undo it."""
    feed.roles["timestamp"].version = feed.roles["snapshot"].version = 999_999
    feed.publish("ncen")
    agent.source(server.url).refresh()
    feed.roles["timestamp"].version = feed.roles["snapshot"].version = 3
    feed.publish("ncen")
    with pytest.raises(UpdaterError) as caught:
        agent.source(server.url).refresh()
    assert caught.value.code == "NU-2004"
    root = feed.roles["root"]
    for role in ("timestamp", "snapshot"):
        root.revoke_key(feed.signers[role][0].public_key.keyid, role)
        feed.signers[role] = [CryptoSigner.generate_ed25519()]
        root.add_key(feed.signers[role][0].public_key, role)
    feed.rotate_root()
    feed.publish("ncen")
    assert agent.source(server.url).refresh().offers


def test_newer_installed_root_bridges_a_gap(agent: Agent, server: WebServer, feed: Feed) -> None:
    agent.source(server.url).refresh()
    for _ in range(3):
        feed.rotate_root()
    (feed.metadata / "2.root.json").unlink()
    feed.trusted_root(agent.trusted_root, 4)
    agent.source(server.url).refresh()
    stored = json.loads((agent.state / "metadata/root.json").read_text())
    assert stored["signed"]["version"] == 4


def test_new_ceremony_replaces_a_stolen_root(
    agent: Agent, server: WebServer, feed: Feed, tmp_path: Path
) -> None:
    """As the guide says: no signature can mend a stolen root, and a few files at each site do.

    The thief held every key: pushed the clocks of the sites ahead and their numbers up.
    """
    before = agent.source(server.url)
    before.download_release(before.refresh().offers[-1], SilentProgress())
    feed.now += 3650 * DAYS
    for role in ("targets", "ncen", "snapshot", "timestamp"):
        feed.roles[role].version = 10_000
        feed.roles[role].unrecognized_fields[ISSUE_TIME_FIELD] = f"{feed.now:%Y-%m-%dT%H:%M:%SZ}"
    feed.roles["root"].expires = feed.expiry("root")
    feed.rotate_root()
    feed.publish()
    agent.source(server.url).refresh()

    anew = Feed(tmp_path / "anew")
    anew.add_release("3.3.0", manifest={"upgrade_from": ">=3.2"})
    anew.publish()
    shutil.copy(anew.metadata / "1.root.json", agent.trusted_root)
    with serving(anew.directory) as place:
        with pytest.raises(UpdaterError):
            agent.source(place.url).refresh()
        shutil.move(agent.state / "metadata", tmp_path / "metadata")
        with pytest.raises(UpdaterError, match="time of the newest signature"):
            agent.source(place.url).refresh()
        shutil.move(agent.state / "clock.json", tmp_path / "clock.json")
        source = agent.source(place.url)
        offer = source.refresh().offers[-1]
        assert source.download_release(offer, SilentProgress()).archive.is_file()
