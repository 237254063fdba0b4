"""Checks of an operation against the journal alone, and the last upgrade. Light imports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from pathlib import Path

from packaging.version import Version

from ncen_updater.agent.engine.lock import read_lock_holder
from ncen_updater.agent.engine.pending_rollback import find_pending_rollback
from ncen_updater.agent.model.change import Change, ChangeKind, ChangeState
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.errors import SiteBusyError
from ncen_updater.agent.model.event_names import CHANGE_LOCK_FILE, SERVICE_LOCK_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import (
    HoldRecord,
    SiteHistory,
    select_longest_hold,
)
from ncen_updater.common.cli.render import format_scheduled_time, format_time
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    HELD,
    NOTHING_TO_CONFIRM,
    OPEN_CHANGE,
)


def require_no_open_change(journal: Journal) -> None:
    """Refuse if a change is open.

    Raises:
        SiteBusyError: If the service is completing it.
        OPEN_CHANGE: If somebody has to complete it.
    """
    change = journal.find_open_change()
    if change is not None:
        served = is_service_completing(journal.path.parent, journal.read_time())
        raise make_open_change_error(
            change.id, change.kind, change.to_version, change.state, served=served
        )


def is_service_completing(state_directory: Path, now: datetime) -> bool:
    """Return whether the service runs, and is not waiting to retry a resume that failed."""
    from ncen_updater.agent.policy.automation import ServiceAction
    from ncen_updater.agent.storage.service_state import SERVICE_STATE_PATH, ServiceStateFile

    if read_lock_holder(state_directory / SERVICE_LOCK_FILE) is None:
        return False
    known = ServiceStateFile(state_directory / SERVICE_STATE_PATH).load()
    failure = known.failures.get(ServiceAction.RESUME)
    return failure is None or not failure.is_backing_off(now, ServiceAction.RESUME)


def make_open_change_error(
    change: str, kind: str, version: str, state: str, *, served: bool
) -> UpdaterError:
    """Return the error that refuses an operation because of an open change. Pure.

    Args:
        change: Id of the change.
        kind: Its kind.
        version: Its release.
        state: Its state.
        served: Whether the service is at work on it; it completes every change that needs no
            operator.
    """
    if served and state != ChangeState.STUCK:
        text = N_("{kind} to {version}, being completed by the service")
        values = {"kind": LazyText(kind), "version": version}
        return SiteBusyError(holder=LazyText(text, values))
    return UpdaterError(OPEN_CHANGE, change=change, kind=LazyText(kind), version=version)


def require_no_unfinished_change(journal: Journal, *, soak_allowed: bool = False) -> None:
    """Refuse, without taking the lock, if a change is in progress or interrupted.

    Args:
        journal: The journal.
        soak_allowed: Whether a change in its soak period is accepted.

    Raises:
        SiteBusyError: If the change is in progress.
        OPEN_CHANGE: If it was interrupted, and the service does not complete it.
    """
    change = journal.find_open_change()
    if change is None or (soak_allowed and change.is_soaking):
        return
    holder = read_lock_holder(journal.path.with_name(CHANGE_LOCK_FILE))
    if holder is not None:
        raise SiteBusyError(holder=holder)
    require_no_open_change(journal)


def require_no_hold(journal: Journal, now: datetime, zone: tzinfo | None = None) -> None:
    """Refuse if an operator's hold is in force.

    Args:
        journal: The journal.
        now: The current time.
        zone: Time zone of the site; that of the machine by default.

    Raises:
        HELD: If a hold is in force.
    """
    hold = select_longest_hold(SiteHistory(journal).list_active_holds(now))
    if hold is not None:
        raise make_hold_error(hold, zone)


def make_hold_error(hold: HoldRecord, zone: tzinfo | None = None) -> UpdaterError:
    """Return the error that refuses an upgrade because of a hold."""
    until = hold.until and format_scheduled_time(hold.until, zone)
    end = N_("The hold has no end date.") if until is None else N_("End of the hold: {until}")
    return UpdaterError(
        HELD,
        detail=LazyText(end, {"until": until}),
        reason=hold.reason,
        by=hold.actor,
        since=format_time(hold.since, zone),
        until=until,
    )


def require_soaking(journal: Journal) -> Change:
    """Return the change in its soak period, or the one whose rollback is pending.

    Raises:
        NOTHING_TO_CONFIRM: If there is none.
        SiteBusyError, OPEN_CHANGE: If a change is not committed yet.
    """
    pending = find_pending_rollback(journal)
    if pending is not None:
        return pending.change
    change = journal.find_open_change()
    if change is not None and change.is_open_after_commit:
        return change
    require_no_unfinished_change(journal)
    raise UpdaterError(NOTHING_TO_CONFIRM)


def confirm_release(journal: Journal, actor: str) -> Change:
    """Record that the release is confirmed; the watching process notices it, or a later resume.

    If the contract program failed, it is not run again.

    Raises:
        NOTHING_TO_CONFIRM, SiteBusyError, OPEN_CHANGE: As :func:`require_soaking`.
    """
    change = require_soaking(journal)
    abandoned = True if journal.read_facts(change.id).contract_failed is not None else None
    journal.store_facts(change.id, ChangeFacts(confirmed_by=actor, contract_abandoned=abandoned))
    journal.record_event("confirmed", change.id, by=actor)
    return change


def find_last_upgrade(changes: Sequence[Change], current: Version) -> Change | None:
    """Find the newest committed upgrade that installed the current release; None if none did; pure.

    The changes are given newest first.

    After a rollback the current release is an older one, so a second rollback goes one release
    further back.
    """
    for change in changes:
        if (
            change.is_committed
            and change.kind is ChangeKind.UPGRADE
            and Version(change.to_version) == current
        ):
            return change
    return None
