"""Checks of the site before a change: clock, reboot, versions, an open change."""

from __future__ import annotations

from ncen_updater.agent.engine.preflight.base import (
    PreflightContext,
    make_advisory,
    make_blocker,
    register_check,
    satisfies_specifier,
)
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_
from ncen_updater.feed.clock import find_clock_findings

#: Maximum number of modified files named in a finding.
MAX_FILES_SHOWN = 5


@register_check(50, upgrade_only=True)
def check_clock(context: PreflightContext) -> tuple[Finding, ...]:
    """Check the clock: NU-6311 behind the signed time, NU-6312 far ahead of it."""
    zone = context.config.service.get_timezone()
    return find_clock_findings(context.now, context.newest_signed_time, zone)


@register_check(190)
def check_reboot(context: PreflightContext) -> tuple[Finding, ...]:
    """Warn of a pending reboot of the system (NU-6315)."""
    if not context.reboot_file.exists():
        return ()
    return (
        make_advisory(
            6315,
            N_("System restart pending; it could interrupt the upgrade"),
            N_("Restart the machine before the upgrade."),
        ),
    )


@register_check(40, upgrade_only=True)
def check_agent_version(context: PreflightContext) -> tuple[Finding, ...]:
    """Check whether the release requires another version of the agent (NU-6303)."""
    manifest = context.document.manifest
    if satisfies_specifier(manifest.agent, context.agent_version):
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


@register_check(10)
def check_open_change(context: PreflightContext) -> tuple[Finding, ...]:
    """Check for another open change (NU-6316)."""
    if context.open_change is None or context.open_change == context.change.id:
        return ()
    return (
        make_blocker(
            6316,
            N_("Change {change} is not finished"),
            N_("Run: sudo ncen-updater resume"),
            change=context.open_change,
        ),
    )


@register_check(110, upgrade_only=True)
def check_current_slot(context: PreflightContext) -> tuple[Finding, ...]:
    """Check the slot in use: NU-6306 none, NU-6307 modified files."""
    running = context.slots.read_current()
    if running is None:
        return (
            make_blocker(
                6306,
                N_("{link} selects no release; rollback impossible"),
                N_("Run: sudo ncen-updater adopt VERSION"),
                link=str(context.slots.current_link),
            ),
        )
    differences = context.slots.verify_slot(running, context.progress, full=context.verify_slot)
    if not differences:
        return ()
    return (
        make_blocker(
            6307,
            N_("Modified files in release {version}: {count} ({files})"),
            N_("Restore the released files; move local changes to the local overlay."),
            version=str(running),
            count=len(differences),
            files=", ".join(str(item) for item in differences[:MAX_FILES_SHOWN]),
        ),
    )
