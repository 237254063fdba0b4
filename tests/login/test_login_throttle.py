"""Tests of the login throttle: failed attempts prolong the wait for a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncen_updater.login import login_throttle as tries
from ncen_updater.login.login_throttle import (
    ALL_ATTEMPTS,
    FREE_ATTEMPTS,
    MAX_WAIT_S,
    RESET_AFTER_S,
    AttemptLimit,
    LoginThrottle,
    compute_wait_s,
    list_limits,
)

AMINA, BO = (list_limits(name, "192.0.2.1", logged_in=False) for name in ("amina", "bo"))


@pytest.mark.parametrize(
    ("count", "after", "wait"),
    [
        (0, 0.0, 0.0), (FREE_ATTEMPTS - 1, 0.0, 0.0), (FREE_ATTEMPTS, 0.0, 2.0),
        (FREE_ATTEMPTS, 1.5, 0.5), (FREE_ATTEMPTS, 2.0, 0.0),
        (FREE_ATTEMPTS + 1, 0.0, 4.0), (FREE_ATTEMPTS + 4, 0.0, 32.0),
        (FREE_ATTEMPTS + 5, 0.0, MAX_WAIT_S),
        (FREE_ATTEMPTS + 1000, 0.0, MAX_WAIT_S), (FREE_ATTEMPTS + 1000, RESET_AFTER_S, 0.0),
        # Seen: the wait overflowed after 1023 attempts, and nobody could log in.
        (FREE_ATTEMPTS + 100_000, 0.0, MAX_WAIT_S),
    ],
)  # fmt: skip
def test_login_delay_is_computed(count: int, after: float, wait: float) -> None:
    assert compute_wait_s(AttemptLimit("x"), count, 100.0, 100.0 + after) == wait


def test_attempt_is_counted_before_it_is_judged(tmp_path: Path) -> None:
    """Many at once count as many; who waits is not counted, and who was right begins again."""
    now = [1000.0]
    kept = LoginThrottle(tmp_path / "tries", lambda: now[0])
    assert [kept.record_attempt(AMINA) for _ in range(FREE_ATTEMPTS + 1)] == [
        0.0
    ] * FREE_ATTEMPTS + [2.0]
    assert kept.record_attempt(BO) == 0.0
    again = LoginThrottle(tmp_path / "tries", lambda: now[0])
    assert again.record_attempt(AMINA) == 2.0
    now[0] += 2.0
    assert again.record_attempt(AMINA) == 0.0
    assert again.record_attempt(AMINA) == 4.0
    again.clear_attempts(AMINA)
    assert again.record_attempt(AMINA) == 0.0


@pytest.mark.parametrize(
    ("user", "address", "inside", "same"),
    [
        ("amina", "192.0.2.1", False, True), ("amina", "192.0.2.2", False, False),
        ("amina", "", False, False), ("bo", "192.0.2.1", False, False),
        ("amina", "192.0.2.1", True, False),
    ],
)  # fmt: skip
def test_attempts_from_elsewhere_do_not_lock_a_user_out(
    tmp_path: Path, user: str, address: str, inside: bool, same: bool
) -> None:
    """An attacker slows a name only at their own address, and no existing session."""
    kept = LoginThrottle(tmp_path / "tries", lambda: 1.0)
    while kept.record_attempt(AMINA) == 0.0:
        pass
    assert (kept.record_attempt(list_limits(user, address, logged_in=inside)) > 0) is same


def test_ipv6_network_counts_as_one_address() -> None:
    one, two, other = (
        list_limits("amina", address, logged_in=False)[0]
        for address in ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1")
    )
    assert one == two != other


def test_distributed_attempts_are_slowed_but_never_locked_out(tmp_path: Path) -> None:
    """From any number of addresses; a success resets only its own."""
    now = [1000.0]
    kept = LoginThrottle(tmp_path / "tries", lambda: now[0])
    for number in range(ALL_ATTEMPTS.free):
        assert (
            kept.record_attempt(list_limits("amina", f"192.0.2.{number}", logged_in=False)) == 0.0
        )
    assert kept.record_attempt(BO) == ALL_ATTEMPTS.longest_s
    assert kept.record_attempt(list_limits("bo", "", logged_in=True)) == 0.0
    now[0] += ALL_ATTEMPTS.longest_s
    assert kept.record_attempt(BO) == 0.0
    kept.clear_attempts(BO)
    now[0] += ALL_ATTEMPTS.longest_s
    assert kept.record_attempt(BO) == 0.0


def test_oldest_names_are_forgotten_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "MAX_NAMES", 3)
    kept = LoginThrottle(tmp_path / "tries", lambda: 1.0)
    for name in ("a", *["b"] * FREE_ATTEMPTS, "c", "d"):
        assert kept.record_attempt((AttemptLimit(name),)) == 0.0
    assert kept.record_attempt((AttemptLimit("b"),)) > 0
    assert b"amina" not in (tmp_path / "tries").read_bytes()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b"\xff", b"{" * 300_000])
def test_truncated_throttle_file_counts_as_empty(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tries").write_bytes(content)
    assert LoginThrottle(tmp_path / "tries").record_attempt(AMINA) == 0.0


def test_symlink_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "tries").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="tries"):
        LoginThrottle(tmp_path / "tries").record_attempt(AMINA)
