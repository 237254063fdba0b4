"""What did earlier changes leave?"""

from __future__ import annotations

from collections import defaultdict

from ncen_updater.agent.adapters.databases.base import DatabaseRole
from ncen_updater.agent.engine.preflight.base import (
    PreflightContext,
    make_advisory,
    make_info,
    register_check,
)
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_


@register_check(180)
def check_leftovers(context: PreflightContext) -> tuple[Finding, ...]:
    """NU-6317 for pieces of interrupted changes; NU-6318 (a fact) for databases that are kept."""
    candidates: dict[str, list[str]] = defaultdict(list)
    previous: dict[str, list[str]] = defaultdict(list)
    for change, role, name in context.engine.list_leftovers():
        if role is not DatabaseRole.CANDIDATE:
            if change != context.change.id:
                previous[change].append(name)
        # Those of a change that is not finished are not left behind: it needs or removes them.
        # Those that are no change's may be a rehearsal's that is at work.
        elif change in context.known_changes - {context.change.id, context.open_change}:
            candidates[change].append(name)
    findings = [
        make_advisory(
            6317,
            N_("Leftover copies of change {change}: {names}"),
            N_("They only use disk space. Run: ncen-updater doctor"),
            change=change,
            names=", ".join(sorted(names)),
        )
        for change, names in sorted(candidates.items())
    ]
    target = context.document.manifest.version
    findings += [
        make_advisory(
            6317,
            N_("Leftover of an earlier change: {path}"),
            N_("It only uses disk space. Run: ncen-updater doctor"),
            path=str(item),
        )
        for item in context.slots.list_leftovers()
        if item.stem != target and context.open_change is None
    ]
    findings += [
        make_info(
            6318,
            N_("Previous databases retained from change {change}: {names}"),
            N_("They are pruned after their retention ([retention] in agent.toml)."),
            change=change,
            names=", ".join(sorted(names)),
        )
        for change, names in sorted(previous.items())
    ]
    return tuple(findings)
