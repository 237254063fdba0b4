"""Tests of the summary that signers read first: every step, country, and unchanged part."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from tuf.api.metadata import TargetFile, Targets  # type: ignore[attr-defined]

from ncen_updater.formats.target_names import OFFER_FIELD
from ncen_updater.publisher.review.event_review import summarize_event
from ncen_updater.publisher.review.text_page import EVENT_TITLES, translate_title
from ncen_updater.publisher.signing import draft
from ncen_updater.publisher.signing.value_format import format_signed_time

FIRST, SECOND, THIRD = "2026-12-01T08:00:00Z", "2026-12-03T08:00:00Z", "2026-12-08T08:00:00Z"
#: As all pages tell times: where they are read, and in UTC.
TOLD = {time: format_signed_time(time) for time in (FIRST, SECOND, THIRD)}


class Signed:
    """Stands in for the metadata of one role, of which only the content is read."""

    def __init__(self, **offer: Any) -> None:
        named = {"product": "ncen", "version": "3.4.0", **offer}
        target = TargetFile(1, {"sha256": "0" * 64}, "releases/ncen/3.4.0.json")
        target.unrecognized_fields["custom"] = {OFFER_FIELD: named}
        self.signed = Targets(
            targets={target.path: target}, expires=datetime(2027, 1, 1, tzinfo=UTC)
        )


class Event:
    """A fake event with one role."""

    def __init__(self, new: Signed, old: Signed | None = None) -> None:
        self.drafts = {"ncen": new}
        self.base = {"ncen": old} if old else {}


def wave(opens: str, percent: int, *countries: str) -> dict[str, Any]:
    return {"opens": opens, "percent": percent, "countries": list(countries)}


@pytest.mark.parametrize(
    ("waves", "expected"),
    [
        ([], "all sites at once"),
        ([wave(FIRST, 100)], f"100 % from {TOLD[FIRST]}"),
        (
            [wave(SECOND, 100, "SN", "MU"), wave(FIRST, 20)],
            f"20 % from {TOLD[FIRST]}, 100 % in MU, SN from {TOLD[SECOND]}",
        ),
        (
            [wave(FIRST, 5), wave(SECOND, 25), wave(THIRD, 100)],
            f"5 % from {TOLD[FIRST]}, 25 % from {TOLD[SECOND]}, 100 % from {TOLD[THIRD]}",
        ),
    ],
)
def test_every_schedule_step_is_described(waves: list[dict[str, Any]], expected: str) -> None:
    (said,) = summarize_event(Event(Signed(waves=waves)))  # type: ignore[arg-type]
    assert said.render() == f"Offers ncen 3.4.0 to sites in all countries: {expected}."


@pytest.mark.parametrize(
    ("stays", "expected"),
    [
        ({"halted": {"reason": "x"}}, "stays halted; after the halt, it is offered to sites in MU"),
        ({"withdrawn": {"reason": "x", "advice": "y"}}, "stays withdrawn"),
    ],
)
def test_unoffered_release_is_not_described_as_offered(
    stays: dict[str, Any], expected: str
) -> None:
    event = Event(Signed(countries=["MU"], **stays), Signed(**stays))
    (said,) = summarize_event(event)  # type: ignore[arg-type]
    assert expected in said.render()
    assert "Offers" not in said.render()


@pytest.mark.parametrize("known", EVENT_TITLES)
def test_own_title_is_translated(known: str) -> None:
    title = translate_title(known.replace("{what}", "ncen 3.4.0"))
    assert not isinstance(title, str)
    assert title.render() == known.replace("{what}", "ncen 3.4.0")
    assert title.render("fr") != title.render()


def test_foreign_title_is_unchanged() -> None:
    assert translate_title("Release the {what}") == "Release the {what}"


def test_titles_of_all_drafts_are_translated() -> None:
    """Seen: the title of a retirement was shown in English."""
    begins = re.findall(r'f"([A-Z][^"{]* )\{', inspect.getsource(draft))
    assert len(begins) > 3
    for begin in (*begins, *(f"{subject} of " for subject in draft.OfferSubject)):
        assert translate_title(f"{begin}ncen 3.4.0") != f"{begin}ncen 3.4.0", begin
