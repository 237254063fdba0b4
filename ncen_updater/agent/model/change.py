"""The words of the upgrade room: changes, their states, their steps.

On the path of ``status``: standard library only.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class ChangeKind(StrEnum):
    """What a change is for."""

    UPGRADE = "upgrade"
    ROLLBACK = "rollback"


class DatabaseMode(StrEnum):
    """How the databases get to the target's schema."""

    MIGRATE = "migrate"  # up for an upgrade, down for a rollback; every record is kept
    RESTORE = "restore"  # from what was kept at the upgrade; later records are lost


class ChangeState(StrEnum):
    """Where a change stands. The first three are open."""

    RUNNING = "running"  # before the commit: everything can be undone exactly
    REVERTING = "reverting"  # the steps are being undone
    COMMITTED = "committed"  # users may be in: only forward
    FINISHED = "finished"
    REVERTED = "reverted"
    STUCK = "stuck"  # recovery failed too often; a person has to look

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


# A signal waits until these have ended: each is short, and half of one is worth nothing. A command
# that was given to the application would go on without us, and users stay out until OPEN.
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
# Users are out from the first of these until OPEN is done.
DOWNTIME_STEPS = _ORDER[_ORDER.index(StepName.MAINTENANCE_ON) : _ORDER.index(StepName.SOAK)]


class StepState(StrEnum):
    """What the journal knows of a step."""

    INTENDED = "intended"  # its effect may be there, in part or whole
    DONE = "done"
    UNDOING = "undoing"
    UNDONE = "undone"


class StepPhase(StrEnum):
    """Instants at which a fault can strike; the fault matrix is made of them."""

    BEFORE_EFFECT = "before-effect"
    AFTER_EFFECT = "after-effect"  # before the record
    AFTER_RECORD = "after-record"
    BEFORE_UNDO = "before-undo"
    AFTER_UNDO = "after-undo"
    AFTER_UNDO_RECORD = "after-undo-record"


@dataclass(frozen=True)
class StepRecord:
    """One step of a change, as the journal has it."""

    name: StepName
    state: StepState
    started_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True)
class Change:
    """One journaled operation.

    Attributes:
        id: Eight characters a-z and 2-7.
        source: Id of the change whose previous databases a restore copies.
        error_code: Code of the failure that made it go back.
        failed_recoveries: Recoveries of it that ended by an error of their own.
        steps: By name; steps that were never intended are not there.
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
        """Tell whether it is open after its commit, also where recovery gave up on it."""
        return self.state.is_open and self.is_committed

    @property
    def is_committed(self) -> bool:
        """Return whether its commit is written; so it remains once it has come to its end."""
        return self.get_step_state(StepName.COMMIT) is StepState.DONE

    @property
    def is_soaking(self) -> bool:
        """Return whether users work with its release, and nothing is done but to watch it."""
        return (
            self.state is ChangeState.COMMITTED
            and self.get_step_state(StepName.MAINTENANCE_OFF) is StepState.DONE
            and self.get_step_state(StepName.SOAK) is not StepState.DONE
        )

    def get_step_state(self, name: StepName) -> StepState | None:
        """State of a step, None if it was never intended."""
        record = self.steps.get(name)
        return record.state if record else None


ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def new_change_id() -> str:
    """Return a fresh id: eight characters of the base32 alphabet, safe in a database's name."""
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(8))


@dataclass(frozen=True)
class Actor:
    """Who acts, as the operating system knows them."""

    name: str
    uid: int
