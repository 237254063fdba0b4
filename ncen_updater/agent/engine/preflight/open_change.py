"""Is another change unfinished?"""

from __future__ import annotations

from ncen_updater.agent.engine.preflight.base import PreflightContext, make_blocker, register_check
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_


@register_check(10)
def check_open_change(context: PreflightContext) -> tuple[Finding, ...]:
    """NU-6316 where another change is not finished."""
    if context.open_change is None or context.open_change == context.change.id:
        return ()
    return (
        make_blocker(
            6316,
            N_("Change {change} is not finished"),
            N_("Run: ncen-updater resume"),
            change=context.open_change,
        ),
    )
