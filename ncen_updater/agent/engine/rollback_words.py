"""The way back in one sentence: in the plan, the rehearsal, the dossier and the rollback. Light."""

from __future__ import annotations

from ncen_updater.agent.databases.ways import Back
from ncen_updater.common.i18n import N_, Text

__all__ = ["Back", "way_words"]

_WORDS = {
    Back.KEEPS: N_("A rollback from {origin} to {target} keeps every record."),
    Back.RESTORES: N_(
        "A rollback from {origin} to {target} restores the databases of before, and loses what was"
        " entered since; the loss is counted and asked for first."
    ),
    Back.DEPENDS: N_(
        "A rollback from {origin} to {target} restores the databases of before, and loses what was"
        " entered since, unless the rehearsal shows that the release changes nothing in them."
    ),
}


def way_words(back: Back, origin: object, target: object) -> Text:
    """Say the way back: one sentence for the plan, the dossier and the rollback itself; pure.

    Args:
        back: Which way.
        origin: The release that is left.
        target: The release that is gone back to.
    """
    return Text(_WORDS[back], {"origin": str(origin), "target": str(target)})
