"""What a new agent does once it has confirmed itself: renew the failsafe, let old slots go.

The failsafe is never exchanged together with the agent: it alone brings the previous
agent back. It is renewed here, by an agent that has just shown that it works, and only if the new
file, run by the interpreter that runs the service, does what it should beside two slots of a trial
and then chooses the slot that is chosen.
"""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path

from ncen_updater.agent.adapters.application.process import minimal_environment, run
from ncen_updater.agent.self_update.slots import PROGRAM, AgentSlots
from ncen_updater.agent.storage.agent_selection import AgentSelection, SequenceFile, TrialState
from ncen_updater.common import atomic_files as durable

logger = logging.getLogger(__name__)

FAILSAFE = "failsafe.py"
SYSTEM_PYTHON = Path("/usr/bin/python3")
CHECK_S = 60
#: What is chosen, how the failsafe is called, and whom it has to start then.
TRIALS = (
    (AgentSelection("2.0", "1.0", TrialState.TRYING), "serve", "2.0"),
    (AgentSelection("2.0", "1.0", TrialState.TRYING, 99), "serve", "1.0"),
    (AgentSelection("2.0", "1.0"), "serve", "2.0"),
    (AgentSelection("2.0", "1.0", TrialState.TRYING), "resume", "1.0"),
)


def failsafe_content() -> bytes:
    """The failsafe that came with this agent."""
    return (resources.files("ncen_updater.agent") / FAILSAFE).read_bytes()


def renew_failsafe(directory: Path, python: Path) -> bool:
    """Put this agent's failsafe in the place of another; return whether anything was done.

    Args:
        directory: Where the slots are.
        python: The interpreter that runs it.

    Raises:
        OSError: If the disk does not take it.
    """
    for left in directory.glob(f".{FAILSAFE}.*"):  # by a trial that was cut off
        shutil.rmtree(left) if left.is_dir() else durable.remove(left)
    content, place = failsafe_content(), directory / FAILSAFE
    if place.exists() and place.read_bytes() == content:
        return False
    trial = directory / f".{FAILSAFE}.trial.py"
    durable.write(trial, content, 0o755)
    try:
        if not (_does_well(content, directory, python) and _chooses_well(trial, directory, python)):
            logger.error("the new failsafe does not choose what is chosen: the old one stays")
            return False
        durable.write(place, content, 0o755)
    finally:
        durable.remove(trial)
    logger.info("the failsafe was renewed")
    return True


def _does_well(content: bytes, directory: Path, python: Path) -> bool:
    """Whether a failsafe starts and exchanges agents, which here only write down their names."""
    # Beside the slots: elsewhere a disk may not let programs be run.
    with tempfile.TemporaryDirectory(prefix=f".{FAILSAFE}.", dir=directory) as name:
        place = Path(name)
        started = place / "started"
        (place / FAILSAFE).write_bytes(content)
        for version in ("1.0", "2.0"):
            programs = place / version / "bin"
            programs.mkdir(parents=True)
            (programs / "python").symlink_to(python)
            program = programs / PROGRAM
            program.write_text(f"#!/bin/sh\necho {version} >> {shlex.quote(str(started))}\n")
            program.chmod(0o755)
        for before, word, expected in TRIALS:
            SequenceFile(place).update(partial(_instead, before))
            started.unlink(missing_ok=True)
            said = _run([str(python), "-I", str(place / FAILSAFE), word])
            if said is None or not started.exists() or started.read_text().split() != [expected]:
                logger.error("the new failsafe does not start what it should (%s)", word)
                return False
    return True


def _instead(wanted: AgentSelection, _: AgentSelection | None) -> AgentSelection:
    return wanted


def _run(words: list[str]) -> str | None:
    """Run the failsafe; return what it said, None where it did not work."""
    try:
        ended = run(words, minimal_environment(), CHECK_S)
    except OSError as error:
        logger.error("the new failsafe could not be tried: %s", error)
        return None
    if ended.status != 0:
        logger.error("the new failsafe ended with %s: %s", ended.status, ended.output)
        return None
    return ended.output


def _chooses_well(trial: Path, directory: Path, python: Path) -> bool:
    said = _run([str(python), "-I", str(trial), "--check"])
    if said is None:
        return False
    try:
        start = json.loads(said)["start"]
    except (ValueError, KeyError, TypeError) as error:
        logger.error("the new failsafe says what cannot be understood: %s", error)
        return False
    chosen = SequenceFile(directory).load()
    return chosen is None or start == chosen.current


def collect_slots(directory: Path, alive: Callable[[], object]) -> tuple[str, ...]:
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
