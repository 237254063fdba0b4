"""The rollback that an agent makes by itself after a bad soak, killed at each instant."""

from __future__ import annotations

from collections.abc import Iterator

from ncen_updater.agent.model.change import BEFORE_COMMIT, FORWARD, Phase, StepName
from ncen_updater.agent.model.facts import ChangeFacts
from ncen_updater.agent.model.names import JOURNAL
from ncen_updater.agent.storage.journal.journal import Journal
from tests.faults.cells import FORWARD_PHASES, Fault, Strike
from tests.faults.trial import OLD, Broken, Outcome, Trial


def soak_strikes() -> Iterator[Strike]:
    """Every instant of the rollback at which its process is killed."""
    for step in (*BEFORE_COMMIT, StepName.COMMIT, *FORWARD):
        for phase in FORWARD_PHASES:
            yield Strike(step, phase, Fault.SIGKILL)


def after_bad_soak(trial: Trial, strike: Strike) -> Outcome:
    """Let a soak turn bad, kill the rollback that follows, and resume until nothing is open.

    The old version has to run then: what was killed is taken up again, or goes on.

    Raises:
        Broken: A promise was not kept, see :meth:`Trial.settle`.
    """
    trial.reset(OLD)
    trial.operate("upgrade", (Strike(StepName.SOAK, Phase.BEFORE_EFFECT, Fault.SIGKILL),))
    with Journal.open(trial.demo.state / JOURNAL) as journal:
        change = journal.open_change()
        if change is None or not change.committed:
            raise Broken("the upgrade did not come to its soak")
        journal.keep(change.id, ChangeFacts(soak_failed="status 503"))
    output = trial.operate("resume-auto", (strike,))
    return Outcome(*trial.settle(), output.count("strike ") == 1)
