"""Login keys, browser sessions with their forms, and the context that a user's sessions share.

Everything is in memory only: all sessions end with the console.
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

#: Parallel requests per user.
REQUESTS = 8
#: Validity of a login link.
KEY_LIFETIME_S = 60.0
#: Limits: unused login keys; submitted forms per session.
MAX_KEYS, MAX_FORMS = 20, 2_000


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


class LoginKeys:
    """One-time, short-lived keys of login links.

    Args:
        clock: A monotonic clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def issue_key(self) -> str:
        """Return a new key; above the limit, discard the oldest unused key."""
        key = secrets.token_urlsafe(32)
        with self._lock:
            while len(self._open) >= MAX_KEYS:
                del self._open[next(iter(self._open))]
            self._open[_digest(key)] = self._clock() + KEY_LIFETIME_S
        return key

    def consume_key(self, key: str) -> bool:
        """Return whether a key is valid, and invalidate it."""
        with self._lock:
            expires_at = self._open.pop(_digest(key), None)
        return expires_at is not None and self._clock() < expires_at


@dataclass
class FormOutcome:
    """Outcome of a submitted form.

    Attributes:
        address: Path to which the browser is redirected.
        notice: Notice for that page.
        refused: HTTP status and error document if the action failed.
        ended: Set once the outcome is known.
    """

    address: str = "/"
    notice: LazyText | None = None
    refused: tuple[int, dict[str, str]] | None = None
    ended: threading.Event = field(default_factory=threading.Event)


class FormTokens:
    """Form tokens of a session: each form is processed once, however often it is submitted."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._outcomes: dict[str, FormOutcome] = {}
        self._lock = threading.Lock()

    def create_token(self, address: str) -> str:
        """Return a new unique token for a form that is posted to a path."""
        number = secrets.token_urlsafe(12)
        return f"{number}.{self._sign(address, number)}"

    def is_valid(self, address: str, token: str) -> bool:
        """Return whether a token was issued for a form with this path."""
        number, _, signature = token.partition(".")
        return hmac.compare_digest(
            signature.encode("utf-8", "replace"), self._sign(address, number).encode()
        )

    def start_form(self, token: str) -> tuple[FormOutcome, bool]:
        """Return the outcome of a form, and whether the caller must process the form now.

        Raises:
            OverflowError: If the session has submitted too many forms.
        """
        with self._lock:
            outcome = self._outcomes.get(token)
            if outcome is not None:
                return outcome, False
            if len(self._outcomes) >= MAX_FORMS:
                raise OverflowError
            self._outcomes[token] = new_outcome = FormOutcome()
            return new_outcome, True

    def get_notice(self, token: str) -> LazyText | None:
        """Return the notice for a processed form; None if there is none."""
        with self._lock:
            outcome = self._outcomes.get(token)
        return outcome.notice if outcome is not None and outcome.ended.is_set() else None

    def _sign(self, address: str, number: str) -> str:
        content = f"{address}\n{number}".encode("utf-8", "replace")
        return hmac.new(self._secret, content, hashlib.sha256).hexdigest()


class BrowserSession:
    """Session of one browser.

    Attributes:
        user_context: Context of the user.
        language: Language of the pages.
        form_tokens: The session's form tokens.
        last_used: Time of the last request, on the monotonic clock.
    """

    def __init__(
        self, user_context: UserContext, language: str = DEFAULT_LANGUAGE, used: float = 0.0
    ) -> None:
        self.user_context, self.language, self.last_used = user_context, language, used
        self.form_tokens = FormTokens()


class BrowserSessions:
    """Sessions by the secret in their cookie; only a digest of the secret is stored.

    Args:
        max_sessions: Concurrent sessions per user; above it, the user's least recently used session
            ends.
        idle_s: Idle time after which a session ends, in seconds; None for never.
        clock: A monotonic clock.
    """

    def __init__(
        self,
        max_sessions: int,
        idle_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_sessions, self._idle_s, self._clock = max_sessions, idle_s, clock
        self._open: dict[bytes, BrowserSession] = {}
        self._lock = threading.Lock()

    def start_session(self, language: str, user_context: UserContext) -> str:
        """Start a session and return its secret."""
        secret, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            ended = self._pop_idle(now)
            own = [name for name, one in self._open.items() if one.user_context is user_context]
            if len(own) >= self._max_sessions:
                ended.append(self._open.pop(min(own, key=lambda one: self._open[one].last_used)))
            self._open[_digest(secret)] = BrowserSession(user_context, language, now)
        self._release_contexts(ended)
        return secret

    def find_session(self, secret: str) -> BrowserSession | None:
        """Return the session; None if the secret is unknown or the session has expired."""
        now = self._clock()
        with self._lock:
            ended = self._pop_idle(now)
            session = self._open.get(_digest(secret))
            if session is not None:
                session.last_used = now
        self._release_contexts(ended)
        return session

    def end_session(self, secret: str) -> None:
        """End a session."""
        with self._lock:
            session = self._open.pop(_digest(secret), None)
        self._release_contexts([session] if session is not None else [])

    def end_all(self) -> None:
        """End all sessions."""
        with self._lock:
            ended = list(self._open.values())
            self._open.clear()
        self._release_contexts(ended)

    def _pop_idle(self, now: float) -> list[BrowserSession]:
        if self._idle_s is None:
            return []
        limit = now - self._idle_s
        names = [name for name, one in self._open.items() if one.last_used < limit]
        return [self._open.pop(name) for name in names]

    def _release_contexts(self, ended: list[BrowserSession]) -> None:
        """Release the contexts that no remaining session uses."""
        with self._lock:
            shared = {id(one.user_context) for one in self._open.values()}
        for one in ended:
            if id(one.user_context) not in shared:
                one.user_context.release()


@contextmanager
def limit_requests(semaphore: threading.Semaphore) -> Iterator[None]:
    """Hold one place of a semaphore during the block; never wait.

    Raises:
        UpdaterError: If no place is free.
    """
    if not semaphore.acquire(blocking=False):
        raise UpdaterError(CONSOLE_BUSY)
    try:
        yield
    finally:
        semaphore.release()


class UserContext:
    """Context of one user, shared by all browser sessions of that user.

    Args:
        service: Client of the service that acts as the user.
        persistent: Whether the context outlives the last session.

    Attributes:
        service: Client of the service that acts as the user.
        inspections: The user's inspections.
        event_follower: The user's follower of the event stream.
        requests: Semaphore for the user's parallel requests.
    """

    def __init__(self, service: ServiceClient, *, persistent: bool = False) -> None:
        self.service, self._persistent = service, persistent
        self.inspections, self.event_follower = InspectionPoller(service), EventFollower(service)
        self.requests = threading.BoundedSemaphore(REQUESTS)

    def release(self) -> None:
        """Close the context after its last session, unless it is persistent."""
        if not self._persistent:
            self.close()

    def close(self) -> None:
        """Stop the event follower and close the connection to the service."""
        self.event_follower.stop()
        self.service.close()
