"""Are the databases as the journal has them?"""

from __future__ import annotations

from ncen_updater.agent.engine.preflight.base import Context, check
from ncen_updater.common.findings import Finding


@check(155, only_forward=True)
def check_schemas(context: Context) -> tuple[Finding, ...]:
    """NU-6106 where a schema was changed since it was recorded; NU-6143 where that was foreseen."""
    return tuple(context.schemas())
