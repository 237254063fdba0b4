"""Switch to the slot of the target release, with what the country owns merged for it."""

from __future__ import annotations

from ncen_updater.agent.engine.site import StepContext
from ncen_updater.agent.engine.steps.base import Step
from ncen_updater.agent.model.change import StepName
from ncen_updater.agent.model.facts import NO_FACTS, ChangeFacts
from ncen_updater.common.i18n import N_, Text


class Switch(Step):
    """Two renames of links, while the application stands still: the country's layer, then the code.

    The layer is merged here once more, on what lies there now: somebody may have mended a text
    since the preflight. It goes first, so that the code never runs beside the other release's.
    """

    name = StepName.SWITCH
    title = Text(N_("switching the code"))

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Keep which layer is in use: the undo is the same link."""
        layer = context.site.overlay
        return NO_FACTS if layer is None else ChangeFacts(overlay_before=layer.chosen() or "")

    def do(self, context: StepContext) -> ChangeFacts:
        """Merge what the country owns, choose it, and point ``current`` at the new slot."""
        layer = context.site.overlay
        if layer is not None and context.facts().overlay_before is not None:
            layer.choose(layer.build(context.origin_version, context.target_version))
        context.site.slots.switch(context.target_version)
        return NO_FACTS

    def check(self, context: StepContext) -> bool:
        """Both links lead to the new release."""
        layer, before = context.site.overlay, context.facts().overlay_before
        if layer is not None and before is not None and not layer.is_of(context.target_version):
            return False
        return context.site.slots.current() == context.target_version

    def undoing(self, context: StepContext) -> Text | None:
        """See :meth:`Step.undoing`."""
        return Text(N_("switching the code back"))

    def undo(self, context: StepContext) -> None:
        """Point ``current`` at the old slot, and choose the layer of before."""
        layer, before = context.site.overlay, context.facts().overlay_before
        context.site.slots.switch(context.origin_version)
        if layer is not None and before is not None:
            layer.choose(before or None)

    def undone(self, context: StepContext) -> bool:
        """Both links lead to what was there before."""
        layer, before = context.site.overlay, context.facts().overlay_before
        if layer is not None and before is not None and (layer.chosen() or "") != before:
            return False
        return context.site.slots.current() == context.origin_version
