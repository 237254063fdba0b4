"""Trial of a new agent, seen from the agent: when it may confirm itself, and when it gives up.

A new agent confirms itself after the service has completed a cycle and run for a minimum time, and
a worker process could read journal, metadata and databases. Until then the service only completes
an open change. An agent that cannot confirm itself within ten times the minimum time exits, so that
the failsafe counts a failed start. For crashes see docs/explanation/crash-safety.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from ncen_updater.agent.self_update.agent_directory import ActionHandler, DirectoryAction
from ncen_updater.agent.storage.agent_selection import (
    AgentSelection,
    AgentSelectionFile,
    TrialState,
)
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import AGENT_NOT_CONFIRMED

logger = logging.getLogger(__name__)

#: Multiple of the minimum time after which a new agent gives up, and after which the count of
#: failed starts of a confirmed agent is reset.
TIMEOUT_FACTOR = 10


def decide_duty(selection: AgentSelection | None, version: str) -> DirectoryAction | None:
    """Return the action that an agent of this version must perform in its directory. Pure."""
    if selection is None:
        return None
    on_trial = selection.state is TrialState.ON_TRIAL
    if selection.current == version:
        if on_trial:
            return DirectoryAction.CONFIRM
        return DirectoryAction.RESET_ATTEMPTS if selection.attempts else None
    # The failsafe returned to this version but could not write the file.
    return DirectoryAction.REVERT if on_trial and selection.previous == version else None


@dataclass(frozen=True)
class TrialVerdict:
    """Instruction to the service after a step.

    Attributes:
        retry_after_s: Maximum time until the next call, in seconds; None for any time.
        should_exit: Whether the service must exit because another agent was selected.
    """

    retry_after_s: float | None = None
    should_exit: bool = False


class AgentTrial:
    """Trial logic that the service calls after each of its steps.

    Args:
        selection_file: The selection.
        version: The running version.
        confirm_s: The minimum time, in seconds.
        check_reachability: Checks in a worker process whether journal, metadata and databases can
            be read.
        record_confirmation: Called once before the confirmation is written; records it in the
            journal.
        run_action: Performs actions in the agent's directory.
        monotonic: A monotonic clock.
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
        self._check_reachability, self._record_confirmation, self._perform = (
            check_reachability,
            record_confirmation,
            run_action,
        )
        self._monotonic = monotonic
        self._started = monotonic()
        found = self._load_selection()
        self._selected = found.current if found else None
        self._is_recorded = False
        self._is_on_trial = decide_duty(found, version) is DirectoryAction.CONFIRM

    @property
    def on_trial(self) -> bool:
        """Return whether this agent is still on trial."""
        return self._is_on_trial

    def run_after_step(self) -> TrialVerdict:
        """Perform the current duty.

        Raises:
            AGENT_NOT_CONFIRMED: If the trial has timed out.
        """
        found = self._load_selection()
        if found is not None and found.current not in (self._version, self._selected):
            logger.info("agent %s was selected; this agent exits", found.current)
            return TrialVerdict(should_exit=True)
        age = self._monotonic() - self._started
        duty = decide_duty(found, self._version)
        if self._is_on_trial and found is None:  # otherwise the trial would never end
            duty = DirectoryAction.CONFIRM
        if self._is_on_trial and duty is not DirectoryAction.CONFIRM:
            return self._end_trial()  # confirmed, although the answer was lost
        match duty:
            case DirectoryAction.CONFIRM:
                return self._try_confirm(age)
            case DirectoryAction.RESET_ATTEMPTS:
                if age < TIMEOUT_FACTOR * self._confirm_s:
                    return TrialVerdict(TIMEOUT_FACTOR * self._confirm_s - age)
                return self._run_action(DirectoryAction.RESET_ATTEMPTS)
            case DirectoryAction.REVERT:
                logger.error("the new agent did not start; selecting this agent again")
                return self._run_action(DirectoryAction.REVERT)
            case _:
                return TrialVerdict()

    def uncount_start(self) -> None:
        """Undo the count of this start: a requested stop does not indicate a defect of the agent.

        Otherwise a machine that is shut down early a few times, or a user who restarts the service
        while editing settings, would cause a working agent to be given up.
        """
        found = self._load_selection()
        if found is not None and found.current == self._version and found.attempts:
            self._run_action(DirectoryAction.UNCOUNT_START)

    def _try_confirm(self, age: float) -> TrialVerdict:
        if age < self._confirm_s:
            return TrialVerdict(self._confirm_s - age)
        try:
            ready = self._check_reachability()
            if ready and not self._is_recorded:
                self._record_confirmation()
                self._is_recorded = True
        except UpdaterError as error:
            logger.warning("not confirmed: %s", error)
            ready = False
        if ready and self._run_action(DirectoryAction.CONFIRM).retry_after_s is None:
            return self._end_trial()
        # Applies also to an agent that fills its own disk but continues to run.
        if age >= TIMEOUT_FACTOR * self._confirm_s:
            raise UpdaterError(
                AGENT_NOT_CONFIRMED,
                version=self._version,
                seconds=round(TIMEOUT_FACTOR * self._confirm_s),
            )
        return TrialVerdict(self._confirm_s)

    def _end_trial(self) -> TrialVerdict:
        self._is_on_trial = False
        logger.info("agent %s has confirmed itself", self._version)
        self._run_action(DirectoryAction.CLEAN_UP)
        # Operations that waited for the confirmation start now.
        return TrialVerdict(retry_after_s=0.0)

    def _run_action(self, action: DirectoryAction) -> TrialVerdict:
        try:
            self._perform(action)
        except UpdaterError as error:
            logger.warning("the selected agent is unchanged: %s", error)
            return TrialVerdict(self._confirm_s)
        return TrialVerdict()

    def _load_selection(self) -> AgentSelection | None:
        """Return the selection; the failsafe repairs a damaged one at the next start."""
        try:
            return self._file.load()
        except UpdaterError as error:
            logger.warning("%s", error)
            return None
