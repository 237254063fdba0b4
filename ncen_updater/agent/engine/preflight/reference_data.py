"""Which rows have a code that the release has no new place for?

Asked of the live databases, which a fence closes; so before the stop only.
"""

from __future__ import annotations

from ncen_updater.agent.adapters.databases.base import Live
from ncen_updater.agent.adapters.databases.migrations.checks import question
from ncen_updater.agent.engine.preflight.base import Context, advisory, check, strict
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_

SHOWN = 20


@check(170, only_forward=True)
def check_reference_data(context: Context) -> tuple[Finding, ...]:
    """NU-6323 where rows have a code without a target; strict or advisory as the release says."""
    findings = []
    for item in context.document.manifest.reference_maps:
        rows = question(context.engine, Live(item.database), item.unmapped)
        if not rows:
            continue
        counts = {str(row[0]): _number(row) for row in rows}
        make = strict if item.strict else advisory
        shown = ", ".join(f"{code}: {count}" for code, count in list(counts.items())[:SHOWN])
        findings.append(
            make(
                6323,
                N_("{name}: {count} records have a code without a new one ({codes})."),
                N_("Ask who owns the data to correct them, or let the release keep them aside."),
                name=item.name,
                count=sum(counts.values()),
                codes=shown if len(counts) <= SHOWN else f"{shown}, ...",
                counts=counts,
            )
        )
    return tuple(findings)


def _number(row: tuple[object, ...]) -> int:
    value = row[1] if len(row) > 1 else 1
    return value if isinstance(value, int) else int(str(value))
