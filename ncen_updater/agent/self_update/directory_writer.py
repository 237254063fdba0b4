"""What a running agent does in its own directory, and who does it.

The service parses what local users say, and the directory holds the code that root runs: the unit
of the service may not write there, nor may what works on the site. It asks a unit of its own, which
may, for five actions without any value of somebody else's. The file's own rules hold for them as
before (``agent_selection.py``). Where one process does everything, it does these, too.

The failsafe counts and chooses before the service is there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from ncen_updater.agent.storage.agent_selection import (
    AgentSelection,
    SequenceFile,
    confirm,
    give_up,
    steady,
    uncount,
)
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import SEQUENCE_UNWRITABLE
from ncen_updater.common.workers import Worker, WorkerFailed, WorkerLimits, ask

logger = logging.getLogger(__name__)

#: First word of an order of one action.
OWN = "own"
LIMITS = WorkerLimits(total_s=600.0)


class OwnAction(StrEnum):
    """What a running agent does in its own directory."""

    CONFIRM = "confirm"
    STEADY = "steady"
    UNCOUNT = "uncount"
    RETURN = "return"
    TIDY = "tidy"


Doer = Callable[[OwnAction], None]


def doer_of(
    directory: Path, version: str, now: Callable[[], datetime], alive: Callable[[], object]
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
        from ncen_updater.agent.self_update import after_confirmation as after

        try:
            after.renew_failsafe(directory, after.SYSTEM_PYTHON)
            after.collect_slots(directory, alive)
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


def own_doer(
    directory: Path,
    socket: Path,
    version: str,
    now: Callable[[], datetime],
    alive: Callable[[], object],
) -> Doer:
    """Return what does an action: here, where this process may, else by the unit that may.

    Args:
        directory: Where the slots of the agent are.
        socket: Where that unit is asked.
        version: The version that runs.
        now: The wall clock.
        alive: Called while it is waited for.
    """
    if os.access(directory, os.W_OK) or not socket.exists():
        return doer_of(directory, version, now, alive)
    worker = Worker("none", socket=socket, limits=LIMITS, expects=(range(10_000),))

    def do(action: OwnAction) -> None:
        try:
            ask(worker, {"words": [OWN, action, version]}, ending=lambda: bool(alive()))
        except WorkerFailed as error:
            raise UpdaterError(SEQUENCE_UNWRITABLE, path=directory, reason=error.detail) from error

    return do
