"""Fetch the release and build its slot: no downtime, may run days before."""

from __future__ import annotations

from collections.abc import Mapping

from ncen_updater.agent.engine.build_slot import build, held_trees, name_of
from ncen_updater.agent.engine.site import StepContext
from ncen_updater.agent.engine.steps.base import Step
from ncen_updater.agent.model.change import StepName
from ncen_updater.agent.model.facts import NO_FACTS, ChangeFacts
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import RELEASE_NOT_ON_OFFER


def _slot_is_ready(context: StepContext) -> bool:
    """Whether the slot was built from the very archive that the feed offers.

    The way back asks no feed: there the slot is what its own record says.
    """
    if context.target_version not in context.site.slots.versions():
        return False
    document = context.target()
    offer = context.offer()
    same = not context.leads_up or offer is None or offer.archive.sha256 == document.archive.sha256
    return same and context.site.slots.built(context.target_version, document.tree_digest)


def _note_refusals(
    context: StepContext, before: Mapping[str, str], after: Mapping[str, str]
) -> None:
    """Let the history say which packs failed; the archive took their place."""
    for name in sorted(after.keys() - before.keys()):
        context.journal.note("pack-refused", context.change.id, pack=name, code=after[name])


class Fetch(Step):
    """Download and verify; what is verified stays for the next attempt."""

    name = StepName.FETCH
    title = Text(N_("downloading and verifying the release"))

    def doing(self, context: StepContext) -> Text:
        """Nothing is downloaded where it is here already, as on the way back."""
        here = context.target_version in context.site.slots.versions()
        return Text(N_("verifying the release")) if here else self.title

    def do(self, context: StepContext) -> ChangeFacts:
        """Fetch unless the slot stands already, untouched since it was built.

        One that was touched stays until there is another to take its place.
        """
        slots = context.site.slots
        if _slot_is_ready(context) and not slots.verify(context.target_version, context.progress):
            return ChangeFacts(fetched=False)
        offer = context.offer()
        if offer is None:
            raise UpdaterError(RELEASE_NOT_ON_OFFER, version=context.change.to_version)
        source = context.site.source
        before = source.refused_packs(offer)
        fetched = source.fetch_smallest(offer, held_trees(context.site.slots), context.progress)
        _note_refusals(context, before, source.refused_packs(offer))
        return ChangeFacts(fetched=True, fetched_as=name_of(fetched))

    # No check of its own: the next step hashes all that was fetched again before it is used.


class BuildSlot(Step):
    """Assemble the slot from the verified pack or archive."""

    name = StepName.BUILD_SLOT
    title = Text(N_("building the slot of the release"))

    def doing(self, context: StepContext) -> Text | None:
        """See :meth:`Step.doing`."""
        return self.title if context.facts().fetched else None

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Remember whether a slot was there before, so that going back leaves it."""
        there = context.target_version in context.site.slots.versions()
        return ChangeFacts(slot_was_there=there)

    def do(self, context: StepContext) -> ChangeFacts:
        """Build unless the slot stands already, untouched."""
        if not context.facts().fetched:
            return NO_FACTS
        offer = context.offer()
        if offer is None:
            raise UpdaterError(RELEASE_NOT_ON_OFFER, version=context.change.to_version)
        source = context.site.source
        slots = context.site.slots
        held = held_trees(slots)
        fetched = source.fetched_smallest(offer, held)
        if fetched is None:
            raise UpdaterError(RELEASE_NOT_ON_OFFER, version=context.change.to_version)
        before = source.refused_packs(offer)
        try:
            built_from = build(slots, source, offer, fetched, held, context.progress)
        finally:
            _note_refusals(context, before, source.refused_packs(offer))
        return ChangeFacts(built_from=built_from)

    def check(self, context: StepContext) -> bool:
        """The slot stands, whole."""
        return _slot_is_ready(context)

    def undoing(self, context: StepContext) -> Text | None:
        """See :meth:`Step.undoing`."""
        kept = context.facts().slot_was_there
        return None if kept else Text(N_("removing the slot of the release"))

    def undo(self, context: StepContext) -> None:
        """Remove the slot, unless it was there before."""
        if not context.facts().slot_was_there:
            context.site.slots.remove(context.target_version)

    def undone(self, context: StepContext) -> bool:
        """No slot of ours is left; one that was there before is not for us to judge."""
        was_there = bool(context.facts().slot_was_there)
        return was_there or context.target_version not in context.site.slots.versions()
