"""Changes, their states and their steps.

``status`` imports this module: standard library only.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class ChangeKind(StrEnum):
    """Kind of a change."""

    UPGRADE = "upgrade"
    ROLLBACK = "rollback"


class DatabaseMode(StrEnum):
    """How a change brings the databases to the target's schema."""

    MIGRATE = "migrate"  # up files for an upgrade, down files for a rollback; all records are kept
    RESTORE = "restore"  # copy the previous databases; later records are lost


class ChangeState(StrEnum):
    """State of a change. It is open until it is finished or reverted."""

    RUNNING = "running"  # before the commit: everything can be undone exactly
    REVERTING = "reverting"  # steps are being undone
    COMMITTED = "committed"  # users may be working: the change can only be completed
    FINISHED = "finished"
    REVERTED = "reverted"
    STUCK = "stuck"  # facts contradict each other or recovery failed too often; needs an operator

    @property
    def is_open(self) -> bool:
        """Return whether work is left."""
        return self not in (ChangeState.FINISHED, ChangeState.REVERTED)


class StepName(StrEnum):
    """The steps, in the order in which they run."""

    FETCH = "fetch"
    BUILD_SLOT = "build-slot"
    PREFLIGHT = "preflight"
    MAINTENANCE_ON = "maintenance-on"
    STOP = "stop"
    FENCE = "fence"
    FINAL_PREFLIGHT = "final-preflight"
    COPY = "copy"
    MIGRATE = "migrate"
    CUT_OVER = "cut-over"
    SWITCH = "switch"
    START = "start"
    HEALTH = "health"
    COMMIT = "commit"
    MAINTENANCE_OFF = "maintenance-off"
    SOAK = "soak"
    PRUNE = "prune"


# A signal is deferred until these steps end: they are short, and must not be half done. A command
# given to the application would continue without us, and users cannot work until MAINTENANCE_OFF.
UNINTERRUPTIBLE_STEPS = frozenset(
    {
        StepName.STOP,
        StepName.CUT_OVER,
        StepName.SWITCH,
        StepName.START,
        StepName.COMMIT,
        StepName.MAINTENANCE_OFF,
    }
)
_ORDER = tuple(StepName)
_COMMIT = _ORDER.index(StepName.COMMIT)
STEPS_BEFORE_COMMIT = _ORDER[:_COMMIT]
STEPS_AFTER_COMMIT = _ORDER[_COMMIT + 1 :]
# Downtime lasts from the first of these steps until MAINTENANCE_OFF is done.
DOWNTIME_STEPS = _ORDER[_ORDER.index(StepName.MAINTENANCE_ON) : _ORDER.index(StepName.SOAK)]


class StepState(StrEnum):
    """State of a step in the journal."""

    INTENDED = "intended"  # its effect may exist, partly or completely
    DONE = "done"
    UNDOING = "undoing"
    UNDONE = "undone"


class StepPhase(StrEnum):
    """Points at which a fault can occur; the fault matrix covers all of them."""

    BEFORE_EFFECT = "before-effect"
    AFTER_EFFECT = "after-effect"  # before the record
    AFTER_RECORD = "after-record"
    BEFORE_UNDO = "before-undo"
    AFTER_UNDO = "after-undo"
    AFTER_UNDO_RECORD = "after-undo-record"


@dataclass(frozen=True)
class StepRecord:
    """One step of a change, as the journal records it."""

    name: StepName
    state: StepState
    started_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True)
class Change:
    """One recorded upgrade or rollback.

    Attributes:
        id: Eight characters of a-z and 2-7.
        restore_source: Id of the change whose previous databases a restore copies.
        error_code: Code of the error because of which it was reverted.
        failed_recoveries: Number of its recoveries that failed themselves.
        steps: Steps by name, without steps that were never intended.
    """

    id: str
    kind: ChangeKind
    mode: DatabaseMode
    state: ChangeState
    product: str
    from_version: str
    to_version: str
    generation: int
    created_at: datetime
    ended_at: datetime | None = None
    restore_source: str | None = None
    error_code: str | None = None
    failed_recoveries: int = 0
    steps: Mapping[StepName, StepRecord] = field(default_factory=dict)

    @property
    def is_open_after_commit(self) -> bool:
        """Return whether it is open after its commit, also if recovery gave up on it."""
        return self.state.is_open and self.is_committed

    @property
    def is_committed(self) -> bool:
        """Return whether its commit is recorded; stays true when the change has ended."""
        return self.get_step_state(StepName.COMMIT) is StepState.DONE

    @property
    def is_soaking(self) -> bool:
        """Return whether users work with its release during its soak period."""
        return (
            self.state is ChangeState.COMMITTED
            and self.get_step_state(StepName.MAINTENANCE_OFF) is StepState.DONE
            and self.get_step_state(StepName.SOAK) is not StepState.DONE
        )

    def get_step_state(self, name: StepName) -> StepState | None:
        """Return the state of a step; None if it was never intended."""
        record = self.steps.get(name)
        return record.state if record else None


ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def new_change_id() -> str:
    """Return a new id: eight base32 characters, valid in a database name."""
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(8))


@dataclass(frozen=True)
class Actor:
    """The user who gave a command, as the operating system knows them."""

    name: str
    uid: int
