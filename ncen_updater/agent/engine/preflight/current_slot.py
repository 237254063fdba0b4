"""Is the release that runs now whole? It is the way back."""

from __future__ import annotations

from ncen_updater.agent.engine.preflight.base import PreflightContext, make_blocker, register_check
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_

MAX_FILES_SHOWN = 5


@register_check(110, upgrade_only=True)
def check_current_slot(context: PreflightContext) -> tuple[Finding, ...]:
    """NU-6306 where no slot is in use, NU-6307 where files of it were changed."""
    running = context.slots.read_current()
    if running is None:
        return (
            make_blocker(
                6306,
                N_("No release selected by {link}; rollback impossible"),
                N_("Run: ncen-updater adopt VERSION"),
                link=str(context.slots.current_link),
            ),
        )
    differences = context.slots.verify_slot(running, context.progress, full=context.verify_slot)
    if not differences:
        return ()
    return (
        make_blocker(
            6307,
            N_("Modified files in release {version}: {count} ({files})"),
            N_("Restore the released files; move local changes to the local overlay."),
            version=str(running),
            count=len(differences),
            files=", ".join(str(item) for item in differences[:MAX_FILES_SHOWN]),
        ),
    )
