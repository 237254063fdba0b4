"""Definition of a step: its effect, the check that proves it, and its revert, side by side.

The runner records the intent with :meth:`Step.prepare`'s facts, calls :meth:`Step.do`, accepts it
only when :meth:`Step.is_done` holds, and records that. A step found half-done after a crash is
undone (before the commit) or done again (after it), so all three are idempotent.
"""

from __future__ import annotations

import abc
from typing import ClassVar

from ncen_updater.agent.engine.site import StepContext
from ncen_updater.agent.model.change import StepName
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.common.i18n import LazyText


class Step(abc.ABC):
    """One part of a change.

    Attributes:
        name: Its name in the journal.
        title: For people, while it runs.
    """

    name: ClassVar[StepName]
    title: ClassVar[LazyText]

    def describe_do(self, context: StepContext) -> LazyText | None:
        """Describe what :meth:`do` does here, for people; None where it does nothing."""
        return self.title

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Decide, without any effect, what the journal must know before the effect begins."""
        return NO_FACTS

    @abc.abstractmethod
    def do(self, context: StepContext) -> ChangeFacts:
        """Bring about the effect; return facts worth keeping. Raises when it cannot."""

    def is_done(self, context: StepContext) -> bool:
        """Whether the effect is there. A step without a lasting effect has nothing to look at."""
        return True

    def describe_undo(self, context: StepContext) -> LazyText | None:
        """Describe what :meth:`undo` does, for people; None where it does nothing."""
        return None

    def undo(self, context: StepContext) -> None:  # noqa: B027 - some have nothing to undo
        """Go back exactly to what was before, from any part of the effect."""

    def is_undone(self, context: StepContext) -> bool:
        """Whether nothing of the effect is left."""
        return True
