"""Can the application's rights in the databases become the agent's, and does it keep its own?"""

from __future__ import annotations

from ncen_updater.agent.engine.preflight.base import PreflightContext, register_check
from ncen_updater.common.findings import Finding


@register_check(141, upgrade_only=True)
def check_role_privileges(context: PreflightContext) -> tuple[Finding, ...]:
    """What the engine says of roles and logins, under the engine's own codes."""
    return context.engine.find_exposures()
