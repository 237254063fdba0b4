"""Damaged files of the agent's own: each heals, and none ever reads as "up to date"."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.json_records import encode_canonical_json
from ncen_updater.formats.target_names import ROLE_FIELD
from tests.feed.conftest import Agent
from tests.support.http_server import WebServer
from tests.support.tuf_repository import Feed

DAMAGES: dict[str, bytes | None] = {
    "missing": None,
    "empty": b"",
    "cut": b'{"signatures": [',
    "zeros": bytes(3000),
    "half": b"half",
    "other": encode_canonical_json({"signed": {}, "signatures": []}),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name",
    [
        "metadata/root.json",
        "metadata/timestamp.json",
        "metadata/snapshot.json",
        "metadata/targets.json",
        "metadata/ncen.json",
        "clock.json",
    ],
)
def test_damaged_stored_files_are_replaced_and_never_count_as_current(
    agent: Agent, server: WebServer, feed: Feed, name: str, damage: str
) -> None:
    feed.roles["ncen"].unrecognized_fields["x-ncen-issued"] = feed.now.isoformat()
    feed.rotate_root()
    feed.publish()
    agent.source(server.url).refresh()
    path, content = agent.state / name, DAMAGES[damage]
    good = path.read_bytes()
    if damage == "half":
        content = good[: len(good) // 2]
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(UpdaterError) as caught:
        agent.source("http://127.0.0.1:9/").refresh()
    assert caught.value.code == "NU-2102"
    assert agent.source(server.url).refresh().offers
    assert path.read_bytes() == good


def test_replaced_root_of_another_feed_leaves_nothing(
    agent: Agent, server: WebServer, feed: Feed, tmp_path: Path
) -> None:
    """Seen: the first root stayed, and the right one was refused as it had been."""
    good = agent.trusted_root.read_bytes()
    other = Feed(tmp_path / "other")
    other.publish()
    agent.trusted_root.write_bytes(other.trusted_root(tmp_path / "other.json").read_bytes())
    for _ in range(2):
        with pytest.raises(UpdaterError) as caught:
            agent.source(server.url).refresh()
        assert caught.value.code == "NU-2003"
    agent.trusted_root.write_bytes(good)
    assert agent.source(server.url).refresh().offers
    agent.trusted_root.write_bytes(other.trusted_root(tmp_path / "other.json").read_bytes())
    with pytest.raises(UpdaterError) as caught:
        agent.source(server.url).refresh()
    assert caught.value.code == "NU-2003"  # and not that the machine may have been tampered with


def test_nothing_is_trusted_without_a_root(agent: Agent, server: WebServer) -> None:
    agent.trusted_root.write_bytes(b"{")
    with pytest.raises(UpdaterError) as caught:
        agent.source(server.url).refresh()
    assert caught.value.code == "NU-2002"
    assert server.requests == []
    assert not agent.state.joinpath("metadata/root.json").exists()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "ncen"])
def test_damaged_metadata_does_not_permit_a_rollback_of_the_others(
    agent: Agent, server: WebServer, feed: Feed, role: str
) -> None:
    """A mirror that shows an old feed cannot wait for one damaged file, but for the timestamp's.

    The version of the timestamp stands nowhere else; its snapshot's version is then what counts.
    """
    old = {path: path.read_bytes() for path in feed.metadata.iterdir()}
    feed.publish()
    agent.source(server.url).refresh()
    for path in feed.metadata.iterdir():
        path.unlink()
    for path, content in old.items():
        path.write_bytes(content)
    (agent.state / "metadata" / f"{role}.json").write_bytes(b"")
    with pytest.raises(UpdaterError) as caught:
        agent.source(server.url).refresh()
    assert caught.value.code == "NU-2004"


def test_stored_metadata_of_another_role_is_downloaded_again(
    agent: Agent, server: WebServer, feed: Feed
) -> None:
    """The same signers hold both roles, so that their signatures fit."""
    agent.source(server.url).refresh()
    path = agent.state / "metadata/ncen.json"
    good = path.read_bytes()
    feed.roles["ncen"].unrecognized_fields[ROLE_FIELD] = "ncen-updater"
    path.write_bytes(feed.sign("ncen"))
    assert agent.source(server.url).refresh().offers
    assert path.read_bytes() == good
