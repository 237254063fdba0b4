"""Preflight of a change: collects the input of the checks and runs them."""

from __future__ import annotations

import importlib
import pkgutil

from packaging.version import Version

from ncen_updater.agent.adapters.databases.base import ChangeRef
from ncen_updater.agent.engine import preflight
from ncen_updater.agent.engine.preflight.base import (
    CHECK_ATTRIBUTE,
    CheckRegistration,
    PreflightCheck,
    PreflightContext,
    run_checks,
)
from ncen_updater.agent.engine.schema_fingerprints import find_schema_drift
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.findings import Finding
from ncen_updater.common.progress import ProgressListener, SilentProgress
from ncen_updater.feed.trust_state import TrustStateStore


def run_preflight(
    site: Site,
    reference: ChangeRef,
    origin: Version,
    progress: ProgressListener | None = None,
    *,
    verify_slot: bool = False,
) -> tuple[Finding, ...]:
    """Run the checks for a change whose slot is built. Reads only.

    Args:
        site: The site.
        reference: The planned or running change.
        origin: The installed release.
        progress: Receives progress reports of slow checks.
        verify_slot: Hash every file of the slot in use.
    """
    target = Version(reference.release)
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        open_change = journal.find_open_change()
        changes = frozenset(change.id for change in journal.list_changes())
    leads_up = target > origin

    def find_drift() -> tuple[Finding, ...]:
        with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
            return tuple(find_schema_drift(site, journal))

    context = PreflightContext(
        config=site.config,
        change=reference,
        document=site.slots.read_document(target),
        engine=site.database_engine,
        slots=site.slots,
        application=site.application,
        agent_version=site.agent_version,
        now=site.clock.now(),
        # Only for upgrades: a damaged trust state must not block a rollback.
        newest_signed_time=TrustStateStore(site.state_directory).load().clock_floor
        if leads_up
        else None,
        target=site.load_migrations(target) if leads_up else None,
        origin=site.load_migrations(origin) if leads_up else None,
        slot_built=True,
        open_change=open_change.id if open_change else None,
        known_changes=changes,
        verify_slot=verify_slot,
        progress=progress or SilentProgress(),
        overlay=site.overlay,
        schemas=find_drift,
    )
    return run_checks(list_checks(upgrade=leads_up), context)


def list_checks(*, upgrade: bool = True) -> tuple[PreflightCheck, ...]:
    """Return the checks in the order in which they are reported.

    Args:
        upgrade: Whether the change is an upgrade; some checks apply only to upgrades.
    """
    checks: dict[int, PreflightCheck] = {}
    for module in pkgutil.iter_modules(preflight.__path__, f"{preflight.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            registration = getattr(value, CHECK_ATTRIBUTE, None)
            if not isinstance(registration, CheckRegistration) or (
                registration.upgrade_only and not upgrade
            ):
                continue
            if checks.setdefault(registration.position, value) is not value:
                raise ValueError(f"two checks have the position {registration.position}")
    if not checks:
        raise LookupError(f"no preflight check in {preflight.__name__}")
    return tuple(check for _position, check in sorted(checks.items()))
