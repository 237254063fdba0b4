"""The inbox in the console: what lies there, a button for who may, and an order for a click."""

from __future__ import annotations

import html
import json
from datetime import timedelta
from pathlib import Path

import pytest

from ncen_updater.agent.config.essential_settings import load_essential_settings
from ncen_updater.agent.storage.journal.jobs import JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.feed.feed_summary import FeedSummary, get_view_path
from tests.agent.service.api.conftest import NOW, READER, Counter
from tests.console.support import Answer, Guest, Place
from tests.console.test_app import as_user


@pytest.fixture
def inbox(counter: Counter) -> Path:
    made = counter.site.state / "inbox"
    made.mkdir()
    made.chmod(0o1770)
    return made


def orders(counter: Counter) -> list[object]:
    with Journal.open(counter.site.journal, read_only=True) as journal:
        return [order.data["file"] for order in JobQueue(journal).list_newest(10)]


def buttons(page: Answer) -> list[str]:
    return [hidden["file"] for address, hidden in page.forms() if address == "/import"]


def test_click_queues_one_import(counter: Counter, inbox: Path, guest: Guest) -> None:
    (inbox / "ke.ncen").write_bytes(b"bundle")
    page = guest.get("/upgrade")
    assert buttons(page) == ["ke.ncen"]
    fields = page.form("/import")
    first, again = guest.post("/import", fields), guest.post("/import", fields)
    assert first.status == again.status == 303
    assert first.headers["location"].startswith("/jobs/1?"), first.headers
    assert first.headers["location"] == again.headers["location"]
    assert orders(counter) == ["ke.ncen"]
    assert "import" in guest.get("/jobs/1").text


@pytest.mark.parametrize("language", ["en", "fr"])
def test_unimportable_file_has_no_button(
    counter: Counter, inbox: Path, place: Place, language: str
) -> None:
    (inbox / "link.ncen").symlink_to("/etc/hostname")
    (inbox / "<script>alert(1)<b>").write_bytes(b"")
    (inbox / "\x1b[2J\u202e.ncen").write_bytes(b"")
    text = html.unescape((page := place.enter(language).get("/upgrade")).text)
    assert buttons(page) == ["<script>alert(1)<b>".replace("/", "")]
    assert "<script>alert" not in page.text and "\x1b" not in page.text
    assert "\u202e" not in page.text
    for words in {
        "en": ("Not allowed: not a regular file", "Not shown: 1"),
        "fr": ("Non autorisé\xa0: ce n'est pas un fichier ordinaire", "Non affichés\xa0: 1"),
    }[language]:  # fmt: skip
        assert words in text


def test_empty_and_missing_import_directories_are_shown(counter: Counter, guest: Guest) -> None:
    broken = guest.get("/upgrade")
    assert (broken.status, "NU-9333" in broken.text, buttons(broken)) == (200, True, [])
    (counter.site.state / "inbox").mkdir(mode=0o700)
    empty = guest.get("/upgrade")
    assert "The import directory is empty." in empty.text and "NU-9333" not in empty.text


def test_feed_state_is_shown(counter: Counter, guest: Guest) -> None:
    """Seen: a list that was imported as "the feed was asked", and three failures as "never"."""
    counter.know(None)
    assert "No metadata yet." in guest.get("/upgrade").text
    path = get_view_path(load_essential_settings(counter.site.config).feed_state, "ncen")
    path.parent.mkdir(parents=True)
    view = FeedSummary(NOW, NOW + timedelta(days=9), 1, ("3.2.4",), ())
    path.write_text(json.dumps({"schema": 1, **view.to_json()}))
    now = guest.get("/").text
    assert "Last check for releases" in now


def test_file_removed_meanwhile_is_reported(counter: Counter, inbox: Path, guest: Guest) -> None:
    (inbox / "ke.ncen").write_bytes(b"bundle")
    page = guest.get("/upgrade")
    (inbox / "ke.ncen").unlink()
    refused = guest.submit(page, "/import")
    assert (refused.status, refused.state, "NU-9334" in refused.text) == (409, "refused", True)
    assert orders(counter) == []


@pytest.mark.parametrize("file", ["", "../journal.sqlite", "..", "/etc/shadow", "a\nb"])
def test_forged_form_is_refused(counter: Counter, inbox: Path, guest: Guest, file: str) -> None:
    (inbox / "ke.ncen").write_bytes(b"bundle")
    refused = guest.submit(guest.get("/upgrade"), "/import", file=file)
    assert (refused.status, refused.state) == (400 if file else 409, "refused"), refused.text
    fields = {**guest.get("/upgrade").form("/import"), "kind": "import"}
    assert guest.post("/job", fields).status in (400, 403)
    assert orders(counter) == []


def test_viewer_sees_files_and_permitted_users(
    counter: Counter, inbox: Path, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inbox / "ke.ncen").write_bytes(b"bundle")
    kept = guest.get("/upgrade").form("/import")
    as_user(monkeypatch, READER)
    page = guest.get("/upgrade")
    assert buttons(page) == [] and "ke.ncen" in page.text
    assert "Operators only" in page.text and "NU-9314" in page.text
    refused = guest.post("/import", kept)
    assert (refused.status, "NU-9314" in refused.text) == (403, True)
    assert orders(counter) == []
