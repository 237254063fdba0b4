"""The cells of the matrix, generated from the steps. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum

from ncen_updater.agent.model.change import (
    STEPS_AFTER_COMMIT,
    STEPS_BEFORE_COMMIT,
    StepName,
    StepPhase,
)

FORWARD_PHASES = (StepPhase.BEFORE_EFFECT, StepPhase.AFTER_EFFECT, StepPhase.AFTER_RECORD)
UNDO_PHASES = (StepPhase.BEFORE_UNDO, StepPhase.AFTER_UNDO, StepPhase.AFTER_UNDO_RECORD)


class Fault(StrEnum):
    """What strikes."""

    EXCEPTION = "exception"
    SIGKILL = "sigkill"
    DISK_FULL = "disk-full"  # from then on no file of the process can grow (RLIMIT_FSIZE)
    READ_ONLY = "read-only"  # from then on no file can be opened for writing (Landlock)
    HANG = "hang"  # the process stands still with its lock until it is killed


@dataclass(frozen=True)
class Strike:
    """One fault at one instant."""

    step: StepName
    phase: StepPhase
    fault: Fault


@dataclass(frozen=True)
class Cell:
    """What happens to one change.

    Attributes:
        operation: ``upgrade`` or ``rollback``.
        strikes: In order; the second one hits the rollback of the first.
    """

    operation: str
    strikes: tuple[Strike, ...]

    @property
    def id(self) -> str:
        """Name of the cell in reports."""
        return "/".join([self.operation, *(f"{s.step}.{s.phase}.{s.fault}" for s in self.strikes)])

    def encode(self) -> str:
        """For the trial's process."""
        return json.dumps([asdict(strike) for strike in self.strikes])


def decode(text: str) -> tuple[Strike, ...]:
    """Read what :meth:`Cell.encode` wrote."""
    return tuple(
        Strike(StepName(row["step"]), StepPhase(row["phase"]), Fault(row["fault"]))
        for row in json.loads(text)
    )


def all_cells(operation: str = "upgrade") -> Iterator[Cell]:
    """Every step x instant x fault on the way forward."""
    for step in (*STEPS_BEFORE_COMMIT, StepName.COMMIT, *STEPS_AFTER_COMMIT):
        for phase in FORWARD_PHASES:
            for fault in Fault:
                yield Cell(operation, (Strike(step, phase, fault),))


def undo_cells(operation: str = "upgrade") -> Iterator[Cell]:
    """Every undo x instant x fault, during the rollback from a failed health check."""
    cause = Strike(StepName.HEALTH, StepPhase.BEFORE_EFFECT, Fault.EXCEPTION)
    for step in STEPS_BEFORE_COMMIT:
        for phase in UNDO_PHASES:
            for fault in Fault:
                yield Cell(operation, (cause, Strike(step, phase, fault)))


def expected_versions(cell: Cell, old: str, new: str) -> set[str]:
    """Which whole versions a cell may end on.

    A disk that fails lets the change go on where nothing has to be written, so the commit may be
    reached; a process that dies or fails before the commit always ends on what ran before.
    """
    before, after = (old, new) if cell.operation == "upgrade" else (new, old)
    last = cell.strikes[-1]
    if len(cell.strikes) > 1:
        return {before}
    if last.step in STEPS_AFTER_COMMIT:
        return {after}
    if last.step is StepName.COMMIT:
        if last.phase is StepPhase.BEFORE_EFFECT and last.fault not in (
            Fault.DISK_FULL,
            Fault.READ_ONLY,
        ):
            return {before}
        return {after} if last.phase is not StepPhase.BEFORE_EFFECT else {before, after}
    if last.fault in (Fault.DISK_FULL, Fault.READ_ONLY):
        return {before, after}
    return {before}
