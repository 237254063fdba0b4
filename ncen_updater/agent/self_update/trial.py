"""The trial of a new agent, from inside: when it may confirm itself, and when it gives itself up.

A new agent has confirmed itself once the service went through its loop, has run for a minimum time,
and a child found journal, lists and databases in reach. Until then it begins nothing but to bring
an open change to its end. One that cannot confirm itself in ten times that minimum ends, so that
the failsafe counts it. What is written where, and what a crash leaves: docs/self-update.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ncen_updater.agent.self_update.directory_writer import Doer, OwnAction
from ncen_updater.agent.storage.agent_selection import AgentSelection, SequenceFile, TrialState
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import AGENT_NOT_CONFIRMED

logger = logging.getLogger(__name__)

#: So many times the minimum: until a new agent gives itself up, and until a confirmed one counts as
#: steady.
LONG = 10


class Duty(StrEnum):
    """What a running agent owes to the file."""

    NOTHING = "nothing"
    CONFIRM = "confirm"
    STEADY = "steady"
    RETURN = "return"


def duty_of(sequence: AgentSelection | None, version: str) -> Duty:
    """Return what an agent of this version has to do; pure."""
    if sequence is None:
        return Duty.NOTHING
    trying = sequence.state is TrialState.TRYING
    if sequence.current == version:
        if trying:
            return Duty.CONFIRM
        return Duty.STEADY if sequence.attempts else Duty.NOTHING
    # The failsafe could not write that it went back, or the file would say so.
    return Duty.RETURN if trying and sequence.previous == version else Duty.NOTHING


@dataclass(frozen=True)
class ProbationVerdict:
    """What the service does after a step.

    Attributes:
        again_s: Seconds until it asks again at the latest; None for whenever it likes.
        leave: Whether it ends, because another agent was chosen.
    """

    again_s: float | None = None
    leave: bool = False


class Probation:
    """What the service asks after each of its steps.

    Args:
        file: The choice.
        version: The version that runs.
        confirm_s: The minimum time, seconds.
        in_reach: Lets a child look at journal, lists and databases; whether all are in reach.
        confirmed: Called once before the confirmation is written (the journal takes it).
        do: Does what changes the choice, and what follows a confirmation.
        monotonic: A clock that is never set.
    """

    def __init__(
        self,
        file: SequenceFile,
        version: str,
        confirm_s: float,
        *,
        in_reach: Callable[[], bool],
        confirmed: Callable[[], None],
        do: Doer,
        monotonic: Callable[[], float],
    ) -> None:
        self._file, self._version, self._confirm_s = file, version, confirm_s
        self._in_reach, self._confirmed, self._do = in_reach, confirmed, do
        self._monotonic = monotonic
        self._began = monotonic()
        found = self._load()
        self._chosen = found.current if found else None
        self._noted = False
        self._trying = duty_of(found, version) is Duty.CONFIRM

    @property
    def on_trial(self) -> bool:
        """Whether this agent has yet to confirm itself."""
        return self._trying

    def after_step(self) -> ProbationVerdict:
        """Do what is due.

        Raises:
            AgentNotConfirmed: If its time is over.
        """
        found = self._load()
        if found is not None and found.current not in (self._version, self._chosen):
            logger.info("agent %s was chosen: leaving the place to it", found.current)
            return ProbationVerdict(leave=True)
        age = self._monotonic() - self._began
        match duty_of(found, self._version):
            case Duty.CONFIRM:
                return self._confirm(age)
            case Duty.STEADY:
                if age < LONG * self._confirm_s:
                    return ProbationVerdict(LONG * self._confirm_s - age)
                return self._write(OwnAction.STEADY)
            case Duty.RETURN:
                logger.error("the new agent did not start; this one is chosen again")
                return self._write(OwnAction.RETURN)
            case _:
                return ProbationVerdict()

    def told_to_end(self) -> None:
        """Take back the count of this start: an order to end says nothing against the agent.

        Without this, a machine that is switched off early a few times, or a person who restarts the
        service while they try settings, would have a good agent given up.
        """
        found = self._load()
        if found is not None and found.current == self._version and found.attempts:
            self._write(OwnAction.UNCOUNT)

    def _confirm(self, age: float) -> ProbationVerdict:
        if age < self._confirm_s:
            return ProbationVerdict(self._confirm_s - age)
        try:
            ready = self._in_reach()
            if ready and not self._noted:
                self._confirmed()
                self._noted = True
        except UpdaterError as error:
            logger.warning("not confirmed: %s", error)
            ready = False
        if ready and self._write(OwnAction.CONFIRM).again_s is None:
            self._trying = False
            logger.info("agent %s has confirmed itself", self._version)
            self._write(OwnAction.TIDY)
            # What waited for it begins now. The journal says so only where it was noted just now.
            return ProbationVerdict(again_s=0.0)
        # Also one that filled the disk of its own choice, and runs on.
        if age >= LONG * self._confirm_s:
            raise UpdaterError(
                AGENT_NOT_CONFIRMED, version=self._version, seconds=round(LONG * self._confirm_s)
            )
        return ProbationVerdict(self._confirm_s)

    def _write(self, action: OwnAction) -> ProbationVerdict:
        try:
            self._do(action)
        except UpdaterError as error:
            logger.warning("the choice of the agent stays as it is: %s", error)
            return ProbationVerdict(self._confirm_s)
        return ProbationVerdict()

    def _load(self) -> AgentSelection | None:
        """Read the choice; a damaged one is the failsafe's to mend, at the next start."""
        try:
            return self._file.load()
        except UpdaterError as error:
            logger.warning("%s", error)
            return None
