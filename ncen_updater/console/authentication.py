"""Sign-in by a link that the person's own terminal shows, or by their account's password."""

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
from ncen_updater.console.sessions import LoginKeys, UserContext, have_place

#: This machine as a browser of it, or behind SSH, has it. Not by a name: of 'localhost' browsers
#: try ::1 first, and whoever listens there is of the same place for them.
_LOCAL_HOSTS = re.compile(r"127\.0\.0\.1:[0-9]{1,5}")
#: Names as a web server in front takes them, who knows its own.
_NAMED_HOSTS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?(:[0-9]{1,5})?")


@dataclass(frozen=True)
class WebOrigin:
    """Where browsers find a console.

    Attributes:
        scheme: Of its addresses.
        hosts: What names it.
    """

    scheme: str
    hosts: re.Pattern[str]


LOCAL_ORIGIN, TLS_ORIGIN = WebOrigin("http", _LOCAL_HOSTS), WebOrigin("https", _NAMED_HOSTS)


class AuthBackend(Protocol):
    """One way in.

    Attributes:
        login_path: The page on which people come in.
        uses_form: Whether they fill in a form there; else the address itself brings the key.
        origin: Where browsers find the console.
        logged_out_message: What somebody hears who has no session.
        idle_s: A session that nobody uses for so long ends; None for never.
        max_sessions: So many one person has at the same time.
        threads: So many requests are answered at a time.
        ends_with_terminal: Whether the console ends with a person's terminal.
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
        """Return what a session is given.

        Args:
            credentials: What a form or a link brings.
            address: Of the browser.

        Raises:
            UpdaterError: If this is nobody who may come in.
        """

    def close(self) -> None:
        """Release what the backend holds when the console ends."""


class LinkAuthBackend:
    """By a link that is good once; everybody who has one is the person who started the console.

    Args:
        keys: Of the links.
        inside: Of that person.
    """

    login_path, uses_form, origin, logged_out_message = (
        "/enter",
        False,
        LOCAL_ORIGIN,
        CONSOLE_NO_SESSION,
    )
    max_sessions, threads, ends_with_terminal = 8, 16, True
    idle_s: float | None = None

    def __init__(self, keys: LoginKeys, inside: UserContext) -> None:
        self._keys, self._inside = keys, inside

    def authenticate(self, credentials: Mapping[str, str], address: str) -> UserContext:
        """Take a link; errors as in :meth:`AuthBackend.authenticate`."""
        del address  # whose the connection is was asked before
        if not self._keys.consume_key(credentials.get("key", "")):
            raise UpdaterError(CONSOLE_LINK_EXPIRED)
        return self._inside

    def close(self) -> None:
        """Let go of every page."""
        self._inside.close()


class PasswordAuthBackend:
    """By the password of an account of this machine, behind a web server that speaks TLS.

    Args:
        login: Has passwords looked at, by a process that is not the console.
    """

    login_path, uses_form, origin, logged_out_message = (
        "/login",
        True,
        TLS_ORIGIN,
        CONSOLE_NOT_LOGGED_IN,
    )
    max_sessions, threads, ends_with_terminal = 4, 32, False
    idle_s: float | None = 1800.0

    def __init__(self, login: LoginClient) -> None:
        self._login = login
        #: By name. Sessions of one person share one way to the service, and what was looked at.
        self._people: dict[str, tuple[UserContext, ProxiedServiceClient]] = {}
        self._lock = threading.Lock()
        #: A password takes seconds: who comes in, or tries to, leaves room for who is in.
        self._logins = threading.BoundedSemaphore(self.threads // 4)

    def authenticate(self, credentials: Mapping[str, str], address: str) -> UserContext:
        """Have a password looked at; errors as in :meth:`AuthBackend.authenticate`."""
        user, password = credentials.get("user", "").strip(), credentials.get("password", "")
        if not user or not password:
            raise UpdaterError(CONSOLE_FORM, reason="name or password missing")
        with have_place(self._logins):
            line, who = self._login.log_in(user, password, address)
        with self._lock:
            known = self._people.get(who)
            if known is not None and known[1].replace_connection(line):
                return known[0]
            service = ProxiedServiceClient(line, who, self._login)
            self._people[who] = made = UserContext(service), service
            self._people = {
                n: p for n, p in self._people.items() if not p[0].event_follower.is_stopped
            }
        return made[0]

    def close(self) -> None:
        """Release what it holds; their owner ends the sessions."""
