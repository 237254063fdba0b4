"""Steps that fetch a release, build its slot and switch to it; only the switch needs downtime."""

from __future__ import annotations

from collections.abc import Mapping

from ncen_updater.agent.engine.site import Step, StepContext
from ncen_updater.agent.engine.slot_builder import build_slot, list_slot_trees
from ncen_updater.agent.model.change import StepName
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import RELEASE_NOT_ON_OFFER


def _is_slot_current(context: StepContext) -> bool:
    """Tell whether the slot was built from the archive that the feed offers.

    A rollback does not need the feed: there the record of the slot decides.
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
    """Record delta packs that failed; the archive was used instead."""
    for name in sorted(after.keys() - before.keys()):
        context.journal.record_event(
            "pack-rejected", context.change.id, pack=name, code=after[name]
        )


class FetchStep(Step):
    """Download and verify the release; a verified download is kept for the next attempt."""

    name = StepName.FETCH
    title = LazyText(N_("downloading and verifying the release"))

    def describe_do(self, context: StepContext) -> LazyText:
        """Return another title if the slot already exists, as in a rollback."""
        exists = context.target_version in context.site.slots.list_versions()
        return LazyText(N_("verifying the release")) if exists else self.title

    def do(self, context: StepContext) -> ChangeFacts:
        """Fetch the release, unless its slot exists and is unmodified.

        A modified slot stays until its replacement is built.
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
        source.download_smallest(offer, list_slot_trees(context.site.slots), context.progress)
        _record_rejected_packs(context, before, source.list_bad_packs(offer))
        return ChangeFacts(fetched=True)

    # No check here: the next step hashes all downloaded files again before it uses them.


class BuildSlotStep(Step):
    """Assemble the slot from the verified pack or archive."""

    name = StepName.BUILD_SLOT
    title = LazyText(N_("unpacking the release"))

    def describe_do(self, context: StepContext) -> LazyText | None:
        """See :meth:`Step.describe_do`."""
        return self.title if context.read_facts().fetched else None

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Record whether the slot existed before, so that a revert leaves it."""
        exists = context.target_version in context.site.slots.list_versions()
        return ChangeFacts(slot_existed=exists)

    def do(self, context: StepContext) -> ChangeFacts:
        """Build the slot, unless an unmodified one exists."""
        if not context.read_facts().fetched:
            return NO_FACTS
        offer = context.read_offer()
        if offer is None:
            raise UpdaterError(RELEASE_NOT_ON_OFFER, version=context.change.to_version)
        source = context.site.release_source
        slots = context.site.slots
        slot_trees = list_slot_trees(slots)
        download = source.find_smallest_download(offer, slot_trees)
        if download is None:
            raise UpdaterError(RELEASE_NOT_ON_OFFER, version=context.change.to_version)
        before = source.list_bad_packs(offer)
        try:
            built_from = build_slot(slots, source, offer, download, slot_trees, context.progress)
        finally:
            _record_rejected_packs(context, before, source.list_bad_packs(offer))
        return ChangeFacts(built_from=built_from)

    def is_done(self, context: StepContext) -> bool:
        """Return whether the slot is built and complete."""
        return _is_slot_current(context)

    def describe_undo(self, context: StepContext) -> LazyText | None:
        """See :meth:`Step.describe_undo`."""
        existed = context.read_facts().slot_existed
        return None if existed else LazyText(N_("removing the release"))

    def undo(self, context: StepContext) -> None:
        """Remove the slot, unless it was there before."""
        if not context.read_facts().slot_existed:
            context.site.slots.remove_slot(context.target_version)

    def is_undone(self, context: StepContext) -> bool:
        """Tell whether the slot is removed, or existed before the change."""
        existed = bool(context.read_facts().slot_existed)
        return existed or context.target_version not in context.site.slots.list_versions()


class SwitchStep(Step):
    """Switch two links while the application is stopped: the local overlay, then the code.

    The overlay is merged again from its current files, since somebody may have corrected a text
    after the preflight. It is switched first, so that the code never runs with the other release's
    overlay.
    """

    name = StepName.SWITCH
    title = LazyText(N_("switching the release"))

    def describe_do(self, context: StepContext) -> LazyText:
        """See :meth:`Step.describe_do`."""
        return LazyText(N_("switching to {version}"), {"version": context.target_version})

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Record the overlay in use; the undo switches back to it."""
        overlay = context.site.overlay
        return (
            NO_FACTS
            if overlay is None
            else ChangeFacts(overlay_before=overlay.read_current() or "")
        )

    def do(self, context: StepContext) -> ChangeFacts:
        """Merge the local overlay, select it, and point ``current`` to the new slot."""
        overlay = context.site.overlay
        if overlay is not None and context.read_facts().overlay_before is not None:
            overlay.switch_current(
                overlay.build_merged(context.origin_version, context.target_version)
            )
        context.site.slots.switch_current(context.target_version)
        return NO_FACTS

    def is_done(self, context: StepContext) -> bool:
        """Tell whether both links point to the new release."""
        overlay, before = context.site.overlay, context.read_facts().overlay_before
        if (
            overlay is not None
            and before is not None
            and not overlay.is_built_for(context.target_version)
        ):
            return False
        return context.site.slots.read_current() == context.target_version

    def describe_undo(self, context: StepContext) -> LazyText | None:
        """See :meth:`Step.describe_undo`."""
        return LazyText(N_("switching to {version}"), {"version": context.origin_version})

    def undo(self, context: StepContext) -> None:
        """Point ``current`` to the old slot, and select the previous overlay."""
        overlay, before = context.site.overlay, context.read_facts().overlay_before
        context.site.slots.switch_current(context.origin_version)
        if overlay is not None and before is not None:
            overlay.switch_current(before or None)

    def is_undone(self, context: StepContext) -> bool:
        """Tell whether both links point to their previous targets."""
        overlay, before = context.site.overlay, context.read_facts().overlay_before
        if overlay is not None and before is not None and (overlay.read_current() or "") != before:
            return False
        return context.site.slots.read_current() == context.origin_version
