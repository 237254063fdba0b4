"""A real mail server and a real receiver of webhooks on 127.0.0.1, each with its ways to fail."""

from __future__ import annotations

import contextlib
import email
import email.policy
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from demo.ports import find_free_ports


@dataclass
class MailBox:
    """What a mail server took.

    Attributes:
        refuse: Answer in place of taking a message.
        refuse_to: Addresses that it does not know.
        logins: Users that came with the right password.
    """

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    refuse: str | None = None
    refuse_to: frozenset[str] = frozenset()
    logins: list[str] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 - the name that the server looks for
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        del server, session, options
        if address in self.refuse_to:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self, server: Any, session: Any, envelope: Any
    ) -> str:
        del server, session
        if self.refuse:
            return self.refuse
        made = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.mails.append(made)
        return "250 OK"


@contextlib.contextmanager
def mail_server(
    tls: ssl.SSLContext | None = None, *, password: str | None = None, at_once: bool = False
) -> Iterator[MailBox]:
    """A mail server.

    Args:
        tls: Its certificate; offered by STARTTLS unless ``at_once``.
        password: What every user has to know.
        at_once: Whether TLS begins with the first byte.
    """
    box = MailBox()

    def judge(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        del server, session, envelope, mechanism
        assert isinstance(data, LoginPassword)
        good = data.password.decode() == password
        if good:
            box.logins.append(data.login.decode())
        return AuthResult(success=good, handled=False)

    (box.port,) = find_free_ports(1)
    controller = Controller(
        box,
        hostname="127.0.0.1",
        port=box.port,
        ssl_context=tls if at_once else None,
        tls_context=None if at_once else tls,
        require_starttls=tls is not None and not at_once,
        auth_required=password is not None and not at_once,
        auth_require_tls=not at_once,
        authenticator=judge if password is not None else None,
    )
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


@dataclass
class Hook:
    """What a receiver was given.

    Attributes:
        status: What it answers.
        silent: Whether it never answers.
    """

    port: int = 0
    posts: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    status: int = 204
    silent: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.posts]


@contextlib.contextmanager
def hook_server(tls: ssl.SSLContext | None = None) -> Iterator[Hook]:
    """A receiver of webhooks."""
    hook = Hook()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.posts.append((dict(self.headers), body))
            hook.paths.append(f"{self.command} {self.path}")
            if hook.silent:
                hook.ended.wait(60)
                return
            self.send_response(hook.status)
            self.send_header("Location", f"http://127.0.0.1:{hook.port}/elsewhere")
            self.end_headers()

        do_PUT = do_POST  # noqa: N815 - the name that the server looks for

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing of a client that went away."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    hook.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        hook.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def dead_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener.getsockname()[1]
