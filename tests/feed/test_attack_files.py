"""Wrong files, wrong products, wrong mirrors."""

from __future__ import annotations

import pytest
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import OFFER_INVALID
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.mirror import FeedMirror
from tests.badinput.test_signed import Directory
from tests.feed import attacks
from tests.feed.conftest import Agent
from tests.support.errors import refused
from tests.support.http_server import PORTAL, Fault, WebServer, serving
from tests.support.tuf_repository import Feed


def test_wrong_role_does_not_reach_the_product(agent: Agent, server: WebServer, feed: Feed) -> None:
    attacks.other_product(feed, server)
    assert agent.source(server.url).refresh().offers == ()
    # Nor does the agent's own list take what it was not allowed to name.
    assert agent.source(server.url, product="ncen-updater").refresh().offers == ()


def test_paths_outside_the_delegation_are_ignored(
    agent: Agent, server: WebServer, feed: Feed
) -> None:
    delegation = feed.roles["targets"].delegations.roles["ncen"]
    delegation.paths = ["ncen-[0-9]*", "releases/ncen/3.4.*", "trees/ncen/*"]
    feed.add_release("3.4.0")
    feed.publish()
    view = agent.source(server.url).refresh()
    assert [offer.version for offer in view.offers] == ["3.4.0"]


FILES: dict[str, tuple[dict[str, object], str]] = {
    "wrong bytes": ({"body": None}, "NU-3102"),
    "web page": ({"body": PORTAL, "content_type": "text/html"}, "NU-2104"),
    "endless": ({"endless": True}, "NU-3102"),
    "missing": ({"status": 404}, "NU-2106"),
    "slow": ({"drip": 0.02}, "NU-2105"),
    "cut": ({"cut_after": 7}, "NU-2107"),
}


@pytest.mark.parametrize("target", ["releases/ncen", "trees/ncen", ".tar.gz"])
@pytest.mark.parametrize("name", FILES)
def test_files_are_refused_with_their_code(
    agent: Agent, server: WebServer, target: str, name: str
) -> None:
    fault, code = FILES[name]
    source = agent.source(server.url, minimum_bytes_per_s=1000)
    offer = source.refresh().offers[0]
    if name == "wrong bytes":
        length = {".tar.gz": offer.archive.length}.get(target, 100)
        fault = {"body": b"{}" * (length // 2) + b" " * (length % 2)}
    server.faults = [Fault(target, **fault)]  # type: ignore[arg-type]
    with pytest.raises(UpdaterError) as caught:
        source.download_release(offer, SilentProgress())
    if not (name == "wrong bytes" and caught.value.code == "NU-2107"):
        assert caught.value.code == code, caught.value
    else:  # a short answer is a break: the rest is asked for, and is not there
        assert target != ".tar.gz"
    assert agent.source(server.url).find_downloaded_release(offer) is None


def test_malicious_mirror_can_only_deny_service(
    agent: Agent, server: WebServer, feed: Feed
) -> None:
    bad = feed.directory.parent / "bad"
    bad.joinpath("metadata").mkdir(parents=True)
    (bad / "metadata/timestamp.json").write_bytes(b'{"evil": true}')
    with serving(bad) as liar:
        assert agent.source(liar.url, server.url).refresh().offers
        with pytest.raises(UpdaterError) as caught:
            agent.source(liar.url, "http://127.0.0.1:9/").refresh()
    assert caught.value.code == "NU-2005", "that a list was refused weighs more than silence"


def test_unpinned_file_is_not_mirrored(agent: Agent, feed: Feed) -> None:
    feed.roles["targets"].delegations.roles["ncen"].paths.append("sbom/ncen/*")
    name = "sbom/ncen/3.3.0.cdx.json"
    feed.roles["ncen"].targets[name] = TargetFile(1, {"md5": "0" * 32}, name)
    feed.publish()
    directory = agent.state.parent / "www"
    mirror = FeedMirror(directory, state=agent.state, trusted_root=agent.trusted_root)
    with refused(OFFER_INVALID) as caught:
        mirror.update_mirror(Directory(feed.directory), SilentProgress())
    assert caught.value.values["name"] == name
    assert list(directory.iterdir()) == []
