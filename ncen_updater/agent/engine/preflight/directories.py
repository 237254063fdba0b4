"""May the agent write where it must, and rename where it must?"""

from __future__ import annotations

import os
from pathlib import Path

from ncen_updater.agent.engine.preflight.base import (
    PreflightContext,
    find_existing_parent,
    make_blocker,
    register_check,
)
from ncen_updater.common.disk_space import is_closed_here
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import OUTSIDE_UNIT


@register_check(60)
def check_directories(context: PreflightContext) -> tuple[Finding, ...]:
    """NU-6313, NU-6346 where the agent may not write, NU-6314 where a rename would cross a disk."""
    store = context.slots
    places = dict.fromkeys(map(find_existing_parent, context.config.written_directories()))
    findings = [
        _may_not_write(place) for place in places if not os.access(place, os.W_OK | os.X_OK)
    ]
    running = store.read_current()
    slots = find_existing_parent(store.slots_directory)
    if running is not None and store.get_slot_directory(running).is_dir():
        slot = store.get_slot_directory(running)
        if context.device(slot) != context.device(slots):
            findings.append(
                make_blocker(
                    6314,
                    N_("{slot} and {slots} are on different file systems"),
                    N_("Move all installed releases to one file system."),
                    slot=str(slot),
                    slots=str(slots),
                )
            )
    return tuple(findings)


def _may_not_write(place: Path) -> Finding:
    if is_closed_here(place):
        error = UpdaterError(OUTSIDE_UNIT, path=place)
        return Finding(error.code, Severity.CRITICAL, error.title_text, error.remedy_text)
    return make_blocker(
        6313,
        N_("Permission denied: {path} is not writable"),
        N_(
            "Give the user of ncen-updater write permission there, or correct the path in"
            " agent.toml."
        ),
        path=str(place),
    )
