"""Who writes to the agent's own directory for the service: a process that knows five words.

The service parses what local users say, and the directory holds the code that root runs. So the
service forks this process before anybody is let in, and then gives up the right to write there, by
itself and for good (``common/landlock.py``). What it still has to do there are five actions without
any value of somebody else's; it says which, on a connection that only the two have. The file's own
rules hold for them as before (``agent_selection.py``).

The failsafe, which starts the service and counts, has come and gone by then. A new agent is fetched
and unpacked by the unit that works on the site.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
from collections.abc import Callable, Iterable
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from ncen_updater.agent.self_update.after_confirmation import (
    SYSTEM_PYTHON,
    collect_slots,
    renew_failsafe,
)
from ncen_updater.agent.self_update.agent_selection import (
    AgentSelection,
    SequenceFile,
    confirm,
    give_up,
    steady,
    uncount,
)
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.landlock import keep_from
from ncen_updater.common.messages import SEQUENCE_UNWRITABLE
from ncen_updater.common.workers import error_document, error_from

__all__ = ["Doer", "OwnAction", "OwnCode", "doer_of"]

logger = logging.getLogger(__name__)

MOST_BYTES = 65_536
ALL = range(10_000)
#: It ends with the service, which is told to end as well, and has something left to be done then.
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SLICE_S = 1.0


class OwnAction(StrEnum):
    """What a running agent does in its own directory."""

    CONFIRM = "confirm"
    STEADY = "steady"
    UNCOUNT = "uncount"
    RETURN = "return"
    TIDY = "tidy"


Doer = Callable[[OwnAction], None]


def doer_of(
    directory: Path, version: str, now: Callable[[], datetime], alive: Callable[[], None]
) -> Doer:
    """Return what does an action, here and now.

    Args:
        directory: Where the slots of the agent are.
        version: The version that runs.
        now: The wall clock.
        alive: Called while old slots are removed.
    """
    file = SequenceFile(directory)

    def tidy() -> None:
        try:
            renew_failsafe(directory, SYSTEM_PYTHON)
            collect_slots(directory, alive)
        except (OSError, UpdaterError) as error:
            logger.warning("the agent's directory is not tidy: %s", error)

    changes: dict[OwnAction, Callable[[AgentSelection], AgentSelection]] = {
        OwnAction.CONFIRM: lambda before: confirm(before, version),
        OwnAction.STEADY: lambda before: steady(before, version),
        OwnAction.UNCOUNT: lambda before: uncount(before, version),
        OwnAction.RETURN: lambda before: give_up(before, version, now()),
    }

    def do(action: OwnAction) -> None:
        if action is OwnAction.TIDY:
            tidy()
            return
        how = changes[action]
        file.update(lambda before: how(before if before is not None else AgentSelection(version)))

    return do


class OwnCode:
    """Actions in the agent's own directory, done by a process of their own.

    Args:
        directory: Where the slots of the agent are.
        make: Makes what does the actions, in the other process.
        alive: Called while one is waited for.
    """

    def __init__(
        self, directory: Path, make: Callable[[], Doer], alive: Callable[[], None]
    ) -> None:
        self._directory, self._make, self._alive = directory, make, alive

    def __enter__(self) -> OwnCode:
        """Start the other process. It has what is open here: to be called before a lock is held."""
        self._connection, theirs = socket.socketpair()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)  # until it passes them over
        self._child = os.fork()
        if self._child == 0:
            _be_apart(theirs, self._connection, self._make)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        """End the other process."""
        self._connection.close()
        os.waitpid(self._child, 0)

    def give_up_rights(self, needed: Iterable[Path] = ()) -> None:
        """From now on this process cannot write to the directory, nor can any that it starts.

        To be called by the only thread there is: others that are there already keep the right.

        Args:
            needed: Directories that are written to; where one would be closed, too, nothing is.
        """
        keep_from(self._directory, needed)

    def do(self, action: OwnAction) -> None:
        """Have one action done.

        Raises:
            UpdaterError: As the action raises, or if nobody is there to do it.
        """
        _ask(self._connection, action, self._alive)


def _ask(connection: socket.socket, action: OwnAction, alive: Callable[[], None]) -> None:
    """Have one action done; every error of it is raised here as there.

    Raises:
        UpdaterError: As the action raises, or if nobody is there to do it.
    """
    said = bytearray()
    try:
        connection.sendall(f"{action}\n".encode())
        while not said.endswith(b"\n"):
            while not select.select([connection], [], [], SLICE_S)[0]:
                alive()
            piece = connection.recv(MOST_BYTES)
            if not piece or len(said) > MOST_BYTES:
                raise ConnectionError("it has ended")
            said += piece
        answer = parse_json(bytes(said))
    except (OSError, ValueError) as error:
        raise UpdaterError(SEQUENCE_UNWRITABLE, path="-", reason=str(error)) from error
    if answer is not None:
        raise error_from(answer, (ALL,))


def _be_apart(ours: socket.socket, theirs: socket.socket, make: Callable[[], Doer]) -> None:
    """The life of the other process; never returns."""
    status = 1
    try:
        theirs.close()
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
        do = make()
        with ours, ours.makefile("rb") as words:
            for word in words:
                ours.sendall(json.dumps(_done(do, word)).encode() + b"\n")
        status = 0
    except BrokenPipeError:
        status = 0
    except Exception:
        logger.exception("the process that keeps the agent's directory failed")
    finally:
        os._exit(status)


def _done(do: Doer, word: bytes) -> dict[str, object] | None:
    try:
        do(OwnAction(word.decode("ascii", "replace").strip()))
    except UpdaterError as error:
        return error_document(error)
    except ValueError as error:
        return error_document(UpdaterError(SEQUENCE_UNWRITABLE, path="-", reason=str(error)))
    return None
