"""Runs the preflight for a change: gathers what the checks look at."""

from __future__ import annotations

from packaging.version import Version

from ncen_updater.agent.adapters.databases.base import ChangeRef
from ncen_updater.agent.engine.fingerprints import schema_findings
from ncen_updater.agent.engine.preflight.base import Context, run
from ncen_updater.agent.engine.preflight.registry import all_checks
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.names import JOURNAL
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.findings import Finding
from ncen_updater.common.progress import Progress, Silent
from ncen_updater.feed.proved import ProvedMemory


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
    leads_up = target > origin

    def schemas() -> tuple[Finding, ...]:
        with Journal.open(site.state / JOURNAL, read_only=True) as journal:
            return tuple(schema_findings(site, journal))

    context = Context(
        config=site.config,
        change=reference,
        document=site.slots.document(target),
        engine=site.engine,
        store=site.slots,
        application=site.application,
        agent_version=site.agent_version,
        now=site.clock.now(),
        # Only the way forward is judged by it: a damaged memory stops nobody from going back.
        newest_signed_time=ProvedMemory(site.state).load().floor if leads_up else None,
        target=site.migrations(target) if leads_up else None,
        origin=site.migrations(origin) if leads_up else None,
        fetched=True,
        open_change=open_change.id if open_change else None,
        changes=changes,
        full=full,
        progress=progress or Silent(),
        overlay=site.overlay,
        schemas=schemas,
    )
    return run(all_checks(forward=leads_up), context)
