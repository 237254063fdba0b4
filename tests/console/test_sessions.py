"""Links, cookies and forms: what is good once is good once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ncen_updater.console import sessions
from ncen_updater.console.service_client import ServiceClient
from ncen_updater.console.sessions import BrowserSessions, FormTokens, LoginKeys, UserContext


def test_login_key_is_valid_once_and_expires() -> None:
    now = [0.0]
    keys = LoginKeys(lambda: now[0])
    one, two = keys.issue_key(), keys.issue_key()
    assert keys.consume_key(one)
    assert not keys.consume_key(one)
    now[0] = sessions.KEY_LIFETIME_S
    assert not keys.consume_key(two)
    assert not keys.consume_key("")
    assert not keys.consume_key("\ud800")


def test_oldest_login_key_expires_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_KEYS", 2)
    keys = LoginKeys()
    issued = [keys.issue_key() for _ in range(3)]
    assert [keys.consume_key(key) for key in issued] == [False, True, True]


class Given(UserContext):
    """What a session is given, and whether it was let go of."""

    def __init__(self) -> None:
        super().__init__(ServiceClient(Path("/nonexistent")))
        self.ended = 0

    def close(self) -> None:
        self.ended += 1
        super().close()


def test_session_is_found_only_by_its_secret() -> None:
    now = [0.0]
    known = BrowserSessions(2, clock=lambda: now[0])
    secrets, inside = [], Given()
    for _ in range(3):
        secrets.append(known.start_session("en", inside))
        now[0] += 1
    assert [known.find_session(secret) is not None for secret in secrets] == [False, True, True]
    assert known.find_session(secrets[1][:-1]) is None
    known.end_session(secrets[2])
    assert known.find_session(secrets[2]) is None


def test_new_session_ends_the_oldest_session_of_that_user_only() -> None:
    """Seen: one account came in 41 times, and nobody else was in any more."""
    now, greedy, other = [0.0], Given(), Given()
    known = BrowserSessions(2, None, lambda: now[0])
    kept = known.start_session("en", other)
    secrets = []
    for _ in range(5):
        now[0] += 1
        secrets.append(known.start_session("en", greedy))
    assert [known.find_session(one) is not None for one in secrets] == [False] * 3 + [True] * 2
    assert known.find_session(kept) is not None
    assert (greedy.ended, other.ended) == (0, 0)


def test_idle_session_expires() -> None:
    """And the process that asked for them is let go of; another browser of theirs keeps it."""
    now, shared, alone = [0.0], Given(), Given()
    known = BrowserSessions(5, 60.0, lambda: now[0])
    first, second, third = (known.start_session("en", one) for one in (shared, shared, alone))
    now[0] = 50.0
    assert known.find_session(first) is not None
    now[0] = 70.0
    assert known.find_session(second) is None and known.find_session(third) is None
    assert known.find_session(first) is not None
    assert (shared.ended, alone.ended) == (0, 1)
    known.end_all()
    assert shared.ended == 1


@pytest.mark.parametrize("changed", ["address", "session", "number", "signature", "empty"])
def test_token_is_bound_to_session_and_address(changed: str) -> None:
    acts, other = FormTokens(), FormTokens()
    token = acts.create_token("/hold")
    number, _, signature = token.partition(".")
    assert acts.is_valid("/hold", token)
    wrong = {
        "address": ("/unhold", token), "session": ("/hold", other.create_token("/hold")),
        "number": ("/hold", f"{number}x.{signature}"), "signature": ("/hold", f"{number}.é"),
        "empty": ("/hold", ""),
    }[changed]  # fmt: skip
    assert not acts.is_valid(*wrong)


def test_concurrent_form_is_processed_once() -> None:
    acts, start, mine = FormTokens(), threading.Barrier(8), []
    token = acts.create_token("/job")

    def send() -> None:
        start.wait()
        mine.append(acts.start_form(token)[1])

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(mine) == [False] * 7 + [True]


def test_forms_per_session_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_FORMS", 1)
    acts = FormTokens()
    acts.start_form("a")
    acts.start_form("a")
    with pytest.raises(OverflowError):
        acts.start_form("b")
