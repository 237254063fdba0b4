"""Tests of a short part of the fuzzing, by the run's seed; and that it finds faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.engine import Reader, outcome, run
from tests.fuzz.readers import readers
from tests.support.rotation import seed

EACH = 15


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> list[Reader]:
    return readers(tmp_path_factory.mktemp("fuzz"))


def test_readers_raise_only_typed_errors(every: list[Reader], tmp_path: Path) -> None:
    enough = EACH * len(every)
    found = run(every, tmp_path, None, seed(), lambda count: count >= enough)
    assert found.findings == []
    assert min(found.inputs[reader.name] for reader in every) > EACH


def test_valid_inputs_are_read(every: list[Reader], tmp_path: Path) -> None:
    """Else everything would be refused at the first byte, and nothing be tried."""
    read = {
        reader.name
        for reader in every
        if any(outcome(reader, tmp_path, good) == "read" for good in reader.seeds)
    }
    assert read == {reader.name for reader in every}


def test_untyped_error_is_found_and_stored(tmp_path: Path) -> None:
    def careless(_place: Path, content: bytes) -> None:
        if not content.startswith(b"["):
            raise ValueError("no list")
        if len(content) > 5:
            raise IndexError("too long")
        if b"a" not in content:
            raise KeyError("a")

    reader = Reader("careless", (b"[a]",), careless, (ValueError,))
    found = run([reader], tmp_path, tmp_path / "corpus", 1, lambda count: count >= 300)
    kinds = {what.splitlines()[-1].partition(":")[0] for _, what, _ in found.findings}
    assert kinds == {"IndexError", "KeyError"}
    for _, _, kept in found.findings:
        with pytest.raises((IndexError, KeyError)):
            outcome(reader, tmp_path, kept.read_bytes())
    again = run([reader], tmp_path, tmp_path / "corpus", 2, lambda count: count >= 1)
    assert again.inputs["careless"] == 1 + found.places["careless"]  # the corpus came first
