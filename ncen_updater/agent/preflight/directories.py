"""May the agent write where it must, and rename where it must?"""

from __future__ import annotations

import os

from ncen_updater.agent.preflight.base import Context, check, existing, strict
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_

__all__ = ["check_directories"]


@check(60)
def check_directories(context: Context) -> tuple[Finding, ...]:
    """NU-6313 where the agent may not write, NU-6314 where a rename would cross a disk."""
    paths = context.config.paths
    store = context.store
    state = paths.resolve(paths.state)
    door = paths.resolve(context.config.application.door_file).parent
    findings = [
        strict(
            6313,
            N_("The agent may not write in {path}."),
            N_("Give the agent's user the right to write there, or correct the configuration."),
            path=str(directory),
        )
        for directory in dict.fromkeys((state, store.directory, store.link.parent, door))
        if not os.access(existing(directory), os.W_OK | os.X_OK)
    ]
    running = store.current()
    slots = existing(store.directory)
    if running is not None and store.path(running).is_dir():
        slot = store.path(running)
        if context.device(slot) != context.device(slots):
            findings.append(
                strict(
                    6314,
                    N_("{slot} is on another disk than {slots}; slots are put in place by name."),
                    N_("Keep all slots on one disk; mount the directory of the slots as a whole."),
                    slot=str(slot),
                    slots=str(slots),
                )
            )
    return tuple(findings)
