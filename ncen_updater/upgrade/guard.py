"""Runs the preflight for a change: gathers what the checks look at."""

from __future__ import annotations

from packaging.version import Version

from ncen_updater.databases.base import ChangeRef
from ncen_updater.findings import Finding
from ncen_updater.preflight.agent_version import check_agent_version
from ncen_updater.preflight.base import Context, run
from ncen_updater.preflight.clock import check_clock
from ncen_updater.preflight.current_slot import check_current_slot
from ncen_updater.preflight.files import check_files
from ncen_updater.preflight.path import check_path
from ncen_updater.preflight.reference_data import check_reference_data
from ncen_updater.preflight.registry import ALL_CHECKS
from ncen_updater.progress import Progress, Silent
from ncen_updater.trust.clock import TrustClock
from ncen_updater.upgrade.context import Site
from ncen_updater.upgrade.journal import Journal
from ncen_updater.upgrade.names import JOURNAL

__all__ = ["preflight_findings"]

# The way back must not be barred by what only concerns a newer release, nor by a wrong clock, nor
# by damage to the very release that is to be left, nor by files that cannot be kept (told then).
ONLY_FORWARD = frozenset(
    {
        check_path, check_reference_data, check_agent_version, check_clock, check_current_slot,
        check_files,
    }
)  # fmt: skip
CLOCK = "clock.json"


def preflight_findings(
    site: Site,
    reference: ChangeRef,
    origin: Version,
    progress: Progress | None = None,
    *,
    full: bool = False,
) -> tuple[Finding, ...]:
    """Look over the site before a change whose slot is built. Reads only.

    Args:
        site: The site.
        reference: The change that is planned or has begun.
        origin: The release that runs.
        progress: Told of what takes long.
        full: Hash every file of the slot in use.
    """
    target = Version(reference.release)
    context = Context(
        config=site.config,
        change=reference,
        document=site.slots.document(target),
        engine=site.engine,
        store=site.slots,
        application=site.application,
        agent_version=site.agent_version,
        now=site.clock.now(),
        newest_signed_time=TrustClock(site.config.paths.received_directory / CLOCK).floor,
        target=site.migrations(target),
        origin=site.migrations(origin),
        fetched=True,
        open_change=_open_change(site),
        full=full,
        progress=progress or Silent(),
    )
    leads_up = target > origin
    checks = [check for check in ALL_CHECKS if leads_up or check not in ONLY_FORWARD]
    return run(checks, context).findings


def _open_change(site: Site) -> str | None:
    with Journal.open(site.state / JOURNAL, read_only=True) as journal:
        change = journal.open_change()
        return change.id if change else None
