"""Does the release accept this database server?"""

from __future__ import annotations

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from ncen_updater.agent.engine.preflight.base import PreflightContext, make_blocker, register_check
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_


@register_check(130)
def check_database_version(context: PreflightContext) -> tuple[Finding, ...]:
    """NU-6304 where the release wants another database server."""
    manifest = context.document.manifest
    kind = context.engine.engine_name
    needed = manifest.needs.get_specifier(kind)
    version = context.engine.read_version()
    try:
        fits = _satisfies(needed, Version(version))
    except InvalidVersion:
        fits = False
    if fits:
        return ()
    return (
        make_blocker(
            6304,
            N_("Release {release} requires {kind} {needed}; {version} is installed"),
            N_("Upgrade the database server before the upgrade."),
            release=manifest.version,
            kind=kind,
            needed=needed,
            version=version,
        ),
    )


def _satisfies(specifier: str, version: Version) -> bool:
    return SpecifierSet(specifier, prereleases=True).contains(version)
