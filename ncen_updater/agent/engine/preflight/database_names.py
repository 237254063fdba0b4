"""Do release and configuration speak of the same databases?"""

from __future__ import annotations

from ncen_updater.agent.engine.preflight.base import PreflightContext, make_blocker, register_check
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_


@register_check(120)
def check_database_names(context: PreflightContext) -> tuple[Finding, ...]:
    """NU-6319 where the release has databases that the configuration does not name, or fewer."""
    wanted = {database.name for database in context.document.manifest.databases}
    known = set(context.engine.names)
    if wanted == known:
        return ()
    return (
        make_blocker(
            6319,
            N_("Databases of the release ({wanted}) do not match the configuration ({known})"),
            N_("Correct [databases.names] in agent.toml."),
            wanted=", ".join(sorted(wanted)) or "-",
            known=", ".join(sorted(known)) or "-",
        ),
    )
