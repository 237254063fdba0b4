"""Each name has to wait the longer, the more often it was tried in vain."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncen_updater.login import tries
from ncen_updater.login.tries import FORGOTTEN_S, FREE, LONGEST_S, Tries, wait_s


@pytest.mark.parametrize(
    ("count", "after", "wait"),
    [
        (0, 0.0, 0.0), (FREE - 1, 0.0, 0.0), (FREE, 0.0, 2.0), (FREE, 1.5, 0.5), (FREE, 2.0, 0.0),
        (FREE + 1, 0.0, 4.0), (FREE + 4, 0.0, 32.0), (FREE + 5, 0.0, LONGEST_S),
        (FREE + 1000, 0.0, LONGEST_S), (FREE + 1000, FORGOTTEN_S, 0.0),
    ],
)  # fmt: skip
def test_how_long(count: int, after: float, wait: float) -> None:
    assert wait_s(count, 100.0, 100.0 + after) == wait


def test_what_was_tried_is_counted_before_it_is_judged(tmp_path: Path) -> None:
    """Many at once count as many; who waits is not counted, and who was right begins anew."""
    now = [1000.0]
    kept = Tries(tmp_path / "tries", lambda: now[0])
    assert [kept.begin("amina") for _ in range(FREE + 1)] == [0.0] * FREE + [2.0]
    assert kept.begin("bo") == 0.0
    again = Tries(tmp_path / "tries", lambda: now[0])
    assert again.begin("amina") == 2.0
    now[0] += 2.0
    assert again.begin("amina") == 0.0
    assert again.begin("amina") == 4.0
    again.right("amina")
    assert again.begin("amina") == 0.0


def test_names_are_forgotten_the_oldest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tries, "MOST_NAMES", 3)
    kept = Tries(tmp_path / "tries", lambda: 1.0)
    for name in ("a", *["b"] * FREE, "c", "d"):
        assert kept.begin(name) == 0.0
    assert kept.begin("b") > 0
    assert b"amina" not in (tmp_path / "tries").read_bytes()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b"\xff", b"{" * 300_000])
def test_a_file_that_was_torn_holds_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tries").write_bytes(content)
    assert Tries(tmp_path / "tries").begin("amina") == 0.0


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "tries").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="tries"):
        Tries(tmp_path / "tries").begin("amina")
