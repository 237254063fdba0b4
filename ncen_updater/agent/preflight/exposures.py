"""Can the application's rights in the databases become the agent's, and does it keep its own?"""

from __future__ import annotations

from ncen_updater.agent.preflight.base import Context, check
from ncen_updater.common.findings import Finding

__all__ = ["check_exposures", "check_logins"]


@check(141, only_forward=True)
def check_exposures(context: Context) -> tuple[Finding, ...]:
    """What the engine says of roles, under the engine's own codes."""
    return context.engine.exposures()


@check(142, only_forward=True)
def check_logins(context: Context) -> tuple[Finding, ...]:
    """NU-4170 where the server would not let the application in again after its next start."""
    context.engine.require_application_logins()
    return ()
