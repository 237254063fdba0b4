"""Tests of plain wording for signers: no field names, no raw times, no JSON."""

from __future__ import annotations

import html as markup
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.release_flow import publish_release
from demo.releases import assemble
from ncen_updater.feed.upgrade_path import format_version_range
from ncen_updater.formats.rollout import RolloutWave
from ncen_updater.publisher.build.release_build import build_release
from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import FeedKeys, create_feed
from ncen_updater.publisher.signing.draft import Draft, draft_initial_roles, draft_releases
from ncen_updater.publisher.signing.signing_event import SigningEvent
from ncen_updater.publisher.signing.value_format import format_signed_time
from tests.publisher.feeds import ceremony_of
from tests.publisher.releases import NOW, clock, ring

#: What belongs to machines, on a page of people.
MACHINE = {
    "a raw time": r"\d{4}-\d\d-\d\dT",
    "JSON": r"[{\[]\"|\bnull\b",
    "a field": r"unpacked_bytes|expiry_days|signing_days|\btufup\"",
    "bytes by the thousand": r"\b\d{4,} (?:bytes|octets)\b",
    "of nothing": r"\b0 (?:of|sur) 0\b|-, -|: -\)|signed by -|signé par -",
}


@dataclass(frozen=True)
class Made:
    """A feed with 3.2.4 of the stand-in, and two events."""

    place: Path

    def shown(self, event: str, language: str, tmp_path: Path, *more: str) -> tuple[str, str]:
        html = tmp_path / "page.html"
        words = ["show", str(self.place / event), "--html", str(html), "--lang", language, *more]
        assert run(words) == 0
        text = re.sub(r"<style>.*?</style>|<[^>]+>", "", html.read_text("utf-8"), flags=re.DOTALL)
        return text, markup.unescape(text)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("stranger")
    keys, feed = ring(place), place / "feed"
    create_feed(feed, keys, clock, plain_tufup=["ncen"])
    publish_release(feed, [assemble("3.2.4", place / "before")], keys, clock)
    build_release(assemble("3.3.0", place / "release"), place / "staging")
    state = FeedDirectory(feed).read_state()
    waves = [
        RolloutWave(opens="2026-12-01T08:00:00Z", percent=5),
        RolloutWave(opens="2026-12-08T08:00:30Z", percent=100, countries=("SN",)),
    ]
    draft = draft_releases(state, place / "staging", NOW, waves, None, FeedDirectory(feed))
    SigningEvent.create(
        place / "release-event", draft.title, draft.roles, state, draft.review_files
    )
    first = _first(keys)
    SigningEvent.create(place / "first-event", first.title, first.roles, None)
    return Made(place)


def _first(keys: FeedKeys) -> Draft:
    online = {name: held[0] for name, held in keys.online.items()}
    return draft_initial_roles(ceremony_of(keys.signers, online), NOW)


@pytest.fixture
def nairobi(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Africa/Nairobi")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("event", ["release-event", "first-event"])
def test_page_contains_no_machine_notation(
    made: Made, event: str, language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = ("--root", str(made.place / "feed/metadata/1.root.json")) if "rel" in event else ()
    _, page = made.shown(event, language, tmp_path, *beside)
    terminal = capsys.readouterr().out
    for where, text in (("terminal", terminal), ("page", page)):
        # The SQL stands there as it is.
        lines = [line for line in text.splitlines() if not re.match(r" *\d+ [>|] ", line)]
        for what, form in MACHINE.items():
            assert not [line for line in lines if re.search(form, line)], (where, what)


@pytest.mark.usefixtures("nairobi")
@pytest.mark.parametrize(
    ("language", "told"),
    [
        ("en", ["2026-12-01 11:00 EAT", "2026-12-08 11:00:30 EAT",
                "drafted 2026-11-24 15:00 EAT, valid until 2027-11-24",
                "ncen 3.3.0: upgrade from 3.2.4 or later, earlier than 3.3.0",
                " kB unpacked", "ncen 3.3.0: optional release",
                "optional for plain tufup clients", "signed by nobody yet"]),
        ("fr", ["01/12/2026 à 11:00 EAT", "08/12/2026 à 11:00:30 EAT",
                "préparé le 24/11/2026 à 15:00 EAT, valable jusqu'au 24/11/2027",
                "ncen 3.3.0 : mise à niveau depuis 3.2.4 ou postérieure, antérieure à 3.3.0",
                " ko une fois décompressée", "ncen 3.3.0 : version facultative",
                "facultatif pour les clients tufup simples", "signatures : aucune à ce jour"]),
    ],
)  # fmt: skip
def test_page_uses_the_wording_of_other_pages(
    made: Made, language: str, told: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, page = made.shown("release-event", language, tmp_path)
    page, terminal = (re.sub(r"\s+", " ", text) for text in (page, capsys.readouterr().out))
    for words in told:
        assert words in page, words
        assert words in terminal, words


def test_json_figures_keep_the_signed_values(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the text, ``figures`` hold the signed value."""
    capsys.readouterr()
    assert run(["show", str(made.place / "release-event"), "--json"]) == 0
    figures = [change["figures"] for change in json.loads(capsys.readouterr().out)["changes"]]
    assert [wave["opens"] for one in figures for wave in one.get("waves", ())] == [
        "2026-12-01T08:00:00Z", "2026-12-08T08:00:30Z",
    ]  # fmt: skip
    held = {key: value for one in figures for key, value in one.items()}
    assert held["issued"] == "2026-11-24T12:00:00Z"
    assert held["expires"] == "2027-11-24"
    assert held["upgrade_from"] == ">=3.2.4,<3.3.0"
    assert held["urgency"] == "recommended"
    assert held["unpacked_bytes"] > 50_000


@pytest.mark.parametrize(
    ("signed", "said"),
    [
        (">=3.2.4,<3.3.0", "3.2.4 or later, earlier than 3.3.0"),
        ("==3.2.4", "3.2.4"),
        (">3,<=4,!=3.5", "later than 3, 4 or earlier, not 3.5"),
        ("~=3.2", "~=3.2"),
        ("==3.*", "==3.*"),
        ("", "-"),
    ],
)
def test_version_range_is_described(signed: str, said: str) -> None:
    assert str(format_version_range(signed)) == said


@pytest.mark.parametrize("odd", ["soon", "2026-13-45T99:00:00Z", None, 7])
def test_invalid_time_is_shown_unchanged(odd: object) -> None:
    assert format_signed_time(odd) == str(odd)
