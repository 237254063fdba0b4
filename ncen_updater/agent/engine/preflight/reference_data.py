"""Which rows have a code that the release has no new place for?

Asked of the live databases, which a fence closes; so before the stop only.
"""

from __future__ import annotations

from ncen_updater.agent.adapters.databases.base import LiveDatabase
from ncen_updater.agent.adapters.databases.migrations.domain_checks import run_release_query
from ncen_updater.agent.engine.preflight.base import (
    PreflightContext,
    make_advisory,
    make_blocker,
    register_check,
)
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_

MAX_CODES_SHOWN = 20


@register_check(170, upgrade_only=True)
def check_reference_data(context: PreflightContext) -> tuple[Finding, ...]:
    """NU-6323 where rows have a code without a target; strict or advisory as the release says."""
    findings = []
    for item in context.document.manifest.reference_maps:
        rows = run_release_query(context.engine, LiveDatabase(item.database), item.unmapped)
        if not rows:
            continue
        counts = {str(row[0]): _parse_row_count(row) for row in rows}
        make = make_blocker if item.strict else make_advisory
        shown = ", ".join(
            f"{code}: {count}" for code, count in list(counts.items())[:MAX_CODES_SHOWN]
        )
        findings.append(
            make(
                6323,
                N_("Records of {name} without a new code: {count} ({codes})"),
                N_("Ask the owner of the data to correct them before the upgrade."),
                name=item.name,
                count=sum(counts.values()),
                codes=shown if len(counts) <= MAX_CODES_SHOWN else f"{shown}, ...",
                counts=counts,
            )
        )
    return tuple(findings)


def _parse_row_count(row: tuple[object, ...]) -> int:
    value = row[1] if len(row) > 1 else 1
    return value if isinstance(value, int) else int(str(value))
