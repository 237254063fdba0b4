"""The trial of a new agent, from inside: when it may confirm itself, and when it gives up.

A new agent confirms itself once the service went through its loop, has run for a minimum time, and
a child reached journal, metadata and databases. Until then it only completes an open change. An
agent that cannot confirm itself in ten times that minimum exits, so that the failsafe counts it.
What a crash leaves: docs/explanation/crash-safety.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ncen_updater.agent.self_update.agent_directory import ActionHandler, DirectoryAction
from ncen_updater.agent.storage.agent_selection import (
    AgentSelection,
    AgentSelectionFile,
    TrialState,
)
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import AGENT_NOT_CONFIRMED

logger = logging.getLogger(__name__)

#: So many times the minimum: until a new agent gives itself up, and until a confirmed one counts as
#: steady.
TIMEOUT_FACTOR = 10


class TrialDuty(StrEnum):
    """What a running agent owes to the file."""

    NOTHING = "nothing"
    CONFIRM = "confirm"
    RESET_ATTEMPTS = "reset-attempts"
    REVERT = "revert"


def decide_duty(selection: AgentSelection | None, version: str) -> TrialDuty:
    """Return what an agent of this version has to do; pure."""
    if selection is None:
        return TrialDuty.NOTHING
    trying = selection.state is TrialState.ON_TRIAL
    if selection.current == version:
        if trying:
            return TrialDuty.CONFIRM
        return TrialDuty.RESET_ATTEMPTS if selection.attempts else TrialDuty.NOTHING
    # The failsafe could not write that it went back, or the file would say so.
    return TrialDuty.REVERT if trying and selection.previous == version else TrialDuty.NOTHING


@dataclass(frozen=True)
class TrialVerdict:
    """What the service does after a step.

    Attributes:
        retry_after_s: Seconds until it asks again at the latest; None for whenever it likes.
        should_exit: Whether it ends, because another agent was chosen.
    """

    retry_after_s: float | None = None
    should_exit: bool = False


class AgentTrial:
    """What the service asks after each of its steps.

    Args:
        selection_file: The choice.
        version: The version that runs.
        confirm_s: The minimum time, seconds.
        check_reachability: Lets a child look at journal, lists and databases; whether all are in
            reach.
        record_confirmation: Called once before the confirmation is written (the journal takes it).
        run_action: Does what changes the choice, and what follows a confirmation.
        monotonic: A clock that is never set.
    """

    def __init__(
        self,
        selection_file: AgentSelectionFile,
        version: str,
        confirm_s: float,
        *,
        check_reachability: Callable[[], bool],
        record_confirmation: Callable[[], None],
        run_action: ActionHandler,
        monotonic: Callable[[], float],
    ) -> None:
        self._file, self._version, self._confirm_s = selection_file, version, confirm_s
        self._in_reach, self._confirmed, self._do = (
            check_reachability,
            record_confirmation,
            run_action,
        )
        self._monotonic = monotonic
        self._began = monotonic()
        found = self._load_selection()
        self._chosen = found.current if found else None
        self._noted = False
        self._trying = decide_duty(found, version) is TrialDuty.CONFIRM

    @property
    def on_trial(self) -> bool:
        """Return whether this agent has yet to confirm itself."""
        return self._trying

    def run_after_step(self) -> TrialVerdict:
        """Do what is due.

        Raises:
            AGENT_NOT_CONFIRMED: If its time is over.
        """
        found = self._load_selection()
        if found is not None and found.current not in (self._version, self._chosen):
            logger.info("agent %s was chosen: leaving the place to it", found.current)
            return TrialVerdict(should_exit=True)
        age = self._monotonic() - self._began
        match decide_duty(found, self._version):
            case TrialDuty.CONFIRM:
                return self._try_confirm(age)
            case TrialDuty.RESET_ATTEMPTS:
                if age < TIMEOUT_FACTOR * self._confirm_s:
                    return TrialVerdict(TIMEOUT_FACTOR * self._confirm_s - age)
                return self._run_action(DirectoryAction.RESET_ATTEMPTS)
            case TrialDuty.REVERT:
                logger.error("the new agent did not start; this one is chosen again")
                return self._run_action(DirectoryAction.REVERT)
            case _:
                return TrialVerdict()

    def uncount_start(self) -> None:
        """Take back the count of this start: an order to end says nothing against the agent.

        Without this, a machine that is switched off early a few times, or a person who restarts the
        service while they try settings, would have a good agent given up.
        """
        found = self._load_selection()
        if found is not None and found.current == self._version and found.attempts:
            self._run_action(DirectoryAction.UNCOUNT_START)

    def _try_confirm(self, age: float) -> TrialVerdict:
        if age < self._confirm_s:
            return TrialVerdict(self._confirm_s - age)
        try:
            ready = self._in_reach()
            if ready and not self._noted:
                self._confirmed()
                self._noted = True
        except UpdaterError as error:
            logger.warning("not confirmed: %s", error)
            ready = False
        if ready and self._run_action(DirectoryAction.CONFIRM).retry_after_s is None:
            self._trying = False
            logger.info("agent %s has confirmed itself", self._version)
            self._run_action(DirectoryAction.CLEAN_UP)
            # What waited for it begins now. The journal says so only where it was noted just now.
            return TrialVerdict(retry_after_s=0.0)
        # Also one that filled the disk of its own choice, and runs on.
        if age >= TIMEOUT_FACTOR * self._confirm_s:
            raise UpdaterError(
                AGENT_NOT_CONFIRMED,
                version=self._version,
                seconds=round(TIMEOUT_FACTOR * self._confirm_s),
            )
        return TrialVerdict(self._confirm_s)

    def _run_action(self, action: DirectoryAction) -> TrialVerdict:
        try:
            self._do(action)
        except UpdaterError as error:
            logger.warning("the choice of the agent stays as it is: %s", error)
            return TrialVerdict(self._confirm_s)
        return TrialVerdict()

    def _load_selection(self) -> AgentSelection | None:
        """Read the choice; a damaged one is the failsafe's to mend, at the next start."""
        try:
            return self._file.load()
        except UpdaterError as error:
            logger.warning("%s", error)
            return None
