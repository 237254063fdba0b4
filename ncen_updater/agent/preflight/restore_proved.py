"""Was it proved that the dump which is to be the way back can be restored?

Asked of the live databases, which a fence closes; so before the stop only.
"""

from __future__ import annotations

from ncen_updater.agent.databases.base import Live, Strategy
from ncen_updater.agent.policy.proof import why_unproved
from ncen_updater.agent.preflight.base import Context, check, strict
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_


@check(150, only_forward=True)
def check_restore_proved(context: Context) -> tuple[Finding, ...]:
    """NU-4161 where a change in place would have a dump as its way back that nobody tried."""
    change = context.change
    if change.strategy is not Strategy.IN_PLACE or change.source is not None:
        return ()
    engine = context.engine
    basis = engine.proof_basis()
    if basis is None:
        return ()
    schemas = {name: engine.fingerprint(Live(name)) for name in engine.names}
    longest = context.longest_proof
    reason = why_unproved(context.proof, basis, schemas, context.now, longest)
    if reason is None:
        return ()
    return (
        strict(
            4161,
            N_(
                "A dump is to be the way back, and that it can be restored is not proved: {reason}."
            ),
            N_(
                "Run 'ncen-updater rehearse', which restores one while officers work; or choose"
                ' way_back = "copy".'
            ),
            reason=reason,
        ),
    )
