"""Choice of the recovery of a site: one pure table from facts to an action.

Before the commit a change is reverted, after it completed. If journal and site contradict each
other, the agent stops and waits for an operator. The marker in the catalogue (``cut_over_done``)
decides whether the cut-over happened, not the journal: of 70 servers killed during the commit, four
had committed without confirming it.

The first matching row decides. Why each row is safe: docs/explanation/crash-safety.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ncen_updater.agent.model.change import ChangeState, StepState
from ncen_updater.common.i18n import N_, LazyText

MAX_RECOVERY_ATTEMPTS = 5


class CurrentSlot(StrEnum):
    """Target of the link ``current``, relative to the open change."""

    OLD = "old"
    NEW = "new"
    OTHER = "other"


class RecoveryAction(StrEnum):
    """Action of a recovery."""

    NOTHING = "nothing"
    REVERT = "revert"
    FINISH = "finish"
    STOP = "stop"


@dataclass(frozen=True)
class ObservedState:
    """Facts of a site when the agent starts.

    Attributes:
        state: State of the open change; None if no change is open.
        committed: Whether the journal holds the commit.
        cut_over: State of this step in the journal; None if it was never intended.
        switch: The same for this step.
        cut_over_done: Whether the catalogue carries the marker of this change.
        fenced: Whether the live databases refuse sessions.
        database_missing: Whether a live database is missing.
        slot: Target of the link ``current``.
        attempts: Recoveries of this change that failed by an error of their own; those interrupted
            by a power cut or a signal are not counted.
        by_operator: Whether an operator gave the command; then the number of attempts is unlimited.
        committed_in_databases: Whether the databases record that this change was committed.
        later_change_in_databases: Whether the databases carry the marker of a later change.
    """

    state: ChangeState | None
    committed: bool = False
    cut_over: StepState | None = None
    switch: StepState | None = None
    cut_over_done: bool = False
    fenced: bool = False
    database_missing: bool = False
    slot: CurrentSlot = CurrentSlot.OLD
    attempts: int = 0
    by_operator: bool = False
    committed_in_databases: bool = False
    later_change_in_databases: bool = False


@dataclass(frozen=True)
class RecoveryRule:
    """One row of the table."""

    name: str
    matches: Callable[[ObservedState], bool]
    action: RecoveryAction
    reason: LazyText


@dataclass(frozen=True)
class RecoveryDecision:
    """Decision: the action, the name of the row, and the reason."""

    action: RecoveryAction
    rule: str
    reason: LazyText


def _is_idle(s: ObservedState) -> bool:
    return s.state is None


def _is_uncommitted(s: ObservedState) -> bool:
    return not s.committed


RECOVERY_TABLE: tuple[RecoveryRule, ...] = (
    RecoveryRule(
        "idle, a database is missing",
        lambda s: _is_idle(s) and s.database_missing,
        RecoveryAction.STOP,
        LazyText(N_("a database is missing, but no change is in progress")),
    ),
    RecoveryRule(
        "idle, the databases are fenced",
        lambda s: _is_idle(s) and s.fenced,
        RecoveryAction.STOP,
        LazyText(N_("the databases are closed, but no change is in progress")),
    ),
    RecoveryRule(
        "idle",
        _is_idle,
        RecoveryAction.NOTHING,
        LazyText(N_("no change in progress")),
    ),
    RecoveryRule(
        "too many attempts",
        lambda s: (
            not s.by_operator
            and (s.attempts >= MAX_RECOVERY_ATTEMPTS or s.state is ChangeState.STUCK)
        ),
        RecoveryAction.STOP,
        LazyText(N_("recovery failed repeatedly")),
    ),
    RecoveryRule(
        "a later change",
        lambda s: s.later_change_in_databases,
        RecoveryAction.STOP,
        LazyText(
            N_("the databases record a later change than the journal: the journal is outdated")
        ),
    ),
    RecoveryRule(
        "current points at a third release",
        lambda s: s.slot is CurrentSlot.OTHER,
        RecoveryAction.STOP,
        LazyText(N_("'current' points to a release unknown to this change")),
    ),
    RecoveryRule(
        "committed, but the databases are the old ones",
        lambda s: s.committed and not s.cut_over_done,
        RecoveryAction.STOP,
        LazyText(N_("committed according to the journal, not cut over according to the databases")),
    ),
    RecoveryRule(
        "committed, but the code is the old one",
        lambda s: s.committed and s.slot is not CurrentSlot.NEW,
        RecoveryAction.STOP,
        LazyText(
            N_("committed according to the journal, but 'current' points to the previous release")
        ),
    ),
    RecoveryRule(
        "committed",
        lambda s: s.committed,
        RecoveryAction.FINISH,
        LazyText(N_("the change is committed and will be completed")),
    ),
    RecoveryRule(
        "swapped without intent",
        lambda s: s.cut_over_done and s.cut_over in (None, StepState.UNDONE),
        RecoveryAction.STOP,
        LazyText(N_("the databases are cut over, but the journal has no cut-over")),
    ),
    RecoveryRule(
        "committed, as the databases say, while reverting",
        lambda s: s.committed_in_databases and s.state is ChangeState.REVERTING,
        RecoveryAction.STOP,
        LazyText(N_("committed according to the databases, reverted according to the journal")),
    ),
    RecoveryRule(
        "committed, as the databases say, but not whole",
        lambda s: s.committed_in_databases and not (s.cut_over_done and s.slot is CurrentSlot.NEW),
        RecoveryAction.STOP,
        LazyText(
            N_("committed according to the databases, but code or databases are the previous ones")
        ),
    ),
    RecoveryRule(
        "committed, as the databases say",
        lambda s: s.committed_in_databases,
        RecoveryAction.FINISH,
        LazyText(N_("committed according to the databases; the outdated journal is updated")),
    ),
    RecoveryRule(
        "switched without intent",
        lambda s: s.slot is CurrentSlot.NEW and s.switch in (None, StepState.UNDONE),
        RecoveryAction.STOP,
        LazyText(N_("'current' was switched, but the journal has no switch")),
    ),
    RecoveryRule(
        "before the commit",
        _is_uncommitted,
        RecoveryAction.REVERT,
        LazyText(N_("the change is not committed and will be reverted")),
    ),
)


def decide_recovery(situation: ObservedState) -> RecoveryDecision:
    """Return the decision for the facts. Total: every situation matches a row."""
    for row in RECOVERY_TABLE:
        if row.matches(situation):
            return RecoveryDecision(row.action, row.name, row.reason)
    raise AssertionError("no row matches")
