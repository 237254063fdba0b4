"""Switch to the slot of the target release, with what the country owns merged for it."""

from __future__ import annotations

from ncen_updater.agent.engine.site import StepContext
from ncen_updater.agent.engine.steps.step import Step
from ncen_updater.agent.model.change import StepName
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.common.i18n import N_, LazyText


class SwitchStep(Step):
    """Two renames of links, while the application stands still: the country's layer, then the code.

    The layer is merged here once more, on what lies there now: somebody may have mended a text
    since the preflight. It goes first, so that the code never runs beside the other release's.
    """

    name = StepName.SWITCH
    title = LazyText(N_("switching to the new release"))

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Keep which layer is in use: the undo is the same link."""
        layer = context.site.overlay
        return NO_FACTS if layer is None else ChangeFacts(overlay_before=layer.read_current() or "")

    def do(self, context: StepContext) -> ChangeFacts:
        """Merge what the country owns, choose it, and point ``current`` at the new slot."""
        layer = context.site.overlay
        if layer is not None and context.read_facts().overlay_before is not None:
            layer.switch_current(layer.build_merged(context.origin_version, context.target_version))
        context.site.slots.switch_current(context.target_version)
        return NO_FACTS

    def is_done(self, context: StepContext) -> bool:
        """Both links lead to the new release."""
        layer, before = context.site.overlay, context.read_facts().overlay_before
        if (
            layer is not None
            and before is not None
            and not layer.is_built_for(context.target_version)
        ):
            return False
        return context.site.slots.read_current() == context.target_version

    def describe_undo(self, context: StepContext) -> LazyText | None:
        """See :meth:`Step.describe_undo`."""
        return LazyText(N_("switching to the previous release"))

    def undo(self, context: StepContext) -> None:
        """Point ``current`` at the old slot, and choose the layer of before."""
        layer, before = context.site.overlay, context.read_facts().overlay_before
        context.site.slots.switch_current(context.origin_version)
        if layer is not None and before is not None:
            layer.switch_current(before or None)

    def is_undone(self, context: StepContext) -> bool:
        """Both links lead to what was there before."""
        layer, before = context.site.overlay, context.read_facts().overlay_before
        if layer is not None and before is not None and (layer.read_current() or "") != before:
            return False
        return context.site.slots.read_current() == context.origin_version
