"""Tests of the timer that drafts a renewal before expiry, once."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.publisher.cli import keys as keys_commands
from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import FeedKeys, publish_draft
from ncen_updater.publisher.signing.draft import draft_renewal
from tests.publisher.releases import NOW


def test_timer_drafts_a_due_renewal_once(
    feed: Path,
    keys: FeedKeys,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    event = tmp_path / "renewal"

    def on_day(days: int) -> Any:
        monkeypatch.setattr(keys_commands, "get_time", lambda: NOW + timedelta(days=days))
        words = ["renew", "--due", "--feed", str(feed), "--event", str(event), "--json"]
        assert run(words) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    assert on_day(200) == {"event": None, "roles": []}
    assert not event.exists()
    # The root 90 days before, what else signers sign 60 days before.
    assert {change["role"] for change in on_day(280)["changes"]} - {""} == {"root"}
    before = (event / "event.json").read_bytes()
    assert on_day(281) == {"event": str(event), "roles": ["root"]}
    assert (event / "event.json").read_bytes() == before
    # More is due by now than the event holds: it is not taken for what it is not.
    monkeypatch.setattr(keys_commands, "get_time", lambda: NOW + timedelta(days=310))
    assert run(["renew", "--due", "--feed", str(feed), "--event", str(event)]) == 2
    assert (event / "event.json").read_bytes() == before
    # Published: nothing of it is due, and the event that lies there renews nothing any more.
    late = NOW + timedelta(days=290)
    draft = draft_renewal(FeedDirectory(feed).read_state(), ["root"], late)
    publish_draft(feed, draft, keys, lambda: late)
    assert on_day(291) == {"event": None, "roles": []}


@pytest.mark.parametrize("words", [[], ["root", "--due"]])
def test_roles_and_due_exclude_each_other(feed: Path, tmp_path: Path, words: list[str]) -> None:
    event = tmp_path / "event"
    assert run(["renew", *words, "--feed", str(feed), "--event", str(event)]) == 2
    assert not event.exists()
