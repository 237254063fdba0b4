"""Tests of what a signer reads about texts and settings that local overlays replace."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from demo.release_flow import publish_release
from ncen_updater.common.json_records import compute_sha256
from ncen_updater.common.messages import REVIEW_FILES_MISSING
from ncen_updater.publisher.new.trial import create_feed
from ncen_updater.publisher.review.event_review import EventReview, build_review
from ncen_updater.publisher.review.text_page import render_html
from ncen_updater.publisher.signing.event_files import REVIEW_DIRECTORY
from tests.publisher.releases import clock, ring
from tests.publisher.test_lint_overlay import all_of, release_with_texts, text, words
from tests.publisher.test_review_page import Desk, render_lines, warnings
from tests.publisher.test_review_page import published as plainly  # noqa: F401 - a fixture
from tests.support.errors import refused


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, plainly: Desk) -> Desk:  # noqa: F811
    place = tmp_path_factory.mktemp("carrying")
    shutil.copytree(plainly.place / "feed", place / "feed")
    desk = replace(plainly, place=place)
    publish_release(place / "feed", [release_with_texts(place / "r", "3.4.0")], desk.keys, clock)
    return desk


@pytest.fixture
def desk(tmp_path: Path, published: Desk) -> Desk:
    shutil.copytree(published.place / "feed", tmp_path / "feed")
    return replace(published, place=tmp_path)


def drafted(desk: Desk, change: Callable[[Path], None]) -> Path:
    release = release_with_texts(desk.place / "next", "3.5.0")
    (release / "bin/app").write_text("#!/bin/sh\necho 3.4.0\n")
    change(release)
    return release


def section(page: EventReview) -> list[str]:
    lines = render_lines(page)
    begin = lines.index("Local overlay")
    return [line.strip() for line in lines[begin + 1 : lines.index(
        "Findings of lint")]]  # fmt: skip


def test_each_changed_text_is_shown(desk: Desk) -> None:
    """From the event alone: the texts travel along."""
    change = all_of(
        words("i18n/en.json", saved="Kept as {ref}", new=None, more="<script>\u202e"),
        text("settings.ini", "rows = 100", "rows = 50"),
        text("settings.ini", "fax = no\n", ""),
    )
    page = build_review(desk.event(drafted(desk, change)), complete=True)
    assert section(page) == [
        "changed: i18n/en.json: seizure.saved: “Saved as {ref}” to “Kept as {ref}”",
        "added: i18n/en.json: seizure.more: “<script> ”",
        "removed: i18n/en.json: seizure.new: “New & <b>seizure</b>”",
        "changed: settings.ini: lists.rows: “100” to “50”",
        "removed: settings.ini: mail.fax: “no”",
    ]
    html = render_html(page).decode()
    assert "“Saved as {ref}” to “Kept as {ref}”" in html
    assert "<script" not in html
    assert "Surcouche locale" in "\n".join(render_lines(page, "fr"))


def test_unchanged_texts_are_reported_as_such(desk: Desk) -> None:
    page = build_review(desk.event(drafted(desk, lambda _: None)), complete=True)
    assert (section(page), warnings(page)) == (["nothing"], [])


@pytest.mark.parametrize(
    ("change", "grave", "usual"),
    [
        (text("manifest.toml", '"mail.sender"]', '"mail.host"]'),
         ["Each site must set mail.host in settings.ini before the upgrade: no default value."],
         []),
        (text("manifest.toml", "most = 1000", "most = 500"),
         ["settings.ini: stricter rules than in 3.4.0: lists.rows."], []),
        (text("manifest.toml", 'site_path = "settings.ini"', 'site_path = "s.ini"'),
         [("Overlay settings.ini is no longer in the release; its local content has no"
" effect.")], []),
        (text("settings.ini", "rows = 100", "rows = 1"),
         [("blocked by lint (NU-7159): settings.ini: default value of lists.rows breaks"
" its rule: >= 10")],
         ["settings.ini: values changed since 3.4.0: lists.rows."]),
        (text("settings.ini", "fax = no\n", ""), [],
         ["settings.ini: settings removed since 3.4.0: mail.fax."]),
        (words("i18n/en.json", saved="Saved as {ref} by {officer}"), [],
         [("i18n/{lang}.json (per language): placeholders changed since 3.4.0:"
" seizure.saved.")]),
        (words("i18n/en.json", more="More"), [], []),
    ],
)  # fmt: skip
def test_marks_have_their_severity(
    desk: Desk, change: Callable[[Path], None], grave: list[str], usual: list[str]
) -> None:
    page = build_review(desk.event(drafted(desk, change)), complete=True)
    usually = [text.render() for text in page.warnings]
    told = [line for line in usually if "manifest:" not in line]
    assert [line.render() for line in page.critical] == [f"WARNING: {line}" for line in grave]
    assert told == [f"WARNING: {line}" for line in usual]


@pytest.mark.parametrize("which", ["of the release", "of the release before"])
def test_unshown_texts_cannot_be_signed(desk: Desk, which: str) -> None:
    release = drafted(desk, words("i18n/en.json", saved="Kept as {ref}"))
    event = desk.event(release)
    place = (
        release if which == "of the release" else release_with_texts(desk.place / "before", "3.4.0")
    )
    paper = (
        event.directory / REVIEW_DIRECTORY / compute_sha256((place / "i18n/en.json").read_bytes())
    )
    paper.write_bytes(b"{}")
    assert [line for line in warnings(build_review(event)) if "i18n/en.json not readable" in line]
    with refused(REVIEW_FILES_MISSING):
        build_review(event, complete=True)
    beside = (desk.place / "staging", desk.place / "feed")
    assert not [
        line for line in warnings(build_review(event, *beside, complete=True)) if "read" in line
    ]


def test_first_release_is_compared_with_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path, ring(tmp_path))
    create_feed(tmp_path / "feed", desk.keys, clock)
    page = build_review(desk.event(drafted(desk, lambda _: None)), complete=True)
    assert section(page)[0] == "added: i18n/en.json: title: “Cases”"
    assert all(line.startswith("added: ") for line in section(page))
    assert [line for line in render_lines(page) if line.startswith("  added: bin/app, ")]
