"""The service as a process of its own for a stand-in site, and its clients."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demo.site import DemoSite
from ncen_updater.agent.service.api_client import SiteServiceClient, StreamEvent
from tests.support import processes
from tests.support.as_user import run_as
from tests.support.forks import DEADLINE_S, Fork, begin_agent, run_agent

PROGRAM = (sys.executable, "-m", "ncen_updater.agent.cli.main")
SOCKET = "run/ncen-updater/api.sock"
ROOT = Path(__file__).resolve().parents[2]


class Served:
    """Running service."""

    demo: DemoSite

    def __init__(self, config: Path, root: Path) -> None:
        self.config, self.root = config, root
        self.client = SiteServiceClient(root / SOCKET, "en")
        self._process: Fork | subprocess.Popen[bytes] | None = None
        self.log = root / "service.log"

    def start(self) -> None:
        """Start the service, and wait until it responds."""
        words = ("--config", str(self.config), "serve")
        with self.log.open("ab") as log:
            self._process = begin_agent(*words, environment=self._environment(), log=log.fileno())
        self._until(self.client.is_reachable)

    def _until(self, holds: Callable[[], bool]) -> None:
        assert self._process is not None
        while not holds():
            assert self._process.poll() is None, self.log.read_text("utf-8")
            time.sleep(0.02)  # interval of polling

    @property
    def number(self) -> int:
        """Return the process id."""
        assert self._process is not None
        return self._process.pid

    def send(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.number, number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop the service and return its exit status."""
        if self._process is None:
            return 0
        self._process.send_signal(number)
        try:
            return self._process.wait(DEADLINE_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._process = None

    def kill_all(self) -> None:
        """Send SIGKILL to the service and all its children, like systemd to a unit.

        Returns when none of them can write any more.
        """
        if self._process is None:
            return
        below = processes.stop(self.number)
        self.stop(signal.SIGKILL)
        processes.kill(below)

    def until_logged(self, words: str) -> None:
        """Wait until its log contains this text."""
        self._until(lambda: words in self.log.read_text("utf-8"))

    def until(self, kind: str, after: int = 0, **values: object) -> StreamEvent:
        """Wait for an event of the journal with these values."""
        for event in self.client.stream(after):
            data = event.data.get("data", {})
            if event.kind == kind and all(data.get(key) == value for key, value in values.items()):
                return event
        raise AssertionError("the stream ended")

    def until_next_upgrade(self, holds: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Any]:
        """Wait until the next upgrade matches; checked at each event."""
        for _ in self.client.stream(0):
            found = self.client.get("/v1/next-upgrade")
            if holds(found):
                return found
        raise AssertionError("the stream ended")

    def _environment(self) -> dict[str, str]:
        kept = {
            key: value
            for key, value in os.environ.items()
            if key in ("PATH", "HOME") or key.startswith("COVERAGE_")
        }
        return {**kept, "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)}

    def run(
        self, *words: str, user: str | None = None, groups: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end as a user."""
        words = ("--config", str(self.config), *words)
        if user is None:
            return run_agent(*words, environment=self._environment())
        return run_as(user, groups, words, self._environment())

    def started(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [*PROGRAM, "--config", str(self.config), *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**self._environment(), **environment},
        )  # fmt: skip


@contextmanager
def served(config: Path, root: Path) -> Iterator[Served]:
    """Run the service of a site during a block."""
    service = Served(config, root)
    try:
        service.start()
        yield service
    finally:
        service.kill_all()
