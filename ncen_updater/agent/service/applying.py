"""What systemd starts for each piece of work of the service: one order on stdin, one result after.

The service lets people in at its socket and cannot reach the databases; this process can, and is
not on the network. So that the one is no way to the other, only the commands of :data:`COMMANDS`
are run here, on the configuration that the unit names.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from ncen_updater.agent.service.children import Finished, ProcessRunner
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.relay import Told

__all__ = ["COMMANDS", "LOOKS", "apply", "main", "words_of_line"]

logger = logging.getLogger(__name__)

#: What the service and those whom it lets in may have done.
COMMANDS = frozenset(
    {
        "check",
        "collect",
        "confirm",
        "plan",
        "rehearse",
        "resume",
        "rollback",
        "self-update",
        "upgrade",
    }
)
#: Looks at the site that are no commands.
LOOKS = frozenset({"assess", "in-reach"})
MAX_LINE = 100_000
REFUSED = 2


def words_of_line(line: bytes) -> tuple[str, ...] | None:
    """Return what is ordered; None for whatever is no order; pure."""
    try:
        order = parse_json(line)
    except ValueError:
        return None
    words = order.get("words") if isinstance(order, dict) else None
    if not (isinstance(words, list) and words and all(isinstance(word, str) for word in words)):
        return None
    known = words[0] in COMMANDS or (words[0] in LOOKS and len(words) == 1)
    return tuple(words) if known and not any("\0" in word for word in words) else None


def apply(config: Path, orders: IO[bytes], results: IO[bytes]) -> int:
    """Do one order.

    Args:
        config: The configuration file.
        orders: One line with ``words``; a further line asks the work to end.
        results: Takes lines that tell of the work, then one with ``exit_code`` and ``document``.

    Returns:
        The exit status of this process.
    """
    words = words_of_line(orders.readline(MAX_LINE))
    if words is None:
        logger.error("what was asked for is no order of the service")
        return REFUSED
    stop = threading.Event()

    def listen() -> None:
        # The end of the connection asks for nothing: where the service died, the work goes on to
        # its end, which the next service finds in the journal.
        if orders.readline(MAX_LINE):
            stop.set()

    threading.Thread(target=listen, daemon=True).start()
    teller = _Teller(results)
    finished = _run(ProcessRunner(config, lambda: None, stop.is_set, teller), words)
    result = {"exit_code": finished.exit_code, "document": dict(finished.document)}
    try:
        results.write(json.dumps(result).encode() + b"\n")
        results.flush()
    except ConnectionError as error:
        logger.warning("the service has gone, and the result with it: %s", error)
    return 0


class _Teller:
    """Passes on what the work says of itself; a service that has gone is not told."""

    def __init__(self, results: IO[bytes]) -> None:
        self._results = results

    def began(self, words: Sequence[str]) -> None:
        """Nothing: the service knows."""

    def told(self, told: Told) -> None:
        """Pass it on."""
        with contextlib.suppress(ConnectionError):
            self._results.write(told.line())
            self._results.flush()

    def ended(self) -> None:
        """Nothing: the result tells."""


def _run(runner: ProcessRunner, words: tuple[str, ...]) -> Finished:
    match words:
        case ("assess",):
            return runner.assess()
        case ("in-reach",):
            return Finished(0 if runner.in_reach() else 1, {})
        case _:
            return runner.run(words)


def main() -> int:
    """Do what the service asks for on the connection that systemd gave."""
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
    # Without a buffer: a thread that waits in one would not let the process end.
    with open(0, "rb", buffering=0, closefd=False) as orders:
        return apply(Path(sys.argv[1]), orders, sys.stdout.buffer)


if __name__ == "__main__":
    sys.exit(main())
