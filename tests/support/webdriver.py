"""Headless Chromium, controlled by WebDriver over plain HTTP and JSON.

https://www.w3.org/TR/webdriver2/. User actions (clicks, keys, printing) use WebDriver commands;
browser settings (width, scripts, media) use Chromium's own interface.
"""

from __future__ import annotations

import base64
import grp
import hashlib
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.attention import Attention

CHROMIUM, DRIVER = "chromium", "chromedriver"
#: Width of a desktop window in pixels.
DESK = 1440
#: Limit of a command without progress.
PATIENCE_S = 300.0
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
WORDS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--no-default-browser-check", "--hide-scrollbars", "--no-proxy-server",
    "--renderer-process-limit=1",
)  # fmt: skip
Found = TypeVar("Found")


def as_user(user: str, *groups: str, reads_all: bool = False) -> tuple[str, ...]:
    """Return the command prefix that runs a program as another user; requires root.

    Args:
        user: The user.
        groups: Additional groups of the process.
        reads_all: Whether the process can read every file: needed if only root can read the
            interpreter, which is not a fault of the program.
    """
    entry = pwd.getpwnam(user)
    numbers = ",".join(str(grp.getgrnam(name).gr_gid) for name in groups)
    rights = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    return (
        "setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}",
        f"--groups={numbers}" if groups else "--clear-groups", *(rights if reads_all else ()), "--",
    )  # fmt: skip


def missing() -> str | None:
    """Return what is missing to start a browser; None if nothing is."""
    lacks = [name for name in (CHROMIUM, DRIVER) if shutil.which(name) is None]
    if not lacks:
        return None
    return f"this machine has no {' and no '.join(lacks)} (apt-get install chromium-driver)"


@dataclass(frozen=True)
class Element:
    """Element of the current page."""

    browser: Browser
    id: str

    @property
    def text(self) -> str:
        """Return the visible text."""
        return str(self.browser.call("GET", f"/element/{self.id}/text"))

    @property
    def shown(self) -> bool:
        """Return whether the element is visible."""
        return bool(self.browser.call("GET", f"/element/{self.id}/displayed"))

    def attribute(self, name: str) -> str | None:
        """Return an attribute."""
        found = self.browser.call("GET", f"/element/{self.id}/attribute/{name}")
        return None if found is None else str(found)

    def click(self) -> None:
        """Click the element."""
        self.browser.attention.clicked()
        self.browser.call("POST", f"/element/{self.id}/click", {})

    def type(self, text: str) -> None:
        """Replace the content of the field by typing."""
        self.browser.attention.filled(text)
        self.browser.call("POST", f"/element/{self.id}/clear", {})
        self.browser.call("POST", f"/element/{self.id}/value", {"text": text})


