"""Does the system wait for a restart?"""

from __future__ import annotations

from ncen_updater.agent.engine.preflight.base import PreflightContext, make_advisory, register_check
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_


@register_check(190)
def check_reboot(context: PreflightContext) -> tuple[Finding, ...]:
    """NU-6315 where the system waits for a restart. Advisory."""
    if not context.reboot_file.exists():
        return ()
    return (
        make_advisory(
            6315,
            N_("System restart pending; it could interrupt the upgrade"),
            N_("Restart the machine before the upgrade."),
        ),
    )
