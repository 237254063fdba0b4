"""Login methods: by a one-time link shown on the user's terminal, or by the account's password."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    CONSOLE_FORM,
    CONSOLE_LINK_EXPIRED,
    CONSOLE_NO_SESSION,
    CONSOLE_NOT_LOGGED_IN,
    ErrorMessage,
)
from ncen_updater.console.password_login import LoginClient, ProxiedServiceClient
from ncen_updater.console.sessions import LoginKeys, UserContext, limit_requests

#: Host header of a browser on this machine or behind an SSH tunnel. Not 'localhost': browsers try
#: ::1 first for that name, and another user's server there would count as the same site.
_LOCAL_HOSTS = re.compile(r"127\.0\.0\.1:[0-9]{1,5}")
#: Host header behind a web server, which checks its own names.
_NAMED_HOSTS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?(:[0-9]{1,5})?")


@dataclass(frozen=True)
class WebOrigin:
    """Scheme and host names under which browsers reach the console.

    Attributes:
        scheme: URL scheme.
        hosts: Pattern of the accepted Host headers.
    """

    scheme: str
    hosts: re.Pattern[str]


LOCAL_ORIGIN, TLS_ORIGIN = WebOrigin("http", _LOCAL_HOSTS), WebOrigin("https", _NAMED_HOSTS)


class AuthBackend(Protocol):
    """A login method.

    Attributes:
        login_path: Path of the login page.
        uses_form: Whether the login page is a form; otherwise the link itself contains the key.
        origin: Origin of the console.
        logged_out_message: Error for a request without a session.
        idle_s: Idle time after which a session ends, in seconds; None for never.
        max_sessions: Concurrent sessions per user.
        threads: Requests handled at the same time.
        ends_with_terminal: Whether the console ends with the terminal that started it.
    """

    login_path: str
    uses_form: bool
    origin: WebOrigin
    logged_out_message: ErrorMessage
    idle_s: float | None
    max_sessions: int
    threads: int
    ends_with_terminal: bool

    def authenticate(self, credentials: Mapping[str, str], address: str) -> UserContext:
        """Return the user's context for a new session.

        Args:
            credentials: Fields of the form, or query of the link.
            address: Client address of the browser.

        Raises:
            UpdaterError: If the login is refused.
        """

    def close(self) -> None:
        """Release the backend's resources when the console ends."""


class LinkAuthBackend:
    """Login by a one-time link; every browser acts as the user who started the console.

    Args:
        keys: Keys of the links.
        user_context: Context of that user.
    """

    login_path = "/enter"
    uses_form = False
    origin = LOCAL_ORIGIN
    logged_out_message = CONSOLE_NO_SESSION
    max_sessions = 8
    threads = 16
    ends_with_terminal = True
    idle_s: float | None = None

    def __init__(self, keys: LoginKeys, user_context: UserContext) -> None:
        self._keys, self._user_context = keys, user_context

    def authenticate(self, credentials: Mapping[str, str], address: str) -> UserContext:
        """Consume the key of a link; errors as in :meth:`AuthBackend.authenticate`."""
        if not self._keys.consume_key(credentials.get("key", "")):
            raise UpdaterError(CONSOLE_LINK_EXPIRED)
        return self._user_context

    def close(self) -> None:
        """Close the user's context."""
        self._user_context.close()


class PasswordAuthBackend:
    """Login by the password of a system account, behind a web server that terminates TLS.

    Args:
        login: Client of the separate process that checks passwords.
    """

    login_path = "/login"
    uses_form = True
    origin = TLS_ORIGIN
    logged_out_message = CONSOLE_NOT_LOGGED_IN
    max_sessions = 4
    threads = 32
    ends_with_terminal = False
    idle_s: float | None = 1800.0

    def __init__(self, login: LoginClient) -> None:
        self._login = login
        #: By user name. All sessions of a user share one connection and the inspections.
        self._users: dict[str, tuple[UserContext, ProxiedServiceClient]] = {}
        self._lock = threading.Lock()
        #: A password check takes seconds: logins may use only a quarter of the request threads.
        self._logins = threading.BoundedSemaphore(self.threads // 4)

    def authenticate(self, credentials: Mapping[str, str], address: str) -> UserContext:
        """Check a password; errors as in :meth:`AuthBackend.authenticate`."""
        user, password = credentials.get("user", "").strip(), credentials.get("password", "")
        if not user or not password:
            raise UpdaterError(CONSOLE_FORM, reason="name or password missing")
        with limit_requests(self._logins):
            connection, name = self._login.log_in(user, password, address)
        service = ProxiedServiceClient(connection, name, self._login)
        context = UserContext(service)
        while True:
            with self._lock:
                self._users = {
                    n: u for n, u in self._users.items() if not u[0].event_follower.is_stopped
                }
                known = self._users.setdefault(name, (context, service))
            # Outside the lock: it waits for a request of this user, and other users do not.
            if known[0] is context or known[1].replace_connection(connection):
                return known[0]

    def close(self) -> None:
        """Do nothing: the application ends the sessions, and these release the contexts."""
