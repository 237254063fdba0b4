"""A console for a socket, in this process or as one of its own, and browsers that come to it."""

from __future__ import annotations

import html
import http.client
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from ncen_updater.console.app import ConsoleApplication
from ncen_updater.console.authentication import LinkAuthBackend
from ncen_updater.console.local_console import serve_on_loopback
from ncen_updater.console.service_client import ServiceClient
from ncen_updater.console.sessions import LoginKeys, UserContext
from tests.support.forks import DEADLINE_S

FORM = re.compile(r'<form method="post" action="([^"]+)"[^>]*>(.*?)</form>', re.DOTALL)
HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def state(self) -> str | None:
        """What the page says of itself."""
        found = re.search(r'<main [^>]*data-state="([a-z]+)"', self.text)
        return found[1] if found else None

    @property
    def heading(self) -> str:
        """The one sentence."""
        found = re.search(r"<h1[^>]*>(.*?)</h1>", self.text, re.DOTALL)
        return html.unescape(re.sub(r"<[^>]+>", "", found[1])).strip() if found else ""

    def forms(self) -> list[tuple[str, dict[str, str]]]:
        """The forms of the page, with what is hidden in them."""
        return [
            (address, {name: html.unescape(value) for name, value in HIDDEN.findall(content)})
            for address, content in FORM.findall(self.text)
        ]

    def form(self, address: str) -> dict[str, str]:
        """What is hidden in the first form to an address."""
        found = [hidden for where, hidden in self.forms() if where == address]
        assert found, f"no form to {address}: {self.forms()}"
        return dict(found[0])


class Guest:
    """A browser as far as HTTP sees one.

    Args:
        port: Of the console.
        cookie: Of its session.
    """

    def __init__(self, port: int, cookie: str = "") -> None:
        self.port, self.cookie = port, cookie
        #: What it takes for the console's name.
        self.host = f"127.0.0.1:{port}"

    def connection(self) -> http.client.HTTPConnection:
        """The way to the console."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str | None
    ) -> Answer:
        """Send a request as a browser of today would; a header that is None is left out."""
        sent: dict[str, str | None] = {
            "Host": self.host, "Cookie": self.cookie or None,
            "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate",
        }  # fmt: skip
        if method == "POST":
            sent |= {"Origin": "null", "Content-Type": "application/x-www-form-urlencoded"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = self.connection()
        try:
            kept = {name: value for name, value in sent.items() if value is not None}
            connection.request(method, path, body, kept)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, text)
        finally:
            connection.close()

    def get(self, path: str, **headers: str | None) -> Answer:
        """Load a page."""
        return self.ask("GET", path, None, **headers)

    def post(self, path: str, fields: Mapping[str, str], **headers: str | None) -> Answer:
        """Send a form."""
        return self.ask("POST", path, urlencode(fields).encode(), **headers)

    def submit(self, page: Answer, address: str, **fields: str) -> Answer:
        """Fill the form of a page and send it; where it leads is loaded."""
        sent = self.post(address, {**page.form(address), **fields})
        return self.get(sent.headers["location"]) if sent.status == 303 else sent

    def settled(self, path: str) -> Answer:
        """Load a page until nothing is being looked at any more."""
        while True:
            found = self.get(path)
            if found.state != "loading":
                return found


def entered(port: int, link: str, language: str = "en") -> Guest:
    """Come in by a link."""
    guest = Guest(port)
    found = guest.get(link.partition(str(port))[2], Accept_Language=language)
    assert found.status == 200, found.text
    guest.cookie = found.headers["set-cookie"].partition(";")[0]
    return guest


@dataclass
class Place:
    """A console in this process."""

    port: int
    keys: LoginKeys

    def enter(self, language: str = "en") -> Guest:
        """A browser that came in."""
        return entered(self.port, f"{self.port}/enter?key={self.keys.issue_key()}", language)


@contextmanager
def served_console(socket: Path, service: ServiceClient | None = None) -> Iterator[Place]:
    """Answer for a socket, in this process."""
    keys = LoginKeys()
    inside = UserContext(service or ServiceClient(socket), persistent=True)
    application = ConsoleApplication(LinkAuthBackend(keys, inside))
    with serve_on_loopback(0, application) as port:
        try:
            yield Place(port, keys)
        finally:
            application.close()


class ServedConsole:
    """A console that is a process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        found = json.loads(process.stdout.readline())
        self.link, self.port, self.valid_s = found["link"], found["port"], found["valid_s"]

    def another_link(self) -> str:
        """Press Enter."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return str(json.loads(self.process.stdout.readline())["link"])

    def enter(self, language: str = "en") -> Guest:
        """A browser that came in."""
        return entered(self.port, self.another_link(), language)


@contextmanager
def console(
    socket: Path, *words: str, language: str = "en", user: str | None = None
) -> Iterator[ServedConsole]:
    """Start the program for a socket; it is ended, whatever happens."""
    command = [
        sys.executable,
        "-I",
        "-m",
        "ncen_updater.console.local_console",
        "--socket",
        str(socket),
    ]
    with subprocess.Popen(
        [*command, "--language", language, "--json", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, user=user,
        extra_groups=[] if user else None,
    ) as process:  # fmt: skip
        try:
            yield ServedConsole(process)
        finally:
            process.terminate()
            process.wait(DEADLINE_S)
