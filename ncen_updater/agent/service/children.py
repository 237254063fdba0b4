"""The processes that do the work: the agent's own command line, one at a time."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from ncen_updater.common.relay import VARIABLE, Told

__all__ = ["Finished", "ProcessRunner", "Runner", "Watcher"]

logger = logging.getLogger(__name__)

MAX_DOCUMENT_BYTES = 16_000_000
SLICE_S = 1.0
READ_BYTES = 65536


@dataclass(frozen=True)
class Finished:
    """What a command came to.

    Attributes:
        exit_code: Its exit code; 128 plus the number of the signal that ended it.
        document: What it wrote with ``--json``; empty where that could not be read.
    """

    exit_code: int
    document: Mapping[str, object]

    @property
    def error_code(self) -> str | None:
        """The stable code of its error, if it ended with one."""
        error = self.document.get("error")
        code = error.get("code") if isinstance(error, dict) else None
        return code if isinstance(code, str) else None


class Runner(Protocol):
    """Runs commands of the agent."""

    def run(self, words: Sequence[str]) -> Finished:
        """Run ``ncen-updater`` with these words and wait for its end."""

    def assess(self) -> Finished:
        """Let a child find out what stands between the site and its next release."""


class Watcher(Protocol):
    """Told of commands; see :class:`~ncen_updater.agent.service.board.Board`."""

    def began(self, words: Sequence[str]) -> None:
        """Take note of a command that begins."""

    def told(self, told: Told) -> None:
        """Take note of its progress."""

    def ended(self) -> None:
        """Take note of its end."""


class ProcessRunner:
    """Runs each command as a child of this process.

    The child dies as any command does when the machine stops: what it left is brought to its end by
    the next ``resume``. When the service is stopped it is asked to end too, and goes back where
    going back is free.

    Args:
        config: The configuration file.
        alive: Called about once a second while a child works.
        asked_to_stop: Whether the service is to end.
        watcher: Told of commands and of their progress.
    """

    def __init__(
        self,
        config: Path,
        alive: Callable[[], None],
        asked_to_stop: Callable[[], bool],
        watcher: Watcher | None = None,
    ) -> None:
        self._config, self._alive, self._asked = config, alive, asked_to_stop
        self._watcher = watcher

    def run(self, words: Sequence[str]) -> Finished:
        """Run a command; what it says of its work goes to the watcher."""
        before = ["--config", str(self._config), "--alone", "--json", "--words", "--quiet"]
        if self._watcher is None:
            return self._run(["ncen_updater.agent.cli.main", *before, *words])
        self._watcher.began(words)
        try:
            return self._run(["ncen_updater.agent.cli.main", *before, *words])
        finally:
            self._watcher.ended()

    def assess(self) -> Finished:
        """Run the module that assesses."""
        return self._module("ncen_updater.agent.service.assess")

    def in_reach(self) -> bool:
        """Whether a child reaches journal, lists and databases."""
        return self._module("ncen_updater.agent.self_update.reach").exit_code == 0

    def _module(self, name: str) -> Finished:
        return self._run([name, str(self._config)])

    def _run(self, words: Sequence[str]) -> Finished:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with tempfile.TemporaryFile() as output, os.fdopen(reader, "rb", buffering=0) as progress:
            # A session of its own: a signal from a terminal reaches it through us, once.
            with os.fdopen(writer, "wb", buffering=0):
                child = subprocess.Popen(
                    [sys.executable, "-m", *words],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    start_new_session=True,
                    pass_fds=(writer,),
                    env={**os.environ, "NO_COLOR": "1", VARIABLE: str(writer)},
                )
            code = self._wait(child, progress)
            return Finished(code if code >= 0 else 128 - code, _document(output))

    def _wait(self, child: subprocess.Popen[bytes], progress: IO[bytes]) -> int:
        asked, left = False, b""
        while True:
            # Its end closes the pipe, unless a process of its own has it open, too.
            if select.select([progress], [], [], SLICE_S)[0]:
                content = progress.read(READ_BYTES)
                left = self._pass_on(left + (content or b""))
                if not content:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        return child.wait(SLICE_S)
            code = child.poll()
            if code is not None:
                return code
            self._alive()
            if self._asked() and not asked:
                child.send_signal(signal.SIGTERM)
                asked = True

    def _pass_on(self, lines: bytes) -> bytes:
        """Tell the watcher what whole lines say; return what has not ended yet."""
        *whole, left = lines.split(b"\n")
        for line in whole:
            told = Told.from_line(line)
            if told is not None and self._watcher is not None:
                self._watcher.told(told)
        return left[-READ_BYTES:]


def _document(output: IO[bytes]) -> Mapping[str, object]:
    size = output.seek(0, os.SEEK_END)
    if not 0 < size <= MAX_DOCUMENT_BYTES:
        return {}
    output.seek(0)
    try:
        data = json.loads(output.read())
    except (ValueError, RecursionError) as error:
        logger.warning("a command wrote what is no JSON: %s", error)
        return {}
    return data if isinstance(data, dict) else {}
