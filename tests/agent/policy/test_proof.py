"""When a dump counts as one that can be restored."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ncen_updater.agent.journal.wordings import Reworded, Wordings
from ncen_updater.agent.policy.proof import Proof, why_unproved

NOW = datetime(2026, 5, 1, tzinfo=UTC)
PROOF = Proof(NOW - timedelta(days=3), "basis", {"a": ("old", "new"), "b": ("one",)})
SCHEMAS = {"a": "old", "b": "one"}


@pytest.mark.parametrize(
    ("proof", "schemas", "days", "words"),
    [
        (PROOF, SCHEMAS, 14, None),
        (PROOF, {"a": "new", "b": "one"}, 14, None),
        (None, SCHEMAS, 14, "no rehearsal"),
        (PROOF, SCHEMAS, 2, "3 days old"),
        (replace(PROOF, basis="other"), SCHEMAS, 14, "changed"),
        (PROOF, {"a": "old", "b": "two"}, 14, "'b'"),
        (PROOF, {**SCHEMAS, "c": "x"}, 14, "'c'"),
    ],
)
def test_why_it_is_not_proved(
    proof: Proof | None, schemas: dict[str, str], days: int, words: str | None
) -> None:
    reason = why_unproved(proof, "basis", schemas, NOW, timedelta(days=days))
    assert (reason is None) if words is None else (words in str(reason))


@pytest.mark.parametrize(
    ("release", "before", "also"),
    [
        ("2.0", {"a": "old", "b": "one"}, {"a": ("found",), "b": ("found",)}),
        ("2.0", {"a": "old", "b": "odd"}, {"a": ("found",)}),
        ("2.0", {}, {}),
        ("3.0", {"a": "old", "b": "one"}, {}),
    ],
)
def test_it_holds_for_what_an_upgrade_to_a_rehearsed_release_made(
    release: str, before: dict[str, str], also: dict[str, tuple[str, ...]]
) -> None:
    """The rehearsal migrated what was restored; its words may be others."""
    proof = replace(PROOF, releases=("2.0",))
    grown = proof.after(release, before, dict.fromkeys(("a", "b", "c"), "found"))
    assert grown.schemas == {n: (*f, *also.get(n, ())) for n, f in PROOF.schemas.items()}


def test_it_holds_for_every_wording() -> None:
    wordings = Wordings([Reworded({"b": "one"}, {"b": "uno"})])
    assert PROOF.reworded(wordings).schemas == {"a": ("old", "new"), "b": ("one", "uno")}


def test_it_is_read_as_it_was_written() -> None:
    proof = replace(PROOF, releases=("2.0",))
    assert Proof.from_json(proof.at, proof.as_json()) == proof
    older = {name: value for name, value in proof.as_json().items() if name != "releases"}
    assert Proof.from_json(proof.at, older) == PROOF


def test_its_form_in_a_report_stays() -> None:
    written = {"basis": "basis", "schemas": {"a": ["old", "new"], "b": ["one"]}, "releases": []}
    assert PROOF.as_json() == written
    assert Proof.from_json(PROOF.at, written) == PROOF


@pytest.mark.parametrize("data", [None, {}, "x", {"basis": "b"}, {"basis": "b", "schemas": []}])
def test_what_an_older_agent_left_is_no_proof(data: object) -> None:
    assert Proof.from_json(NOW, data) is None
