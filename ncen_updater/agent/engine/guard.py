"""Runs the preflight for a change: gathers what the checks look at."""

from __future__ import annotations

from datetime import timedelta

from packaging.version import Version

from ncen_updater.agent.databases.base import ChangeRef
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.names import JOURNAL
from ncen_updater.agent.preflight.agent_version import check_agent_version
from ncen_updater.agent.preflight.base import Context, run
from ncen_updater.agent.preflight.clock import check_clock
from ncen_updater.agent.preflight.current_slot import check_current_slot
from ncen_updater.agent.preflight.files import check_files
from ncen_updater.agent.preflight.migrations import check_migrations
from ncen_updater.agent.preflight.path import check_path
from ncen_updater.agent.preflight.reference_data import check_reference_data
from ncen_updater.agent.preflight.registry import ALL_CHECKS
from ncen_updater.agent.preflight.restore_proved import check_restore_proved
from ncen_updater.agent.rehearsal.store import Rehearsals
from ncen_updater.agent.site import Site
from ncen_updater.common.findings import Finding
from ncen_updater.common.progress import Progress, Silent
from ncen_updater.feed.clock import TrustClock

__all__ = ["preflight_findings"]

# The way back must not be barred by what only concerns a newer release, nor by a wrong clock, nor
# by damage to the very release that is to be left, nor by files that cannot be kept (told then),
# nor for want of a rehearsal: it has none. Which migrations are undone was planned with the way
# itself; one to kept databases needs none, and no file of them.
ONLY_FORWARD = frozenset(
    {
        check_path,
        check_reference_data,
        check_agent_version,
        check_clock,
        check_current_slot,
        check_migrations,
        check_restore_proved,
        check_files,
    }
)
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
    with Journal.open(site.state / JOURNAL, read_only=True) as journal:
        open_change = journal.open_change()
        changes = frozenset(change.id for change in journal.changes())
        proof = Rehearsals(journal).proof()
    leads_up = target > origin
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
        target=site.migrations(target) if leads_up else None,
        origin=site.migrations(origin) if leads_up else None,
        fetched=True,
        open_change=open_change.id if open_change else None,
        changes=changes,
        full=full,
        proof=proof,
        longest_proof=timedelta(days=site.config.service.rehearsal_days),
        progress=progress or Silent(),
    )
    checks = [check for check in ALL_CHECKS if leads_up or check not in ONLY_FORWARD]
    return run(checks, context).findings
