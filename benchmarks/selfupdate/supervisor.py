"""A replacement for systemd: restarts the failsafe, and judges it by its watchdog messages.

It works like ``Type=notify`` with ``Restart=always``, ``TimeoutStartSec`` and ``WatchdogSec``, with
short times. It does not know agents or slots. systemd itself is not tested here.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

RESTART_S = 0.05
SLICE_S = 0.05


class Supervisor:
    """Restarts a service; a context manager that ends it.

    Args:
        words: Command line.
        place: A directory for the socket and the log; its path must be short.
        environment: Variables of the service.
        patience_s: Time limit for readiness, and between two watchdog messages, in seconds.

    Attributes:
        starts: Number of starts.
        ready: Whether the current process has reported that it is ready.
        said: Its last status message.
    """

    def __init__(
        self, words: list[str], place: Path, environment: dict[str, str], patience_s: float
    ) -> None:
        self._words, self._log, self._patience = words, place / "log", patience_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(place / "notify"))
        self._environment = {
            **environment,
            "NOTIFY_SOCKET": str(place / "notify"),
            "WATCHDOG_USEC": str(int(patience_s * 1e6)),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._sign = self._next = 0.0
        self.starts = 0
        self.ready, self.said = False, ""

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._socket.close()

    def kill(self) -> None:
        """Kill the process, at any instant."""
        if self._process is not None:
            # Kill the group, so that a program that is a script leaves no process.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        self.ready = False
        self._next = time.monotonic() + RESTART_S

    def run(self, until: Callable[[], bool], seconds: float) -> bool:
        """Restart the service until a condition holds; return whether it does."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._turn()
            if until():
                return True
        return False

    def _turn(self) -> None:
        now = time.monotonic()
        if self._process is None:
            if now >= self._next:
                self._start()
        elif self._process.poll() is not None or now - self._sign > self._patience:
            self.kill_if_alive()
        self._listen()

    def kill_if_alive(self) -> None:
        """Kill the rest of a process that ended or is silent."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None
            self.ready = False
            self._next = time.monotonic() + RESTART_S
        else:
            self.kill()

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._words, env=self._environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        self.starts += 1
        self.ready, self.said, self._sign = False, "", time.monotonic()

    def _listen(self) -> None:
        if not select.select([self._socket], [], [], SLICE_S)[0]:
            return
        message = self._socket.recv(4096).decode("utf-8", "replace")
        self._sign = time.monotonic()
        for line in message.splitlines():
            if line == "READY=1":
                self.ready = True
            elif line.startswith("STATUS="):
                self.said = line.removeprefix("STATUS=")


def python_words(script: Path) -> list[str]:
    """Return the command line for a script of the system's Python."""
    return [sys.executable, "-I", str(script)]
