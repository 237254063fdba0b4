"""Clocks that are years behind or ahead, and who may move the floor."""

from __future__ import annotations

import json
from datetime import timedelta
from email.utils import format_datetime

import pytest

from ncen_updater.common.errors import UpdaterError
from tests.feed.conftest import Agent
from tests.support.http_server import WebServer
from tests.support.tuf_repository import Feed

DAYS = timedelta(days=1)


def test_clock_far_ahead_is_reported_as_such(agent: Agent, server: WebServer) -> None:
    agent.offset = 800 * DAYS
    with pytest.raises(UpdaterError) as caught:
        agent.source(server.url).refresh()
    assert caught.value.code == "NU-2008"
    assert str((agent.now()).year) in str(caught.value)


def test_expiry_is_reported_when_the_server_clock_agrees(agent: Agent, server: WebServer) -> None:
    agent.offset = 10 * DAYS
    server.date = format_datetime(agent.now())
    with pytest.raises(UpdaterError) as caught:
        agent.source(server.url).refresh()
    assert caught.value.code == "NU-2007"
    assert "'timestamp'" in str(caught.value)


def test_clock_behind_does_not_accept_frozen_metadata(
    agent: Agent, server: WebServer, feed: Feed
) -> None:
    """The floor, from what signers signed, takes the place of a clock that is years behind."""
    feed.roles["ncen"].unrecognized_fields["x-ncen-issued"] = feed.now.isoformat()
    feed.publish()
    agent.offset = -1800 * DAYS
    agent.source(server.url).refresh()
    floor = json.loads((agent.state / "clock.json").read_text())["floor"]
    assert floor == feed.now.isoformat()
    feed.roles["timestamp"].expires = feed.now - DAYS
    feed.publish("ncen", keep_expiry=True)
    with pytest.raises(UpdaterError) as caught:
        agent.source(server.url).refresh()
    assert caught.value.code == "NU-2007"


def test_first_metadata_is_judged_by_its_signed_time(
    agent: Agent, server: WebServer, feed: Feed
) -> None:
    feed.roles["ncen"].unrecognized_fields["x-ncen-issued"] = feed.now.isoformat()
    feed.roles["timestamp"].expires = feed.now - DAYS
    feed.publish("ncen", keep_expiry=True)
    agent.offset = -1800 * DAYS
    with pytest.raises(UpdaterError) as caught:
        agent.source(server.url).refresh()
    assert caught.value.code == "NU-2007"


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_online_keys_cannot_raise_the_clock_floor(
    agent: Agent, server: WebServer, feed: Feed, role: str
) -> None:
    feed.roles[role].unrecognized_fields["x-ncen-issued"] = "2090-01-01T00:00:00Z"
    feed.publish()
    agent.source(server.url).refresh()
    assert not (agent.state / "clock.json").exists()


@pytest.mark.parametrize("issued", ["2090-01-01T00:00:00Z", "soon", 7, None])
def test_mistaken_signed_time_does_not_lock_the_site_out(
    agent: Agent, server: WebServer, feed: Feed, issued: object
) -> None:
    feed.roles["ncen"].unrecognized_fields["x-ncen-issued"] = issued
    feed.publish()
    agent.source(server.url).refresh()
    assert not (agent.state / "clock.json").exists()


def test_future_signed_time_is_not_stored(agent: Agent, server: WebServer, feed: Feed) -> None:
    """Signers whose clocks were ahead: refused, and over as soon as they have signed again."""
    signed = feed.roles["ncen"]
    signed.expires = feed.now + 365 * DAYS
    signed.unrecognized_fields["x-ncen-issued"] = (feed.now + 300 * DAYS).isoformat()
    feed.publish("ncen", keep_expiry=True)
    with pytest.raises(UpdaterError) as caught:
        agent.source(server.url).refresh()
    assert caught.value.code == "NU-2007"
    assert "newest signature" in str(caught.value.detail)
    signed.unrecognized_fields["x-ncen-issued"] = feed.now.isoformat()
    feed.publish("ncen", keep_expiry=True)
    agent.source(server.url).refresh()
    floor = json.loads((agent.state / "clock.json").read_text())["floor"]
    assert floor == feed.now.isoformat()