class Browser:
    """Session of a browser with its own profile.

    Args:
        address: URL of the driver.
        session: Session id.

    Attributes:
        attention: Actions of the user.
    """

    def __init__(self, address: str, session: str) -> None:
        self._address = f"{address}/session/{session}"
        self.attention = Attention()

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Send one WebDriver command.

        Raises:
            AssertionError: If the driver rejects it; with its message.
        """
        answer = requests.request(method, self._address + path, json=body, timeout=PATIENCE_S)
        value = answer.json()["value"]
        if not answer.ok:
            raise AssertionError(f"{method} {path}: {value['error']}: {value['message'][:500]}")
        return value

    def cdp(self, command: str, **values: object) -> Any:
        """Send a command of Chromium's DevTools protocol."""
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": values})

    # ---- looking ---------------------------------------------------------------------------------

    def open(self, address: str) -> None:
        """Open a URL and wait until it is loaded."""
        self.call("POST", "/url", {"url": address})

    def key(self, key: str) -> None:
        """Press and release a key in the focused element."""
        strokes = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        actions = [{"type": "key", "id": "keyboard", "actions": strokes}]
        self.call("POST", "/actions", {"actions": actions})

    def cookies(self) -> list[dict[str, Any]]:
        """Return the cookies of the page."""
        return list(self.call("GET", "/cookie"))

    @property
    def address(self) -> str:
        """Return the current URL."""
        return str(self.call("GET", "/url"))

    @property
    def title(self) -> str:
        """Return the title of the page."""
        return str(self.call("GET", "/title"))

    def all(self, selector: str) -> list[Element]:
        """Return all elements that match a CSS selector."""
        found = self.call("POST", "/elements", {"using": "css selector", "value": selector})
        return [Element(self, item[ELEMENT]) for item in found]

    def one(self, selector: str) -> Element:
        """Return the first matching element."""
        found = self.all(selector)
        assert found, f"nothing is {selector} on {self.address}:\n{self.text[:3000]}"
        return found[0]

    @property
    def text(self) -> str:
        """Return the visible text of the page."""
        return "\n".join(part.text for part in self.all("body"))

    def run(self, script: str, *arguments: object) -> Any:
        """Run a script in the page and return its result."""
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def run_to_end(self, script: str, *arguments: object) -> Any:
        """Run a script that calls its last argument when it has finished."""
        return self.call("POST", "/execute/async", {"script": script, "args": list(arguments)})

    def until(self, what: str, holds: Callable[[], Found], seconds: float = PATIENCE_S) -> Found:
        """Wait for a condition and return its value; the page may change during the check."""
        end, last = time.monotonic() + seconds, ""
        while time.monotonic() < end:
            try:
                found = holds()
            except AssertionError as error:  # the element belonged to the previous page
                last = str(error)
            else:
                if found:
                    return found
            time.sleep(0.3)
        raise AssertionError(f"{what}: not in time. {last}\n{self.address}\n{self.text[:3000]}")

    # ---- how it shows ----------------------------------------------------------------------------

    def width(self, pixels: int, height: int = 900) -> None:
        """Set the width of the page, for example to that of a phone."""
        self.cdp(
            "Emulation.setDeviceMetricsOverride", width=pixels, height=height,
            deviceScaleFactor=1, mobile=pixels < 600,
        )  # fmt: skip

    def scripts(self, *, on: bool) -> None:
        """Enable or disable scripts in pages."""
        self.cdp("Emulation.setScriptExecutionDisabled", value=not on)

    def zoom(self, factor: int) -> None:
        """Zoom the desktop page, which reduces the space by this factor."""
        self.cdp(
            "Emulation.setDeviceMetricsOverride", width=DESK // factor, height=900 // factor,
            deviceScaleFactor=factor, mobile=False,
        )  # fmt: skip

    def media(self, kind: str = "", scheme: str = "light") -> None:
        """Emulate the media type ``screen`` or ``print``, and a colour scheme."""
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        self.cdp("Emulation.setEmulatedMedia", media=kind, features=wanted)

    def printed(self) -> bytes:
        """Print the page; return a PDF."""
        page = {"width": 21.0, "height": 29.7}
        return base64.b64decode(self.call("POST", "/print", {"page": page, "background": False}))

    def picture(self) -> bytes:
        """Return a screenshot as PNG."""
        return base64.b64decode(self.call("GET", "/screenshot"))

    def overflows(self) -> bool:
        """Return whether the page is wider than the window and needs horizontal scrolling."""
        wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(self.run(wide)) > 0

    def pushed(self) -> list[str]:
        """Return the texts of elements that need horizontal scrolling within the page."""
        script = """return [...document.querySelectorAll(".table")]
            .filter((box) => box.scrollWidth > box.clientWidth).map((box) => box.innerText)"""
        return list(map(str, self.run(script)))

    def complaints(self) -> list[str]:
        """Return errors logged by the browser since the last call, such as blocked resources."""
        entries = self.call("POST", "/se/log", {"type": "browser"})
        return [str(entry["message"]) for entry in entries]


def known_place(name: str, certificate: Path) -> tuple[str, ...]:
    """Return browser options that resolve a name to this machine and trust its certificate.

    Only this certificate is trusted, as after a user compared its fingerprint.
    """
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    digest = hashlib.sha256(
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).digest()
    return (
        f"--host-resolver-rules=MAP {name} 127.0.0.1",
        f"--ignore-certificate-errors-spki-list={base64.b64encode(digest).decode()}",
    )


@contextmanager
def browser(
    user: str | None = None, language: str = "en", more: Sequence[str] = ()
) -> Iterator[Browser]:
    """Start a browser with an empty profile; it ends with the block.

    Args:
        user: User of the browser; by default that of the test.
        language: Preferred language of pages.
        more: Additional options.
    """
    with tempfile.TemporaryDirectory(prefix="nu-browser-", ignore_cleanup_errors=True) as profile:
        if user is not None:
            shutil.chown(profile, user)
        # The browser's own language would need another package; pages are requested in this one.
        words = [*WORDS, f"--user-data-dir={profile}/profile", f"--accept-lang={language}", *more]
        with _driver(Path(profile), user) as address:
            wanted = {
                "browserName": "chrome",
                "goog:loggingPrefs": {"browser": "ALL"},
                "goog:chromeOptions": {"args": words, "binary": shutil.which(CHROMIUM)},
                "timeouts": {"script": int(PATIENCE_S * 1000)},
            }
            answer = requests.post(
                f"{address}/session", timeout=PATIENCE_S,
                json={"capabilities": {"alwaysMatch": wanted}},
            )  # fmt: skip
            assert answer.ok, answer.text[:2000]
            made = Browser(address, answer.json()["value"]["sessionId"])
            try:
                yield made
            finally:
                with suppress(requests.RequestException, AssertionError):
                    made.call("DELETE", "")


@contextmanager
def _driver(directory: Path, user: str | None) -> Iterator[str]:
    """Start the driver; yield its URL."""
    log = directory / "driver.log"
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG")}
    homes = dict.fromkeys(("HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), str(directory))
    words = [str(shutil.which(DRIVER)), "--port=0"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*(as_user(user) if user else ()), *words], stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, env={**kept, **homes}, cwd=directory,
        )  # fmt: skip
    try:
        end = time.monotonic() + PATIENCE_S
        while True:
            found = re.search(rb"started successfully on port (\d+)", log.read_bytes())
            if found is not None:
                break
            assert process.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < end, log.read_text("utf-8")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{int(found[1])}"
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
