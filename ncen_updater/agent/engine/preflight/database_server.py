"""What blocks in the database server?"""

from __future__ import annotations

from pathlib import Path

from packaging.version import Version

from ncen_updater.agent.engine.preflight.base import (
    PreflightContext,
    find_existing_parent,
    make_blocker,
    make_info,
    register_check,
)
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_


@register_check(140)
def check_database_blockers(context: PreflightContext) -> tuple[Finding, ...]:
    """Return what the engine says of the server, under the engine's own codes."""
    return context.engine.find_blockers(
        context.change,
        application_stopped=False,
        other_bytes=lambda path: measure_needed_bytes(context, path),
    )


@register_check(141, upgrade_only=True)
def check_role_privileges(context: PreflightContext) -> tuple[Finding, ...]:
    """Return what the engine says of roles and logins, under the engine's own codes."""
    return context.engine.find_exposures()


MARGIN_BYTES = 256 << 20


MARGIN_SHARE = 10  # one tenth of what is needed


@register_check(70)
def check_disk_space(context: PreflightContext) -> tuple[Finding, ...]:
    """NU-6301 where bytes are missing, NU-6302 (a fact) where they are not."""
    places: dict[int, Path] = {}
    for wanted, _ in _list_needs(context):
        place = find_existing_parent(wanted)
        places.setdefault(context.device(place), place)
    findings = []
    for place in places.values():
        size = measure_needed_bytes(context, place)
        if not size:
            continue
        margin = max(MARGIN_BYTES, size // MARGIN_SHARE)
        free = context.free_bytes(place)
        figures = {
            "path": str(place),
            "needed_bytes": size + margin,
            "free_bytes": free,
            "missing_bytes": max(0, size + margin - free),
            "margin_bytes": margin,
        }
        if free < size + margin:
            what = N_("Not enough disk space in {path}: {free_bytes} free, {needed_bytes} required")
            findings.append(
                make_blocker(6301, what, N_("Free at least {missing_bytes} there."), **figures)
            )
        else:
            what = N_("Enough disk space in {path}: {free_bytes} free, {needed_bytes} required")
            findings.append(make_info(6302, what, "", **figures))
    return tuple(findings)


def measure_needed_bytes(context: PreflightContext, path: Path) -> int:
    """Return the bytes that download and slot need on the disk of a path."""
    device = context.device(find_existing_parent(path))
    return sum(
        size
        for wanted, size in _list_needs(context)
        if context.device(find_existing_parent(wanted)) == device
    )


def _list_needs(context: PreflightContext) -> list[tuple[Path, int]]:
    document, store = context.document, context.slots
    manifest = document.manifest
    state = context.config.paths.resolve(context.config.paths.state)
    archive = 0 if context.slot_built else document.archive.length + document.tree.length
    built = store.is_built(Version(manifest.version), document.tree_digest)
    slot = 0 if built else document.unpacked_bytes + document.tree_bytes
    return [(state, archive), (store.slots_directory, slot + manifest.needs.disk_bytes)]
