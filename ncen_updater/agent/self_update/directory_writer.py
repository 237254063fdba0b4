"""Writes of a running agent to its own directory, and the user that makes them.

The service parses requests of local users, and the directory holds code that root runs: neither the
unit of the service nor the worker unit may write there. A separate unit may; the service requests
one of five actions from it, without any parameter. The rules of ``agent_selection.py`` apply to
them. Where one process does everything, it does these, too.

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
    AgentSelectionFile,
    confirm_agent,
    reset_attempts,
    revert_to_previous,
    uncount_start,
)
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import SEQUENCE_UNWRITABLE
from ncen_updater.common.workers import Worker, WorkerError, WorkerLimits, call_worker

logger = logging.getLogger(__name__)

#: First word of an order of one action.
OWN = "own"
LIMITS = WorkerLimits(total_timeout_s=600.0)


class DirectoryAction(StrEnum):
    """What a running agent does in its own directory."""

    CONFIRM = "confirm"
    RESET_ATTEMPTS = "reset-attempts"
    UNCOUNT_START = "uncount-start"
    REVERT = "revert"
    CLEAN_UP = "clean-up"


ActionHandler = Callable[[DirectoryAction], None]


def create_action_handler(
    directory: Path, version: str, now: Callable[[], datetime], send_heartbeat: Callable[[], object]
) -> ActionHandler:
    """Return what does an action, here and now.

    Args:
        directory: Where the slots of the agent are.
        version: The version that runs.
        now: The wall clock.
        send_heartbeat: Called while old slots are removed.
    """
    file = AgentSelectionFile(directory)

    def tidy() -> None:
        from ncen_updater.agent.self_update import housekeeping as after

        try:
            after.update_failsafe(directory, after.SYSTEM_PYTHON)
            after.prune_slots(directory, send_heartbeat)
        except (OSError, UpdaterError) as error:
            logger.warning("the agent's directory is not tidy: %s", error)

    changes: dict[DirectoryAction, Callable[[AgentSelection], AgentSelection]] = {
        DirectoryAction.CONFIRM: lambda before: confirm_agent(before, version),
        DirectoryAction.RESET_ATTEMPTS: lambda before: reset_attempts(before, version),
        DirectoryAction.UNCOUNT_START: lambda before: uncount_start(before, version),
        DirectoryAction.REVERT: lambda before: revert_to_previous(before, version, now()),
    }

    def do(action: DirectoryAction) -> None:
        if action is DirectoryAction.CLEAN_UP:
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
) -> ActionHandler:
    """Return what does an action: here, where this process may, else by the unit that may.

    Args:
        directory: Where the slots of the agent are.
        socket: Where that unit is asked.
        version: The version that runs.
        now: The wall clock.
        alive: Called while it is waited for.
    """
    if os.access(directory, os.W_OK) or not socket.exists():
        return create_action_handler(directory, version, now, alive)
    worker = Worker("none", socket=socket, limits=LIMITS, expected_errors=(range(10_000),))

    def do(action: DirectoryAction) -> None:
        try:
            call_worker(worker, {"command": [OWN, action, version]}, ending=lambda: bool(alive()))
        except WorkerError as error:
            raise UpdaterError(SEQUENCE_UNWRITABLE, path=directory, reason=error.detail) from error

    return do
