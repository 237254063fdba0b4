"""Does the release accept this database server?"""

from __future__ import annotations

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from ncen_updater.agent.engine.preflight.base import Context, check, strict
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_


@check(130)
def check_database_version(context: Context) -> tuple[Finding, ...]:
    """NU-6304 where the release wants another database server."""
    manifest = context.document.manifest
    kind = context.engine.kind
    needed = manifest.needs.of(kind)
    version = context.engine.version()
    try:
        fits = _fits(needed, Version(version))
    except InvalidVersion:
        fits = False
    if fits:
        return ()
    return (
        strict(
            6304,
            N_("Release {release} needs {kind} {needed}; this site has {version}."),
            N_("Bring the database server to a version that fits, then try again."),
            release=manifest.version,
            kind=kind,
            needed=needed,
            version=version,
        ),
    )


def _fits(specifier: str, version: Version) -> bool:
    return SpecifierSet(specifier, prereleases=True).contains(version)
