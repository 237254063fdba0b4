"""The steps of a change as people read them, in the console and on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ncen_updater.common.i18n import N_, translate

#: By the name that the journal has; each follows "it failed while ...", and a number of seconds.
STEP_LABELS: Final[Mapping[str, str]] = {
    "fetch": N_("downloading and verifying the release"),
    "build-slot": N_("unpacking the release"),
    "preflight": N_("running preflight checks"),
    "maintenance-on": N_("showing the maintenance page"),
    "stop": N_("stopping the application"),
    "fence": N_("closing the databases to connections"),
    "final-preflight": N_("rerunning preflight checks on the databases"),
    "copy": N_("copying the databases"),
    "migrate": N_("migrating the databases"),
    "cut-over": N_("switching to the migrated databases"),
    "switch": N_("switching to the new release"),
    "start": N_("starting the application"),
    "health": N_("waiting for the health check"),
    "commit": N_("committing the change"),
    "maintenance-off": N_("removing the maintenance page"),
    "soak": N_("soak period"),
    "prune": N_("pruning"),
}


#: What a step does on the way back, where that is something else: that asks no feed.
_ROLLBACK_STEP_LABELS: Final[Mapping[str, str]] = {"fetch": N_("verifying the release")}


def get_step_label(name: str, kind: str) -> str:
    """Return what a step does, in the words of the source; a name of a newer journal as it stands.

    Args:
        name: As the journal has it.
        kind: Of the change: ``upgrade`` or ``rollback``.
    """
    back = _ROLLBACK_STEP_LABELS if kind == "rollback" else {}
    return back.get(name) or STEP_LABELS.get(name, name)


def translate_step_label(name: str, kind: str, language: str) -> str:
    """Return what a step does, in a language.

    Args:
        name: As the journal has it.
        kind: Of the change: ``upgrade`` or ``rollback``.
        language: Of the session.
    """
    return translate(get_step_label(name, kind), language)
