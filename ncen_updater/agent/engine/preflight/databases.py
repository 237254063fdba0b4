"""Checks of the databases and their server: names, versions, schemas, reference data."""

from __future__ import annotations

from pathlib import Path

from packaging.version import InvalidVersion, Version

from ncen_updater.agent.adapters.databases.base import LiveDatabase
from ncen_updater.agent.adapters.databases.migrations.domain_checks import (
    find_unmapped_references,
)
from ncen_updater.agent.engine.preflight.base import (
    PreflightContext,
    find_existing_parent,
    make_advisory,
    make_blocker,
    make_info,
    register_check,
    satisfies_specifier,
)
from ncen_updater.common import disk_space
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_

#: Disk space that must stay free: at least these bytes, and a tenth of the needed bytes.
MARGIN_BYTES = 256 << 20
MARGIN_SHARE = 10
#: Maximum number of codes named in a finding.
MAX_CODES_SHOWN = 20


@register_check(120)
def check_database_names(context: PreflightContext) -> tuple[Finding, ...]:
    """Compare the release's databases with the configured ones (NU-6319)."""
    required = {database.name for database in context.document.manifest.databases}
    configured = set(context.engine.names)
    if required == configured:
        return ()
    return (
        make_blocker(
            6319,
            N_(
                "Databases of the release ({required}) do not match the configuration"
                " ({configured})"
            ),
            N_("Correct [databases.names] in agent.toml."),
            required=", ".join(sorted(required)) or "-",
            configured=", ".join(sorted(configured)) or "-",
        ),
    )


@register_check(140)
def check_database_blockers(context: PreflightContext) -> tuple[Finding, ...]:
    """Return the engine's blockers on the server, under the engine's codes."""
    return context.engine.find_blockers(
        context.change,
        application_stopped=False,
        other_bytes=lambda path: measure_needed_bytes(context, path),
    )


@register_check(141, upgrade_only=True)
def check_role_privileges(context: PreflightContext) -> tuple[Finding, ...]:
    """Return the engine's findings on roles and logins, under the engine's codes."""
    return context.engine.find_exposures()


@register_check(70)
def check_disk_space(context: PreflightContext) -> tuple[Finding, ...]:
    """Check the disk space: NU-6301 if there is too little, NU-6302 (info) otherwise."""
    paths_by_device: dict[int, Path] = {}
    for needed_path, _ in _list_needs(context):
        path = find_existing_parent(needed_path)
        paths_by_device.setdefault(context.device(path), path)
    findings = []
    for path in paths_by_device.values():
        size = measure_needed_bytes(context, path)
        if not size:
            continue
        margin, free = max(MARGIN_BYTES, size // MARGIN_SHARE), context.free_bytes(path)
        if free < size + margin:
            findings.append(_make_space_blocker(path, size, margin, free))
        else:
            what = N_("Enough disk space in {path}: {free_bytes} free, {needed_bytes} required")
            figures = _make_space_figures(path, size, margin, free)
            findings.append(make_info(6302, what, "", **figures))
    return tuple(findings)


@register_check(71, upgrade_only=True)
def check_full_disks(context: PreflightContext) -> tuple[Finding, ...]:
    """Check for a full disk (NU-6301), on which the soak period would wait."""
    places = [path for path, _ in _list_needs(context)]
    places += [context.config.paths.resolve(item.directory) for item in context.config.files]
    free_bytes = {path: context.free_bytes(path) for path in map(find_existing_parent, places)}
    free_bytes |= context.engine.measure_free_bytes()
    full = {
        context.device(path): _make_space_blocker(path, 0, disk_space.MARGIN_BYTES, free)
        for path, free in free_bytes.items()
        if free < disk_space.MARGIN_BYTES and not measure_needed_bytes(context, path)
    }
    return tuple(full.values())


def _make_space_blocker(path: Path, size: int, margin: int, free: int) -> Finding:
    return make_blocker(
        6301,
        N_("Not enough disk space in {path}: {free_bytes} free, {needed_bytes} required"),
        N_("Free at least {missing_bytes} in {path}."),
        **_make_space_figures(path, size, margin, free),
    )


def _make_space_figures(path: Path, size: int, margin: int, free: int) -> dict[str, object]:
    return {
        "path": str(path),
        "needed_bytes": size + margin,
        "free_bytes": free,
        "missing_bytes": max(0, size + margin - free),
        "margin_bytes": margin,
    }


def measure_needed_bytes(context: PreflightContext, path: Path) -> int:
    """Return the bytes that download and slot need on the file system of a path."""
    device = context.device(find_existing_parent(path))
    return sum(
        size
        for needed_path, size in _list_needs(context)
        if context.device(find_existing_parent(needed_path)) == device
    )


def _list_needs(context: PreflightContext) -> list[tuple[Path, int]]:
    document, store = context.document, context.slots
    manifest = document.manifest
    state = context.config.paths.resolve(context.config.paths.state)
    archive = 0 if context.slot_built else document.archive.length + document.tree.length
    built = store.is_built(Version(manifest.version), document.tree_digest)
    slot = 0 if built else document.unpacked_bytes + document.tree_bytes
    return [(state, archive), (store.slots_directory, slot + manifest.needs.disk_bytes)]


@register_check(130)
def check_database_version(context: PreflightContext) -> tuple[Finding, ...]:
    """Check the version of the database server (NU-6304)."""
    manifest = context.document.manifest
    kind = context.engine.engine_name
    needed = manifest.needs.get_specifier(kind)
    version = context.engine.read_version()
    try:
        fits = satisfies_specifier(needed, Version(version))
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


@register_check(155, upgrade_only=True)
def check_schemas(context: PreflightContext) -> tuple[Finding, ...]:
    """Check for changed schemas: NU-6106, or NU-6143 if the release declares the change."""
    return tuple(context.schemas())


@register_check(170, upgrade_only=True)
def check_reference_data(context: PreflightContext) -> tuple[Finding, ...]:
    """Check for codes without a target (NU-6323); the release decides whether they block."""
    findings = []
    maps = context.document.manifest.reference_maps
    for item in find_unmapped_references(context.engine, LiveDatabase, maps):
        counts = dict(item.rows)
        make = make_blocker if item.strict else make_advisory
        shown = ", ".join(
            f"{code}: {count}" for code, count in list(counts.items())[:MAX_CODES_SHOWN]
        )
        findings.append(
            make(
                6323,
                N_("Records without a new code in '{name}': {count} ({codes})"),
                N_("Ask the owner of the data to correct them before the upgrade."),
                name=item.name,
                count=sum(counts.values()),
                codes=shown if len(counts) <= MAX_CODES_SHOWN else f"{shown}, ...",
                counts=counts,
            )
        )
    return tuple(findings)
