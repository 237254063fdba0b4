"""Are the databases as the journal has them?"""

from __future__ import annotations

from ncen_updater.agent.engine.preflight.base import PreflightContext, register_check
from ncen_updater.common.findings import Finding


@register_check(155, upgrade_only=True)
def check_schemas(context: PreflightContext) -> tuple[Finding, ...]:
    """NU-6106 where a schema was changed since it was recorded; NU-6143 where that was foreseen."""
    return tuple(context.schemas())
