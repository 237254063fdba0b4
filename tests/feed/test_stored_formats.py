"""Files that the feed's room keeps: what was written so far is read, and their form stays."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ncen_updater.common.messages import VIEW_DAMAGED
from ncen_updater.feed.clock import TrustClock
from ncen_updater.feed.feed_summary import FeedSummary, WithdrawalNotice, read_feed_summary
from ncen_updater.feed.offers import load_view, save_view
from ncen_updater.feed.release_files import (
    DOCUMENT_NAME,
    read_document_record,
    write_document_record,
)
from ncen_updater.feed.resumable_download import ExpectedFile
from tests.support.errors import refused

MOMENT = datetime(2026, 11, 24, 12, tzinfo=UTC)
DIGEST = "ab" * 32
#: Canonical JSON, as it was written before; with an offer it is longer in one place alone.
VIEW = (
    b'{"checked_at":"2026-11-24T12:00:00+00:00","expires_at":"2026-12-24T12:00:00.500000+00:00",'
    b'"notices":{"3.2.4":{"advice":"wait","reason":"lost cases"}},"offers":[],"schema":1,'
    b'"version":7,"versions":["3.3.0"],"withdrawn":["3.2.4"]}\n'
)


def test_stored_document_record_is_read(tmp_path: Path) -> None:
    write_document_record(tmp_path, 2653, DIGEST)
    path = tmp_path / "verified.json"
    assert path.read_bytes() == b'{"length": 2653, "sha256": "%s"}' % DIGEST.encode()
    assert read_document_record(tmp_path) == ExpectedFile(DOCUMENT_NAME, 2653, DIGEST)


@pytest.mark.parametrize(
    "wrong", ["", "[]", "{}", '{"length": "x", "sha256": "y"}', '{"length": 1, "sha256": null}']
)
def test_damaged_document_record_is_ignored(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "verified.json").write_text(wrong, "utf-8")
    assert read_document_record(tmp_path) is None


def test_stored_clock_floor_is_read(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    clock = TrustClock(path, lambda: MOMENT)
    clock.raise_floor(MOMENT)
    assert path.read_bytes() == b'{"floor": "2026-11-24T12:00:00+00:00"}'
    assert TrustClock(path).floor == MOMENT


def test_stored_feed_summary_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ncen.json"
    path.write_bytes(VIEW)
    expires = datetime(2026, 12, 24, 12, 0, 0, 500_000, tzinfo=UTC)
    notices = {"3.2.4": WithdrawalNotice("lost cases", "wait")}
    found = read_feed_summary(path)
    assert found == FeedSummary(MOMENT, expires, 7, ("3.3.0",), ("3.2.4",), notices)
    # Of offers, which a test of the whole source has, there are none here.
    view = load_view(path)
    assert view is not None
    save_view(path, view)
    empty: dict[str, object] = {"notices": {}, "versions": [], "withdrawn": []}
    expected = json.dumps({**json.loads(VIEW), **empty}, sort_keys=True, separators=(",", ":"))
    assert path.read_bytes() == f"{expected}\n".encode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", True), ("versions", "3.3.0"), ("checked_at", "2026-11-24"), ("notices", []),
        # Of a reader that was taken over: no clock can show them.
        ("checked_at", "0001-01-01T00:00:00+23:59"), ("expires_at", "9999-12-31T23:59:59+00:00"),
    ],
)  # fmt: skip
def test_damaged_feed_summary_is_refused(tmp_path: Path, name: str, value: object) -> None:
    path = tmp_path / "ncen.json"
    path.write_text(json.dumps({**json.loads(VIEW), name: value}), "utf-8")
    with refused(VIEW_DAMAGED):
        read_feed_summary(path)
