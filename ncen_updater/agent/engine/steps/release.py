"""Fetch the release and build its slot: no downtime, may run days before."""

from __future__ import annotations

from collections.abc import Mapping

from ncen_updater.agent.engine.site import Step, StepContext
from ncen_updater.agent.engine.slot_builder import build_slot, list_slot_trees, name_download
from ncen_updater.agent.model.change import StepName
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import RELEASE_NOT_ON_OFFER


def _is_slot_current(context: StepContext) -> bool:
    """Tell whether the slot was built from the very archive that the feed offers.

    The rollback asks no feed: there the slot is what its own record says.
    """
    if context.target_version not in context.site.slots.list_versions():
        return False
    document = context.read_target()
    offer = context.read_offer()
    same = (
        not context.leads_to_newer
        or offer is None
        or offer.archive.sha256 == document.archive.sha256
    )
    return same and context.site.slots.is_built(context.target_version, document.tree_digest)


def _record_rejected_packs(
    context: StepContext, before: Mapping[str, str], after: Mapping[str, str]
) -> None:
    """Let the history say which packs failed; the archive took their place."""
    for name in sorted(after.keys() - before.keys()):
        context.journal.record_event(
            "pack-rejected", context.change.id, pack=name, code=after[name]
        )


class FetchStep(Step):
    """Download and verify; what is verified stays for the next attempt."""

    name = StepName.FETCH
    title = LazyText(N_("downloading and verifying the release"))

    def describe_do(self, context: StepContext) -> LazyText:
        """Nothing is downloaded where it is here already, as during the rollback."""
        here = context.target_version in context.site.slots.list_versions()
        return LazyText(N_("verifying the release")) if here else self.title

    def do(self, context: StepContext) -> ChangeFacts:
        """Fetch unless the slot stands already, untouched since it was built.

        One that was touched stays until there is another to take its place.
        """
        slots = context.site.slots
        if _is_slot_current(context) and not slots.verify_slot(
            context.target_version, context.progress
        ):
            return ChangeFacts(fetched=False)
        offer = context.read_offer()
        if offer is None:
            raise UpdaterError(RELEASE_NOT_ON_OFFER, version=context.change.to_version)
        source = context.site.release_source
        before = source.list_bad_packs(offer)
        fetched = source.download_smallest(
            offer, list_slot_trees(context.site.slots), context.progress
        )
        _record_rejected_packs(context, before, source.list_bad_packs(offer))
        return ChangeFacts(fetched=True, download_name=name_download(fetched))

    # No check of its own: the next step hashes all that was fetched again before it is used.


class BuildSlotStep(Step):
    """Assemble the slot from the verified pack or archive."""

    name = StepName.BUILD_SLOT
    title = LazyText(N_("unpacking the release"))

    def describe_do(self, context: StepContext) -> LazyText | None:
        """See :meth:`Step.describe_do`."""
        return self.title if context.read_facts().fetched else None

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Remember whether a slot was there before, so that a revert leaves it."""
        there = context.target_version in context.site.slots.list_versions()
        return ChangeFacts(slot_existed=there)

    def do(self, context: StepContext) -> ChangeFacts:
        """Build unless the slot stands already, untouched."""
        if not context.read_facts().fetched:
            return NO_FACTS
        offer = context.read_offer()
        if offer is None:
            raise UpdaterError(RELEASE_NOT_ON_OFFER, version=context.change.to_version)
        source = context.site.release_source
        slots = context.site.slots
        held = list_slot_trees(slots)
        fetched = source.find_smallest_download(offer, held)
        if fetched is None:
            raise UpdaterError(RELEASE_NOT_ON_OFFER, version=context.change.to_version)
        before = source.list_bad_packs(offer)
        try:
            built_from = build_slot(slots, source, offer, fetched, held, context.progress)
        finally:
            _record_rejected_packs(context, before, source.list_bad_packs(offer))
        return ChangeFacts(built_from=built_from)

    def is_done(self, context: StepContext) -> bool:
        """Return whether the slot is built and complete."""
        return _is_slot_current(context)

    def describe_undo(self, context: StepContext) -> LazyText | None:
        """See :meth:`Step.describe_undo`."""
        retained = context.read_facts().slot_existed
        return None if retained else LazyText(N_("removing the release"))

    def undo(self, context: StepContext) -> None:
        """Remove the slot, unless it was there before."""
        if not context.read_facts().slot_existed:
            context.site.slots.remove_slot(context.target_version)

    def is_undone(self, context: StepContext) -> bool:
        """No slot of ours is left; one that was there before is not for us to judge."""
        was_there = bool(context.read_facts().slot_existed)
        return was_there or context.target_version not in context.site.slots.list_versions()


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
        """Point ``current`` at the old slot, and select its overlay again."""
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
