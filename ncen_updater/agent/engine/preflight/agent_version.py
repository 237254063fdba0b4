"""Does the release accept this agent?"""

from __future__ import annotations

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ncen_updater.agent.engine.preflight.base import PreflightContext, make_blocker, register_check
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_


@register_check(40, upgrade_only=True)
def check_agent_version(context: PreflightContext) -> tuple[Finding, ...]:
    """NU-6303 where the release wants another agent."""
    manifest = context.document.manifest
    if _satisfies(manifest.agent, context.agent_version):
        return ()
    return (
        make_blocker(
            6303,
            N_("Release {release} requires ncen-updater {needed}; {version} is installed"),
            N_("Run: ncen-updater self-update"),
            release=manifest.version,
            needed=manifest.agent,
            version=str(context.agent_version),
        ),
    )


def _satisfies(specifier: str, version: Version) -> bool:
    return SpecifierSet(specifier, prereleases=True).contains(version)
