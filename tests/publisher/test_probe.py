"""Tests of a hostile public server: the monitor reports it and ends."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncen_updater.feed.http_session import BoundedHttpSession, ReadDeadline, make_bounded_session
from ncen_updater.publisher.distribute.server_probe import ServerProbe
from tests.badinput.hostile import bounded
from tests.feed.test_hostile_servers import (
    CHUNKED,
    CONTENT,
    ENDLESS,
    HEADERS,
    OK,
    PLACES,
    Hostile,
    Ticking,
    once,
)
from tests.support.http_server import Fault, serving

DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def session() -> Iterator[BoundedHttpSession]:
    with make_bounded_session(ReadDeadline(80.0, Ticking())) as session:
        yield session


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_answer_is_reported(session: BoundedHttpSession, name: str) -> None:
    tracemalloc.start()
    try:
        with Hostile(ENDLESS[name]) as bad, bounded(60):
            probe = ServerProbe(bad.url, session)
            assert probe.check_target("x", len(CONTENT), DIGEST, deep=True)
            assert probe.check_target("x", len(CONTENT), DIGEST, deep=False)
            assert probe.check_metadata("metadata/", 1, ["timestamp.json"])
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "answer",
    [
        *(OK + header + b"\r\nConnection: close\r\n\r\n" + CONTENT for header in HEADERS.values()),
        *(b"HTTP/1.1 302 F\r\nLocation: " + place + b"\r\n\r\n" for place in PLACES.values()),
        CHUNKED + b"zz",
        b"\0\1\2\r\n\r\n",
    ],
    ids=range(len(HEADERS) + len(PLACES) + 2),
)
def test_arbitrary_answer_yields_findings_only(session: BoundedHttpSession, answer: bytes) -> None:
    with Hostile(once(answer)) as bad, bounded(60):
        probe = ServerProbe(bad.url, session)
        for deep in (True, False):
            assert isinstance(probe.check_target("x", len(CONTENT), DIGEST, deep=deep), list)
        assert isinstance(probe.check_metadata("metadata/", 1, ["timestamp.json"]), list)


def test_feed_redirected_to_another_server_is_a_finding(
    session: BoundedHttpSession, tmp_path: Path
) -> None:
    """Sites do not follow there either."""
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata/x.json").write_bytes(CONTENT)
    with serving(tmp_path) as moved, serving(tmp_path) as other:
        moved.faults = [Fault("metadata/x", status=301, headers={"Location": "../moved/x.json"})]
        moved.faults += [Fault("moved", status=302, headers={"Location": "../here"})]
        moved.faults += [Fault("here", body=CONTENT)]
        assert (
            ServerProbe(moved.url, session).check_target("metadata/x", 8, DIGEST, deep=True) == []
        )
        moved.faults = [Fault("", status=301, headers={"Location": f"{other.url}metadata/x.json"})]
        for deep in (True, False):
            assert ServerProbe(moved.url, session).check_target(
                "x", len(CONTENT), DIGEST, deep=deep
            )
        assert other.paths() == []
