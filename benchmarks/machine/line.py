"""The network outside of the machine: a feed at an address of its own, and a link to it."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

from benchmarks.machine.box import Box

OUTSIDE, INSIDE = "198.51.100.1", "198.51.100.2"
FEED_URL = f"http://{OUTSIDE}/"


class Outside:
    """Serves a feed in a network of its own, at the metadata address of cloud providers.

    Args:
        feed: The directory.
    """

    def __init__(self, feed: Path) -> None:
        serve = [sys.executable, "-m", "http.server", "80", "--directory", str(feed)]
        self._server = subprocess.Popen(
            ["unshare", "--net", *serve],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._link = self._here = ""

    def connect(self, box: Box) -> None:
        """Create a link to a machine that was started; it ends with the machine."""
        if self._here:  # to a machine after a power cut: two links would have one address
            enter = ["nsenter", f"--target={self._server.pid}", "--net", "ip"]
            subprocess.run([*enter, "link", "delete", self._here], check=False, capture_output=True)
        name = secrets.token_hex(4)
        here, there = f"nu{name}a", f"nu{name}b"
        first = box.container.first
        _do(["ip", "link", "add", here, "netns", str(self._server.pid), "type", "veth",
             "peer", "name", there, "netns", str(first)])  # fmt: skip
        self._link, self._here = there, here
        for process, link, addresses in (
            (self._server.pid, here, (f"{OUTSIDE}/24", "169.254.169.254/16")),
            (first, there, (f"{INSIDE}/24", "169.254.1.2/16")),
        ):
            enter = ["nsenter", f"--target={process}", "--net", "ip"]
            for address in addresses:
                _do([*enter, "address", "add", address, "dev", link])
            _do([*enter, "link", "set", link, "up"])

    def cut(self, box: Box) -> None:
        """Remove the link."""
        enter = ["nsenter", f"--target={box.container.first}", "--net", "ip"]
        _do([*enter, "link", "set", self._link, "down"])

    def close(self) -> None:
        """Stop the server."""
        self._server.terminate()
        self._server.wait(30)


def _do(words: list[str]) -> None:
    subprocess.run(words, check=True)
