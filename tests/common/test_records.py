"""Records as JSON: what was written is read, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from pathlib import Path

import pytest

from ncen_updater.agent.model.change import ChangeKind
from ncen_updater.common.cli.render import format_time
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import JsonRecord, decode_text, encode_text, parse_stored_time
from ncen_updater.formats.rollout import RolloutWave


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner(JsonRecord):
    at: datetime
    times: int = 1


@dataclass(frozen=True)
class Outer(JsonRecord):
    name: str
    share: float = 0.0
    sure: bool = False
    colour: Colour = Colour.RED
    inner: Inner | None = None
    words: tuple[str, ...] = ()
    by_colour: Mapping[Colour, Inner] = field(default_factory=dict)
    anything: Mapping[str, object] | None = None
    either: int | str | None = None
    text: LazyText | None = None


AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FULL = Outer(
    "a", 0.5, sure=True, colour=Colour.BLUE, inner=Inner(AT, 2), words=("b", "c"),
    by_colour={Colour.RED: Inner(AT)}, anything={"d": [1, {"e": None}]}, either="x",
    text=LazyText("of {part}", {"part": LazyText("line {number}", {"number": 3})}),
)  # fmt: skip


@pytest.mark.parametrize("record", [FULL, Outer("a")])
def test_record_round_trips(record: Outer) -> None:
    assert Outer.from_json(json.loads(json.dumps(record.to_json()))) == record


@dataclass(frozen=True)
class Way(JsonRecord):
    from_: str
    to: str = ""


def test_python_keyword_is_stored_without_its_underscore() -> None:
    assert Way("a", "b").to_json() == {"from": "a", "to": "b"}
    assert Way.from_json({"from": "a"}) == Way("a")
    with pytest.raises(ValueError, match="from is 7"):
        Way.from_json({"from": 7})


def test_missing_fields_have_defaults_and_unknown_ones_are_ignored() -> None:
    assert Outer.from_json({"name": "a", "newer": 1}) == Outer("a")


def nest_text(depth: int) -> dict[str, object]:
    inner = {"a": nest_text(depth - 1)} if depth else {}
    return {"template": "{a}", "values": inner}


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": None}, {"name": 1}, {"share": "1"}, {"share": True}, {"sure": 1}, {"sure": None},
        {"colour": "green"}, {"colour": None}, {"inner": {}}, {"inner": []}, {"inner": "x"},
        {"inner": {"at": "2026-01-02T03:04:05"}}, {"inner": {"at": "today"}},
        {"inner": {"at": AT.isoformat(), "times": 1.0}}, {"words": "bc"}, {"words": [1]},
        {"by_colour": []}, {"by_colour": {"green": {"at": AT.isoformat()}}}, {"anything": []},
        {"either": 1.5}, {"either": True}, {"text": "x"}, {"text": {"template": 1, "values": {}}},
        {"text": {"template": "x"}}, {"text": {"template": "{a}", "values": {"a": {"b": 1}}}},
        {"text": nest_text(20)},
    ],
)  # fmt: skip
def test_wrong_types_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Outer.from_json({"name": "a", **wrong})


@pytest.mark.parametrize("wrong", [None, [], "a", 1, {}])
def test_non_records_are_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="not a Outer"):
        Outer.from_json(wrong)


EDGES = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00"]


@pytest.mark.parametrize("text", EDGES)
def test_times_at_the_calendar_limits_are_refused(text: str) -> None:
    """No delay can be added to them, and not every zone can show them."""
    with pytest.raises(ValueError, match="year out of range"):
        parse_stored_time(text)
    with pytest.raises(ValueError, match="year out of range"):
        Inner.from_json({"at": text})
    with pytest.raises(ValueError, match="opens"):
        RolloutWave.model_validate({"opens": text, "percent": 1})


@pytest.mark.parametrize("hours", [-14, 14])
@pytest.mark.parametrize(
    "moment", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, tzinfo=UTC)]
)
def test_any_time_is_shown_in_any_zone(moment: datetime, hours: int) -> None:
    shown = format_time(moment, timezone(timedelta(hours=hours)))
    assert "UTC" in str(shown)


def test_stored_text_is_rendered_in_the_language_of_its_reader() -> None:
    text = LazyText(
        "{kind} of {path}: {reason} until {until}",
        {
            "kind": ChangeKind.UPGRADE, "path": Path("/srv/x"), "unseen": object(),
            "reason": LazyText("not running"), "until": format_time(datetime.now(UTC)),
        },
    )  # fmt: skip
    stored = json.loads(json.dumps(encode_text(text)))
    assert "unseen" not in stored["values"]
    read = decode_text(stored, "text")
    for language in ("en", "fr"):
        assert read.render(language) == text.render(language)
    assert read.render("fr") != text.render("en")


def test_any_stored_text_is_readable() -> None:
    text = LazyText("{what}", {"what": {"a": 1}})
    for _ in range(30):
        text = LazyText("{what}", {"what": text})
    stored = json.loads(json.dumps(encode_text(text)))
    assert decode_text(stored, "text").render() == text.render() == "{'a': 1}"
