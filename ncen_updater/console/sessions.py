"""Login keys, browser sessions with their forms, and what one signed-in person's sessions share.

Nothing of it is kept anywhere but in memory: with the console every session ends.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, LazyText
from ncen_updater.common.messages import CONSOLE_BUSY
from ncen_updater.console.inspection_poller import EventFollower, InspectionPoller
from ncen_updater.console.service_client import ServiceClient

#: So many requests of one person are answered at a time.
REQUESTS = 8
#: So long is a link good.
KEY_LIFETIME_S = 60.0
#: Of keys that wait, and of what one session may do.
MAX_KEYS, MAX_FORMS = 20, 2_000


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


class LoginKeys:
    """Keys of links: each is good once, and not long.

    Args:
        clock: A clock that is never set.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def issue_key(self) -> str:
        """Return a new key; of too many that nobody used the oldest is void."""
        key = secrets.token_urlsafe(32)
        with self._lock:
            while len(self._open) >= MAX_KEYS:
                del self._open[next(iter(self._open))]
            self._open[_digest(key)] = self._clock() + KEY_LIFETIME_S
        return key

    def consume_key(self, key: str) -> bool:
        """Tell whether a key is good; it is not any more after this."""
        with self._lock:
            ends = self._open.pop(_digest(key), None)
        return ends is not None and self._clock() < ends


@dataclass
class FormOutcome:
    """What became of a form.

    Attributes:
        address: Where the browser goes.
        notice: What the page says there of it.
        refused: Why nothing was done, as an error has it, and the status of HTTP.
        ended: Set once it is known.
    """

    address: str = "/"
    notice: LazyText | None = None
    refused: tuple[int, dict[str, str]] | None = None
    ended: threading.Event = field(default_factory=threading.Event)


class FormTokens:
    """What a session has sent: each form is carried out once, however often it comes."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._begun: dict[str, FormOutcome] = {}
        self._lock = threading.Lock()

    def create_token(self, address: str) -> str:
        """Return what a form to an address has to bring along; never the same twice."""
        number = secrets.token_urlsafe(12)
        return f"{number}.{self._sign(address, number)}"

    def is_valid(self, address: str, token: str) -> bool:
        """Tell whether a form to this address was given out with this token."""
        number, _, signature = token.partition(".")
        return hmac.compare_digest(
            signature.encode("utf-8", "replace"), self._sign(address, number).encode()
        )

    def start_form(self, token: str) -> tuple[FormOutcome, bool]:
        """Return what became of a form, and whether it is to be carried out now.

        Raises:
            OverflowError: If this session has done more than anybody does.
        """
        with self._lock:
            found = self._begun.get(token)
            if found is not None:
                return found, False
            if len(self._begun) >= MAX_FORMS:
                raise OverflowError
            self._begun[token] = made = FormOutcome()
            return made, True

    def get_notice(self, token: str) -> LazyText | None:
        """Return what there is to say of a form that was carried out."""
        with self._lock:
            found = self._begun.get(token)
        return found.notice if found is not None and found.ended.is_set() else None

    def _sign(self, address: str, number: str) -> str:
        content = f"{address}\n{number}".encode("utf-8", "replace")
        return hmac.new(self._secret, content, hashlib.sha256).hexdigest()


class BrowserSession:
    """One browser that came in.

    Attributes:
        inside: What it is given.
        language: In which it is shown everything.
        acts: What it has sent.
        used: When it asked for something last.
    """

    def __init__(
        self, inside: UserContext, language: str = DEFAULT_LANGUAGE, used: float = 0.0
    ) -> None:
        self.user_context, self.language, self.last_used = inside, language, used
        self.form_tokens = FormTokens()


class BrowserSessions:
    """Sessions by the secret in their cookie, of which a digest is kept.

    Args:
        max_sessions: So many one person has at the same time; else theirs that was used longest ago
            ends.
        idle_s: One that nobody uses for so long ends; None for never.
        clock: A clock that is never set.
    """

    def __init__(
        self,
        max_sessions: int,
        idle_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._idle_s, self._clock = max_sessions, idle_s, clock
        self._open: dict[bytes, BrowserSession] = {}
        self._lock = threading.Lock()

    def start_session(self, language: str, inside: UserContext) -> str:
        """Begin a session and return its secret."""
        secret, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            gone = self._pop_idle(now)
            theirs = [name for name, one in self._open.items() if one.user_context is inside]
            if len(theirs) >= self._most:
                gone.append(self._open.pop(min(theirs, key=lambda one: self._open[one].last_used)))
            self._open[_digest(secret)] = BrowserSession(inside, language, now)
        self._release_contexts(gone)
        return secret

    def find_session(self, secret: str) -> BrowserSession | None:
        """Return a session; None for a secret of none, or of one that was not used for long."""
        now = self._clock()
        with self._lock:
            gone = self._pop_idle(now)
            found = self._open.get(_digest(secret))
            if found is not None:
                found.last_used = now
        self._release_contexts(gone)
        return found

    def end_session(self, secret: str) -> None:
        """End a session."""
        with self._lock:
            found = self._open.pop(_digest(secret), None)
        self._release_contexts([found] if found is not None else [])

    def end_all(self) -> None:
        """End every session."""
        with self._lock:
            gone = list(self._open.values())
            self._open.clear()
        self._release_contexts(gone)

    def _pop_idle(self, now: float) -> list[BrowserSession]:
        if self._idle_s is None:
            return []
        begins = now - self._idle_s
        names = [name for name, one in self._open.items() if one.last_used < begins]
        return [self._open.pop(name) for name in names]

    def _release_contexts(self, gone: list[BrowserSession]) -> None:
        """End what those were given whom nobody else shares it with."""
        with self._lock:
            shared = {id(one.user_context) for one in self._open.values()}
        for one in gone:
            if id(one.user_context) not in shared:
                one.user_context.release()


@contextmanager
def have_place(places: threading.Semaphore) -> Iterator[None]:
    """Have one of few places for the block; never waits.

    Raises:
        UpdaterError: If there is none.
    """
    if not places.acquire(blocking=False):
        raise UpdaterError(CONSOLE_BUSY)
    try:
        yield
    finally:
        places.release()


class UserContext:
    """Of one person; browsers of the same person may share it.

    Args:
        service: Answers as that person's.
        persistent: Whether it stays when no browser has it any more.

    Attributes:
        service: Answers as that person's.
        looking: What was looked at for them.
        following: What goes on.
        requests: Places for what is asked for them at a time.
    """

    def __init__(self, service: ServiceClient, *, persistent: bool = False) -> None:
        self.service, self._lasting = service, persistent
        self.inspections, self.event_follower = InspectionPoller(service), EventFollower(service)
        self.requests = threading.BoundedSemaphore(REQUESTS)

    def release(self) -> None:
        """No browser has it any more."""
        if not self._lasting:
            self.close()

    def close(self) -> None:
        """Let go of every page that waits for something, and of the line to the service."""
        self.event_follower.stop()
        self.service.close()
