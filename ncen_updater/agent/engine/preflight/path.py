"""May the release follow the one that runs now?"""

from __future__ import annotations

from ncen_updater.agent.engine.preflight.base import Context, check, strict
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_


@check(30, only_forward=True)
def check_path(context: Context) -> tuple[Finding, ...]:
    """NU-6305 where the release cannot follow the one that runs now."""
    manifest = context.document.manifest
    running = context.store.current()
    if running is not None and manifest.accepts(running):
        return ()
    return (
        strict(
            6305,
            N_("Release {release} can be installed over {accepted}; this site runs {running}."),
            N_("Install the releases between first; 'ncen-updater plan' shows the way."),
            release=manifest.version,
            accepted=manifest.upgrade_from,
            running=str(running) if running else "nothing",
        ),
    )
