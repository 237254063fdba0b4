"""The rollback that an agent makes by itself after a bad soak, killed at each instant."""

from __future__ import annotations

from collections.abc import Iterator

from ncen_updater.agent.model.change import (
    STEPS_AFTER_COMMIT,
    STEPS_BEFORE_COMMIT,
    StepName,
    StepPhase,
)
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.i18n import LazyText
from tests.faults.cells import FORWARD_PHASES, Fault, Strike
from tests.faults.trial import OLD, BrokenPromiseError, Outcome, Trial


def soak_strikes() -> Iterator[Strike]:
    """Every instant of the rollback at which its process is killed."""
    for step in (*STEPS_BEFORE_COMMIT, StepName.COMMIT, *STEPS_AFTER_COMMIT):
        for phase in FORWARD_PHASES:
            yield Strike(step, phase, Fault.SIGKILL)


def after_bad_soak(trial: Trial, strike: Strike) -> Outcome:
    """Let a soak turn bad, kill the rollback that follows, and resume until nothing is open.

    The old version has to run then: what was killed is taken up again, or goes on.

    Raises:
        BrokenPromiseError: A promise was not kept, see :meth:`Trial.settle`.
    """
    trial.reset(OLD)
    trial.operate("upgrade", (Strike(StepName.SOAK, StepPhase.BEFORE_EFFECT, Fault.SIGKILL),))
    with Journal.open(trial.demo.state / JOURNAL_FILE) as journal:
        change = journal.find_open_change()
        if change is None or not change.is_open_after_commit:
            raise BrokenPromiseError("the upgrade did not come to its soak")
        journal.store_facts(change.id, ChangeFacts(soak_error=LazyText("status 503")))
    output = trial.operate("resume-auto", (strike,))
    return Outcome(*trial.settle(), output.count("strike ") == 1)
