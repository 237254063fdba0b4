"""What blocks in the database server?"""

from __future__ import annotations

from ncen_updater.agent.engine.preflight.base import PreflightContext, register_check
from ncen_updater.agent.engine.preflight.space import measure_needed_bytes
from ncen_updater.common.findings import Finding


@register_check(140)
def check_database_blockers(context: PreflightContext) -> tuple[Finding, ...]:
    """What the engine says of the server, under the engine's own codes."""
    return context.engine.find_blockers(
        context.change,
        application_stopped=False,
        other_bytes=lambda path: measure_needed_bytes(context, path),
    )
