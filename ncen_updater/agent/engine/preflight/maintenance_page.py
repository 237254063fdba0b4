"""Does somebody else keep users out?"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ncen_updater.agent.adapters.application.base import Application
from ncen_updater.agent.engine.preflight.base import PreflightContext, make_blocker, register_check
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_


@register_check(20)
def check_maintenance_page(context: PreflightContext) -> tuple[Finding, ...]:
    """NU-6336 where the door was closed by a change that this journal does not know.

    Two agents with a journal each may look after one application by mistake. Whoever came second
    would take the first one's door for one that people closed, and leave it closed at its end.
    """
    maintenance_file = context.config.application.maintenance_file
    return find_unknown_maintenance(context.application, context.known_changes, maintenance_file)


def find_unknown_maintenance(
    application: Application, changes: Collection[str], maintenance_file: Path
) -> tuple[Finding, ...]:
    """Say so where the door was closed by a change that is not among those of the journal."""
    other = application.read_maintenance_change()
    if not other or other in changes:
        return ()
    return (
        make_blocker(
            6336,
            N_("Maintenance page shown by change {change}, unknown to this journal"),
            N_("If no other ncen-updater is running, run: rm {path}"),
            change=other,
            path=str(maintenance_file),
        ),
    )
