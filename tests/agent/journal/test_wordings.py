"""Fingerprints of one schema that a restore worded anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncen_updater.agent.engine.errors import JournalUnreadable
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.wordings import REWORDED, Reworded, Wordings, note_reworded

TWICE = Wordings(
    [Reworded({"a": "1"}, {"a": "2"}), Reworded({"a": "2", "b": "x"}, {"a": "3", "b": "y"})]
)


@pytest.mark.parametrize(
    ("name", "one", "other", "same"),
    [
        ("a", "1", "2", True),
        ("a", "3", "1", True),
        ("a", "2", "3", True),
        ("a", "4", "4", True),
        ("a", "4", "1", False),
        ("a", "x", "y", False),
        ("b", "y", "x", True),
        ("c", "1", "2", False),
    ],
)
def test_what_is_one_schema(name: str, one: str, other: str, *, same: bool) -> None:
    assert TWICE.same(name, one, other) is same


def test_every_wording_of_a_schema_is_found() -> None:
    assert set(TWICE.all("a", ("2", "4"))) == {"1", "2", "3", "4"}
    assert TWICE.all("c", ("2",)) == ("2",)


def test_one_that_leads_back_to_the_first_has_an_end() -> None:
    back = Wordings([Reworded({"a": "1"}, {"a": "2"}), Reworded({"a": "2"}, {"a": "1"})])
    assert back.same("a", "1", "2")


def test_it_is_written_down_once_and_only_where_words_differ(tmp_path: Path) -> None:
    with Journal.create(tmp_path / "journal.sqlite") as journal:
        for _ in range(2):
            note_reworded(journal, "abcdefgh", {"a": "1", "b": "x"}, {"a": "2", "b": "x", "c": "?"})
        (noted,) = [event for event in journal.events() if event.kind == REWORDED]
        assert noted.data == {"before": {"a": "1"}, "after": {"a": "2"}}
        assert Wordings.of(journal).first("a", "2") == "1"
        journal.note(REWORDED, "abcdefgh", before="odd")
        with pytest.raises(JournalUnreadable):
            Wordings.of(journal)
