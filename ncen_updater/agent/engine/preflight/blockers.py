"""What blocks in the database server?"""

from __future__ import annotations

from ncen_updater.agent.engine.preflight.base import Context, check
from ncen_updater.common.findings import Finding


@check(140)
def check_blockers(context: Context) -> tuple[Finding, ...]:
    """What the engine says of the server, under the engine's own codes."""
    return context.engine.blockers(context.change, final=False)
