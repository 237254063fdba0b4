"""Switch ``current`` to the slot of the target release."""

from __future__ import annotations

from ncen_updater.agent.engine.steps.base import Step
from ncen_updater.agent.journal.change import StepName
from ncen_updater.agent.journal.facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.site import StepContext
from ncen_updater.common.i18n import N_, Text

__all__ = ["Switch"]


class Switch(Step):
    """One rename of one link."""

    name = StepName.SWITCH
    title = Text(N_("switching the code"))

    def do(self, context: StepContext) -> ChangeFacts:
        """Point ``current`` at the new slot."""
        context.site.slots.switch(context.target_version)
        return NO_FACTS

    def check(self, context: StepContext) -> bool:
        """``current`` points at the new slot."""
        return context.site.slots.current() == context.target_version

    def undo(self, context: StepContext) -> None:
        """Point ``current`` at the old slot."""
        context.site.slots.switch(context.origin_version)

    def undone(self, context: StepContext) -> bool:
        """``current`` points at the old slot."""
        return context.site.slots.current() == context.origin_version
