"""Fetch the release and build its slot: no downtime, may run days before."""

from __future__ import annotations

from ncen_updater.i18n import N_, Text
from ncen_updater.upgrade.context import StepContext
from ncen_updater.upgrade.errors import ReleaseNotOnOffer
from ncen_updater.upgrade.model import StepName
from ncen_updater.upgrade.steps.base import Facts, Step

__all__ = ["BuildSlot", "Fetch"]


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


class Fetch(Step):
    """Download and verify; what is verified stays for the next attempt."""

    name = StepName.FETCH
    title = Text(N_("downloading and verifying the release"))

    def do(self, context: StepContext) -> Facts:
        """Fetch unless the slot stands already, untouched since it was built.

        One that was touched stays until there is another to take its place.
        """
        slots = context.site.slots
        if _slot_is_ready(context) and not slots.verify(context.target_version, context.progress):
            return {"fetched": False}
        offer = context.offer()
        if offer is None:
            raise ReleaseNotOnOffer(version=context.change.to_version)
        context.site.source.fetch(offer, context.progress)
        return {"fetched": True}

    # No check of its own: the next step hashes the whole archive again before it is used.


class BuildSlot(Step):
    """Assemble the slot from the verified archive."""

    name = StepName.BUILD_SLOT
    title = Text(N_("building the slot of the release"))

    def prepare(self, context: StepContext) -> Facts:
        """Remember whether a slot was there before, so that going back leaves it."""
        return {"slot_was_there": context.target_version in context.site.slots.versions()}

    def do(self, context: StepContext) -> Facts:
        """Build unless the slot stands already, untouched."""
        if not context.facts().get("fetched"):
            return {}
        offer = context.offer()
        fetched = context.site.source.fetched(offer) if offer else None
        if fetched is None:
            raise ReleaseNotOnOffer(version=context.change.to_version)
        context.site.slots.build(fetched.document, fetched.tree, fetched.archive, context.progress)
        return {}

    def check(self, context: StepContext) -> bool:
        """The slot stands, whole."""
        return _slot_is_ready(context)

    def undo(self, context: StepContext) -> None:
        """Remove the slot, unless it was there before."""
        if not context.facts().get("slot_was_there"):
            context.site.slots.remove(context.target_version)

    def undone(self, context: StepContext) -> bool:
        """No slot of ours is left; one that was there before is not for us to judge."""
        was_there = bool(context.facts().get("slot_was_there"))
        return was_there or context.target_version not in context.site.slots.versions()
