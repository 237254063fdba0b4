"""Is the clock behind what was signed?"""

from __future__ import annotations

from ncen_updater.agent.engine.preflight.base import PreflightContext, register_check
from ncen_updater.agent.policy.clock import clock_findings
from ncen_updater.common.findings import Finding


@register_check(50, upgrade_only=True)
def check_clock(context: PreflightContext) -> tuple[Finding, ...]:
    """NU-6311 where the clock is behind what was signed, NU-6312 where it is far ahead."""
    zone = context.config.service.get_timezone()
    return clock_findings(context.now, context.newest_signed_time, zone)
