"""Changes of a running agent to its own directory: selection, failsafe and old slots.

The failsafe is never replaced together with the agent, since only the failsafe can restart the
previous agent. An agent that has just confirmed itself replaces it here, and only if the new file,
run by the interpreter that runs the service, starts the right agents in a test directory with two
slots and then decides for the selected slot.

The service parses requests of local users, and the directory contains code that root runs: so
neither the service's unit nor the worker's unit may write there. A separate unit may; the service
requests one of five actions from it, with its own version as the only parameter, under the rules of
``agent_selection.py``. Without that unit, the process performs these actions itself.

The failsafe counts and selects before the service starts.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import tempfile
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from functools import partial
from importlib import resources
from pathlib import Path

from ncen_updater.agent.adapters.application.process import build_minimal_environment, run_command
from ncen_updater.agent.self_update.slots import PROGRAM_NAME, AgentSlots
from ncen_updater.agent.storage.agent_selection import (
    AgentSelection,
    AgentSelectionFile,
    TrialState,
    confirm_agent,
    reset_attempts,
    revert_to_previous,
    uncount_start,
)
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import SEQUENCE_UNWRITABLE
from ncen_updater.common.workers import Worker, WorkerError, WorkerLimits, call_worker

logger = logging.getLogger(__name__)

#: First word of a worker command for an action in the agent's directory.
OWN = "own"
LIMITS = WorkerLimits(total_timeout_s=600.0)
FAILSAFE_FILE = "failsafe.py"
SYSTEM_PYTHON = Path("/usr/bin/python3")
CHECK_TIMEOUT_S = 60
#: Selection, argument of the failsafe, and version that it must start.
FAILSAFE_TRIALS = (
    (AgentSelection("2.0", "1.0", TrialState.ON_TRIAL), "serve", "2.0"),
    (AgentSelection("2.0", "1.0", TrialState.ON_TRIAL, 99), "serve", "1.0"),
    (AgentSelection("2.0", "1.0"), "serve", "2.0"),
    (AgentSelection("2.0", "1.0", TrialState.ON_TRIAL), "resume", "1.0"),
)


def read_failsafe() -> bytes:
    """Return the content of the failsafe that belongs to this agent."""
    return (resources.files("ncen_updater.agent") / FAILSAFE_FILE).read_bytes()


def update_failsafe(directory: Path, python: Path) -> bool:
    """Replace the installed failsafe by this agent's one, if that differs and passes its trials.

    Args:
        directory: Directory of the slots.
        python: Interpreter that runs the failsafe.

    Returns:
        Whether it was replaced.

    Raises:
        OSError: If a file cannot be written.
    """
    for leftover in directory.glob(f".{FAILSAFE_FILE}.*"):  # left by an interrupted test
        durable.remove_entry(leftover)
    content, installed = read_failsafe(), directory / FAILSAFE_FILE
    if installed.exists() and installed.read_bytes() == content:
        return False
    trial = directory / f".{FAILSAFE_FILE}.trial.py"
    durable.write_file(trial, content, 0o755)
    try:
        if not (
            _passes_trials(content, directory, python)
            and _selects_chosen_slot(trial, directory, python)
        ):
            logger.error("the new failsafe failed a trial; keeping the old one")
            return False
        durable.write_file(installed, content, 0o755)
    finally:
        durable.remove_file(trial)
    logger.info("failsafe updated")
    return True


def _passes_trials(content: bytes, directory: Path, python: Path) -> bool:
    """Return whether a failsafe starts the right versions; test agents only log their version."""
    # In the directory of the slots: other file systems may be mounted noexec.
    with tempfile.TemporaryDirectory(prefix=f".{FAILSAFE_FILE}.", dir=directory) as name:
        slots = Path(name)
        started = slots / "started"
        (slots / FAILSAFE_FILE).write_bytes(content)
        for version in ("1.0", "2.0"):
            programs = slots / version / "bin"
            programs.mkdir(parents=True)
            (programs / "python").symlink_to(python)
            program = programs / PROGRAM_NAME
            program.write_text(f"#!/bin/sh\necho {version} >> {shlex.quote(str(started))}\n")
            program.chmod(0o755)
        for before, word, expected in FAILSAFE_TRIALS:
            AgentSelectionFile(slots).update(partial(_replace_selection, before))
            started.unlink(missing_ok=True)
            output = _run_failsafe([str(python), "-I", str(slots / FAILSAFE_FILE), word])
            if output is None or not started.exists() or started.read_text().split() != [expected]:
                logger.error("the new failsafe did not start the expected program (%s)", word)
                return False
    return True


def _replace_selection(wanted: AgentSelection, _: AgentSelection | None) -> AgentSelection:
    return wanted


def _run_failsafe(command: list[str]) -> str | None:
    """Run the failsafe; return its output, or None if it failed."""
    try:
        result = run_command(command, build_minimal_environment(), CHECK_TIMEOUT_S)
    except OSError as error:
        logger.error("the new failsafe could not be tested: %s", error)
        return None
    if result.status != 0:
        logger.error("the new failsafe exited with %s: %s", result.status, result.output)
        return None
    return result.output


def _selects_chosen_slot(trial: Path, directory: Path, python: Path) -> bool:
    text = _run_failsafe([str(python), "-I", str(trial), "--check"])
    if text is None:
        return False
    try:
        start = json.loads(text)["start"]
    except (ValueError, KeyError, TypeError) as error:
        logger.error("the new failsafe gave an invalid answer: %s", error)
        return False
    chosen = AgentSelectionFile(directory).load()
    return chosen is None or start == chosen.current


def prune_slots(directory: Path, send_heartbeat: Callable[[], object]) -> tuple[str, ...]:
    """Remove unused slots; the selected and the previous slot always remain.

    Args:
        directory: Directory of the slots.
        send_heartbeat: Called before each removal; sends a heartbeat to the watchdog.

    Raises:
        OSError: If a slot cannot be removed.
        SelectionDamagedError: If the selection cannot be read.
    """
    selection = AgentSelectionFile(directory).load()
    if selection is None or selection.previous is None:
        return ()  # without a previous version the failsafe may fall back to any slot
    return AgentSlots(directory).prune({selection.current, selection.previous}, send_heartbeat)


class DirectoryAction(StrEnum):
    """Action of a running agent in its own directory."""

    CONFIRM = "confirm"
    RESET_ATTEMPTS = "reset-attempts"
    UNCOUNT_START = "uncount-start"
    REVERT = "revert"
    CLEAN_UP = "clean-up"


ActionHandler = Callable[[DirectoryAction], None]


def create_action_handler(
    directory: Path, version: str, now: Callable[[], datetime], send_heartbeat: Callable[[], object]
) -> ActionHandler:
    """Return a function that performs an action in this process.

    Args:
        directory: Directory of the agent's slots.
        version: The running version.
        now: The wall clock.
        send_heartbeat: Called while old slots are removed.
    """
    file = AgentSelectionFile(directory)

    def clean_up() -> None:
        try:
            update_failsafe(directory, SYSTEM_PYTHON)
            prune_slots(directory, send_heartbeat)
        except (OSError, UpdaterError) as error:
            logger.warning("cannot update the failsafe or remove old agents: %s", error)

    changes: dict[DirectoryAction, Callable[[AgentSelection], AgentSelection]] = {
        DirectoryAction.CONFIRM: lambda before: confirm_agent(before, version),
        DirectoryAction.RESET_ATTEMPTS: lambda before: reset_attempts(before, version),
        DirectoryAction.UNCOUNT_START: lambda before: uncount_start(before, version),
        DirectoryAction.REVERT: lambda before: revert_to_previous(before, version, now()),
    }

    def perform(action: DirectoryAction) -> None:
        if action is DirectoryAction.CLEAN_UP:
            clean_up()
            return
        change = changes[action]
        file.update(
            lambda before: change(before if before is not None else AgentSelection(version))
        )

    return perform


def choose_action_handler(
    directory: Path,
    socket: Path,
    version: str,
    now: Callable[[], datetime],
    send_heartbeat: Callable[[], object],
) -> ActionHandler:
    """Return a function that performs an action: here if permitted, otherwise through its unit.

    Args:
        directory: Directory of the agent's slots.
        socket: Socket of the unit that may write to the directory.
        version: The running version.
        now: The wall clock.
        send_heartbeat: Called while the function waits for the unit.
    """
    if os.access(directory, os.W_OK) or not socket.exists():
        return create_action_handler(directory, version, now, send_heartbeat)
    worker = Worker("none", socket=socket, limits=LIMITS, expected_errors=(range(10_000),))

    def perform(action: DirectoryAction) -> None:
        try:
            call_worker(
                worker, {"command": [OWN, action, version]}, ending=lambda: bool(send_heartbeat())
            )
        except WorkerError as error:
            raise UpdaterError(SEQUENCE_UNWRITABLE, path=directory, reason=error.detail) from error

    return perform
