"""Is what the country owns in use, and does a release know all of it?"""

from __future__ import annotations

from packaging.version import Version

from ncen_updater.agent.engine.site import Site
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText

#: Paths that a person is told of.
MAX_PATHS_SHOWN = 10


def check_overlay(site: Site, current: Version) -> tuple[Finding, ...]:
    """NU-6133 where what was merged is not in use, NU-6134 for files that nothing uses."""
    layer, found = site.overlay, []
    if layer is None:
        return ()
    if layer.list_declared(current) and not layer.is_built_for(current):
        chosen = layer.read_current()
        values = {"version": current, "chosen": chosen or "-", "path": str(layer.merged_directory)}
        found.append(
            Finding(
                "NU-6133",
                Severity.WARNING,
                LazyText(
                    N_("Local overlay not applied to {version} (selected in {path}: {chosen})")
                    if chosen
                    else N_("Local overlay not applied to {version} (none selected in {path})"),
                    values,
                ),
                LazyText(N_("Run ncen-updater translations apply, then restart the application.")),
                values,
            )
        )
    paths = site.config.paths
    files = layer.list_undeclared(
        current, [paths.resolve(item.directory) for item in site.config.files]
    )
    if files:
        shown = ", ".join(files[:MAX_PATHS_SHOWN]) + (
            ", ..." if len(files) > MAX_PATHS_SHOWN else ""
        )
        values = {"count": len(files), "files": shown, "path": str(layer.local_directory)}
        found.append(
            Finding(
                "NU-6134",
                Severity.INFO,
                LazyText(N_("Unused files in {path}: {count} ({files})"), values),
                LazyText(N_("Compare their names with: ncen-updater translations report")),
                values,
            )
        )
    return tuple(found)
