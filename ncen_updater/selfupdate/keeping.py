"""What a new agent does once it has confirmed itself: renew the failsafe, let old slots go.

The failsafe is never exchanged together with the agent: it alone brings the previous
agent back. It is renewed here, by an agent that has just shown that it works, and only if the new
file, run by the interpreter that runs the service, chooses the same slot.
"""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from ncen_updater import durable
from ncen_updater.selfupdate.sequence import SequenceFile
from ncen_updater.selfupdate.slots import AgentSlots

__all__ = ["FAILSAFE", "collect_slots", "failsafe_content", "renew_failsafe"]

logger = logging.getLogger(__name__)

FAILSAFE = "failsafe.py"
SYSTEM_PYTHON = Path("/usr/bin/python3")
CHECK_S = 60


def failsafe_content() -> bytes:
    """The failsafe that came with this agent."""
    return (resources.files("ncen_updater.failsafe") / FAILSAFE).read_bytes()


def renew_failsafe(directory: Path, python: Path) -> bool:
    """Put this agent's failsafe in the place of another; return whether anything was done.

    Args:
        directory: Where the slots are.
        python: The interpreter that runs it.

    Raises:
        OSError: If the disk does not take it.
    """
    content, place = failsafe_content(), directory / FAILSAFE
    if place.exists() and place.read_bytes() == content:
        return False
    trial = directory / f".{FAILSAFE}.trial.py"
    durable.write(trial, content, 0o755)
    try:
        if not _chooses_well(trial, directory, python):
            logger.error("the new failsafe does not choose what is chosen: the old one stays")
            return False
        durable.write(place, content, 0o755)
    finally:
        durable.remove(trial)
    logger.info("the failsafe was renewed")
    return True


def _chooses_well(trial: Path, directory: Path, python: Path) -> bool:
    try:
        ended = subprocess.run(
            [str(python), "-I", str(trial), "--check"],
            stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=CHECK_S,
        )  # fmt: skip
        start = json.loads(ended.stdout)["start"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        logger.error("the new failsafe could not be tried: %s", error)
        return False
    chosen = SequenceFile(directory).load()
    return chosen is None or start == chosen.current


def collect_slots(directory: Path, alive: Callable[[], None]) -> tuple[str, ...]:
    """Remove the slots that nobody goes back to; the chosen and the previous one always stay.

    Args:
        directory: Where the slots are.
        alive: Called before each removal: a sign of life for who watches.

    Raises:
        OSError: If the disk refuses.
        SequenceDamaged: If it is not known which those are.
    """
    sequence = SequenceFile(directory).load()
    if sequence is None or sequence.previous is None:
        return ()  # without a previous one the failsafe looks among all that are there
    return AgentSlots(directory).collect({sequence.current, sequence.previous}, alive)
