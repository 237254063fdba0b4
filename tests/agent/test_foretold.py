"""What ``plan`` tells of the last rehearsal of it: the stop, and values written on trial."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from ncen_updater.agent.answers import _rehearsed_words, rehearsed_hops
from ncen_updater.agent.databases.tried import TriedValues
from ncen_updater.common.i18n import Text

VALUES = TriedValues().to_json()
HOP: dict[str, Any] = {
    "from": "3.2.4", "to": "3.3.0", "stop_s": {"low": 2.0, "likely": 3.0, "high": 9.0},
    "values": VALUES,
}  # fmt: skip


def test_a_rehearsal_of_another_plan_says_nothing() -> None:
    made = cast("Any", SimpleNamespace(digest="aa"))
    assert rehearsed_hops(made, None) == {}
    assert rehearsed_hops(made, {"plan": "bb", "hops": [HOP]}) == {}
    assert rehearsed_hops(made, {"plan": "aa", "hops": [HOP]}) == {("3.2.4", "3.3.0"): HOP}


def test_the_stop_and_the_values_are_told() -> None:
    def lines(hop: dict[str, Any]) -> list[str]:
        return [
            line.render("en") if isinstance(line, Text) else line
            for line in _rehearsed_words(hop, "en")
        ]

    stop = "  as rehearsed, officers are out for 2.0 s to 9.0 s"
    assert lines({**HOP, "values": None}) == [stop]
    lost = {**VALUES, "stopped": "the way back stumbled"}
    assert lines({**HOP, "values": lost})[1:] == [
        "  with values in the tables it stopped: the way back stumbled"
    ]
