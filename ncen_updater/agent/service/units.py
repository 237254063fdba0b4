"""The runner of a service whose work is done by a unit of systemd with rights of its own."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from ncen_updater.agent.service.children import MAX_DOCUMENT_BYTES, SLICE_S, Finished, Watcher
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.relay import Told

__all__ = ["UnitRunner"]

logger = logging.getLogger(__name__)

#: Shell for "cannot be run"; no command of ours ends with it.
AWAY = 126
PIECE = 65_536


class UnitRunner:
    """Lets systemd start a process for each command, and waits for its result.

    Args:
        path: The socket at which systemd waits.
        alive: Called about once a second while the work goes on.
        asked_to_stop: Whether the service is to end.
        watcher: Told of commands and of their progress.
    """

    def __init__(
        self,
        path: Path,
        alive: Callable[[], None],
        asked_to_stop: Callable[[], bool],
        watcher: Watcher,
    ) -> None:
        self._path, self._alive, self._asked = path, alive, asked_to_stop
        self._watcher = watcher

    def run(self, words: Sequence[str]) -> Finished:
        """Run a command."""
        self._watcher.began(words)
        try:
            return self._ask(words)
        finally:
            self._watcher.ended()

    def assess(self) -> Finished:
        """Run what assesses."""
        return self._ask(["assess"])

    def in_reach(self) -> bool:
        """Whether the unit reaches journal, lists and databases."""
        return self._ask(["in-reach"]).exit_code == 0

    def _ask(self, words: Sequence[str]) -> Finished:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.connect(str(self._path))
                connection.sendall(json.dumps({"words": list(words)}).encode() + b"\n")
                return _finished(self._wait(connection))
        except OSError as error:
            logger.error(
                "the unit that works on the site cannot be reached at %s: %s; see "
                "'systemctl status ncen-updater-apply.socket'",
                self._path,
                error,
            )
            return Finished(AWAY, {})

    def _wait(self, connection: socket.socket) -> bytes:
        connection.settimeout(SLICE_S)
        said, told = bytearray(), False
        while len(said) <= MAX_DOCUMENT_BYTES:
            try:
                piece = connection.recv(PIECE)
            except TimeoutError:
                self._alive()
            else:
                if not piece:
                    break
                said += piece
                said = self._pass_on(said)
            if self._asked() and not told:
                connection.sendall(b"stop\n")
                told = True
        return bytes(said)

    def _pass_on(self, said: bytearray) -> bytearray:
        """Tell the watcher what whole lines say of the work; return the rest."""
        kept = bytearray()
        for line in said.splitlines(keepends=True):
            told = Told.from_line(bytes(line)) if line.endswith(b"\n") else None
            if told is None:
                kept += line
            else:
                self._watcher.told(told)
        return kept


def _finished(said: bytes) -> Finished:
    try:
        result = parse_json(said)
    except ValueError:
        result = None
    if isinstance(result, dict):
        code, document = result.get("exit_code"), result.get("document")
        if type(code) is int and isinstance(document, dict):
            return Finished(code, document)
    logger.error("the unit that works on the site ended without a result; see its log")
    return Finished(AWAY, {})
