"""Power cuts of a recorded run: each disk is started unattended, and judged."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random

from benchmarks.machine.box import Box
from benchmarks.machine.disk import Image, Loss
from benchmarks.machine.judge import (
    Acknowledged,
    acknowledged,
    find_faults,
    measure_user_return,
    waited_for,
)
from benchmarks.machine.record import Recorded, choose_instants, find_step_ranges
from benchmarks.report import print_line


@dataclass(frozen=True)
class Trial:
    """One cut and its result.

    Attributes:
        step: The step of the change that was interrupted.
        at: Number of writes and flushes before it.
        second_s: Seconds after power on until a second cut; None for none.
        in_after_s: Seconds from power on until users can work.
        version: Version of the site afterwards.
        compared: Number of acknowledged records that were compared, in three databases.
        waited_for: Units that delayed a slow boot.
    """

    step: str
    at: int
    loss: str
    pending: int
    second_s: float | None
    in_after_s: float | None
    version: str
    compared: int
    wrong: tuple[str, ...]
    waited_for: str = ""


def replay(
    recorded: Recorded,
    each: Mapping[str, int],
    seed: int,
    *,
    shared: Path,
    work: Path,
    second_share: float = 0.2,
) -> list[Trial]:
    """Cut a recorded run at seeded instants.

    Args:
        recorded: The run.
        each: Number of cuts in each step.
        seed: The same seed cuts at the same instants, with the same losses.
        shared: The machine's ``/pkg``.
        work: Directory for the trials.
        second_share: Share of the trials with a second cut while the machine boots.
    """
    chance = Random(seed)
    recording = recorded.recording()
    chosen = choose_instants(find_step_ranges(recording), each, chance)
    trials = []
    for number, (step, at) in enumerate(chosen):
        loss = chance.choice(list(Loss))
        image, pending = recording.cut(recorded.begin, at, loss, chance)
        entered = acknowledged(recorded.directory / "officers.jsonl", recording.when(at))
        second_s = chance.uniform(0.5, 12) if chance.random() < second_share else None
        planned = Trial(step, at, loss, pending.size, second_s, None, "", 0, ())
        trial = _one(
            recorded, image, entered, planned,
            shared=shared, work=work / f"trial-{number}", chance=chance,
        )  # fmt: skip
        print_line(f"{number + 1} of {len(chosen)}: {asdict(trial)}")
        trials.append(trial)
    recording.close()
    return trials


def _one(
    recorded: Recorded, image: Image, entered: list[Acknowledged], trial: Trial,
    *, shared: Path, work: Path, chance: Random,
) -> Trial:  # fmt: skip
    if trial.second_s is not None:
        box = Box(image, shared, work)
        try:
            box.start()
            time.sleep(trial.second_s)
            image = box.cut(chance.choice(list(Loss)), chance).image
        finally:
            box.close()
    box = Box(image, shared, work)
    try:
        box.start()
        box.start_users()
        seconds = measure_user_return(box)
        if seconds is None:
            said = box.container.run("journalctl", "--no-pager", "-n", "60").stdout
            return replace(trial, version="?", wrong=(f"users cannot work: {said}",))
        found, wrong = find_faults(box, recorded.known, entered)
        return replace(
            trial, in_after_s=seconds, version=found.code, compared=3 * len(entered),
            wrong=tuple(wrong), waited_for=waited_for(box, seconds),
        )  # fmt: skip
    finally:
        box.close()
