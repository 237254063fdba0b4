"""May the release follow the one that runs now?"""

from __future__ import annotations

from ncen_updater.agent.engine.preflight.base import PreflightContext, make_blocker, register_check
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_


@register_check(30, upgrade_only=True)
def check_upgrade_path(context: PreflightContext) -> tuple[Finding, ...]:
    """NU-6305 where the release cannot follow the one that runs now."""
    manifest = context.document.manifest
    running = context.slots.read_current()
    if running is not None and manifest.accepts_version(running):
        return ()
    return (
        make_blocker(
            6305,
            N_("Release {release} upgrades {accepted}; {running} is installed"),
            N_("Install the intermediate releases first. Run: ncen-updater plan"),
            release=manifest.version,
            accepted=manifest.upgrade_from,
            running=str(running) if running else "nothing",
        ),
    )
