"""Lasting states that are told once, when they begin, and again only after they had ended. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from ncen_updater.agent.engine.rehearsal.downtime_forecasts import sum_predicted_range
from ncen_updater.agent.model.change import ChangeState
from ncen_updater.agent.model.notification_kind import NotificationKind
from ncen_updater.agent.policy.automation import RehearsalStatus
from ncen_updater.agent.policy.availability import AvailabilityState
from ncen_updater.agent.policy.windows import WeeklyWindow, find_next_opening
from ncen_updater.agent.reports.status import SiteStatus, get_part_or_none
from ncen_updater.agent.service.notifications.notification import Notification
from ncen_updater.common.errors import UpdaterError

#: A disk has to have so much more free space, per cent, before it may be told again.
DISK_RECOVERY_PERCENT = 2.0
#: An application that is away for less was restarted; nobody is told of that.
MIN_OUTAGE = timedelta(minutes=2)
#: What asks people for something, or tells them when it begins.
UPGRADE_PROMPT_KINDS = (NotificationKind.WAITING_FOR_APPROVAL, NotificationKind.UPGRADE_UPCOMING)


@dataclass(frozen=True)
class AlertSettings:
    """From when on a state is told.

    Attributes:
        upgrade_notice: So long before an upgrade begins.
        expiry_notice: So long before the lists lapse.
        min_free_percent: Less free space than this.
        approves_automatically: Whether nobody has to approve.
        starts_automatically: Whether the service begins upgrades by itself at all.
        reports_only: Whether a release that turns bad in its watched time waits for a person.
        required_approvals: How many people have to approve.
        windows: When a cut-over may begin; none means at any time.
        zone: Zone of the windows.
    """

    upgrade_notice: timedelta = timedelta(hours=12)
    expiry_notice: timedelta = timedelta(days=5)
    min_free_percent: float = 10.0
    approves_automatically: bool = False
    starts_automatically: bool = True
    reports_only: bool = False
    required_approvals: int = 1
    windows: tuple[WeeklyWindow, ...] = ()
    zone: tzinfo = UTC


@dataclass(frozen=True)
class Condition:
    """One state: ``key`` says whether it is the same as before."""

    kind: NotificationKind
    key: str
    values: Mapping[str, object]


def is_unplanned_outage(now: SiteStatus) -> bool | None:
    """Whether users cannot work although nobody keeps them out; None where that is not known.

    What was stopped by somebody, as far as the system tells that, is theirs to start. Nor does an
    open change keep users out while its release is watched.
    """
    seen, journal = get_part_or_none(now.availability), get_part_or_none(now.journal)
    if seen is None:
        return None
    if seen.state is AvailabilityState.AVAILABLE:
        return False
    if seen.state not in (AvailabilityState.NOT_RUNNING, AvailabilityState.UNHEALTHY):
        return None
    change = None if journal is None else journal.open_change
    at_work = change is not None and not change.is_soaking
    return None if at_work or seen.stopped_on_request else True


def list_conditions(
    now: SiteStatus,
    limits: AlertSettings,
    reported: Mapping[str, str],
    down_since: datetime | None = None,
) -> Iterator[Condition]:
    """Yield the states that hold and are to be told.

    Args:
        now: How the site stands.
        limits: From when on a state is told.
        reported: What was told and has not ended since.
        down_since: When the application was first seen down, if it still was when last seen.
    """
    yield from _detect_outage(now, reported, down_since)
    yield from _detect_intervention(now, limits)
    yield from _detect_upgrade(now, limits, reported)
    yield from _detect_feed_expiry(now, limits)
    if now.is_withdrawn:
        yield Condition(
            NotificationKind.RELEASE_WITHDRAWN, str(now.current), {"version": now.current}
        )
    agent = get_part_or_none(now.agent)
    for version, bad in agent.failed.items() if agent else ():
        yield Condition(
            NotificationKind.AGENT_REVERTED, f"{version} {bad.failures}", {"version": version}
        )
    disks = map(get_part_or_none, (get_part_or_none(now.free_percent) or {}).values())
    free = min((percent for percent in disks if percent is not None), default=None)
    bound = limits.min_free_percent + (
        DISK_RECOVERY_PERCENT if NotificationKind.DISK_SPACE_LOW in reported else 0.0
    )
    if free is not None and free < bound:
        yield Condition(NotificationKind.DISK_SPACE_LOW, "low", {"free_percent": free})


def _detect_outage(
    now: SiteStatus, reported: Mapping[str, str], down_since: datetime | None
) -> Iterator[Condition]:
    """Yield an outage, which lasts until users can work, whatever is done about it meanwhile."""
    known, down = reported.get(NotificationKind.APPLICATION_DOWN), is_unplanned_outage(now)
    if down is False:
        return
    if known is not None:
        yield Condition(NotificationKind.APPLICATION_DOWN, known, {})
    elif down and down_since is not None and now.now - down_since >= MIN_OUTAGE:
        at = down_since.isoformat()
        yield Condition(
            NotificationKind.APPLICATION_DOWN,
            at,
            {"version": get_part_or_none(now.current), "at": at},
        )


def _detect_intervention(now: SiteStatus, limits: AlertSettings) -> Iterator[Condition]:
    journal = now.journal
    if isinstance(journal, Exception):
        code = journal.code if isinstance(journal, UpdaterError) else UpdaterError.message.code
        yield Condition(NotificationKind.INTERVENTION_REQUIRED, code, {"code": code})
        return
    bad_releases = {row.version: row.code for row in journal.bad_releases}
    pending = journal.pending_rollback
    if pending is not None and not pending.is_automatic:
        bad = pending.change
        values: dict[str, object] = {
            "change": bad.id, "from": bad.from_version, "version": bad.to_version,
            "code": bad_releases.get(bad.to_version),
        }  # fmt: skip
        yield Condition(NotificationKind.INTERVENTION_REQUIRED, f"bad {bad.id}", values)
    change = journal.open_change
    if change is None:
        return
    values = {
        "change": change.id, "from": change.from_version, "version": change.to_version,
    }  # fmt: skip
    if change.state is ChangeState.STUCK:
        values["code"] = change.error_code
        yield Condition(NotificationKind.INTERVENTION_REQUIRED, f"stuck {change.id}", values)
    elif change.is_open_after_commit and (
        journal.needs_operator or (limits.reports_only and change.to_version in bad_releases)
    ):
        values["code"] = bad_releases.get(change.to_version)
        yield Condition(NotificationKind.INTERVENTION_REQUIRED, f"bad {change.id}", values)


def _detect_upgrade(
    now: SiteStatus, limits: AlertSettings, reported: Mapping[str, str]
) -> Iterator[Condition]:
    found, journal = now.next_upgrade, get_part_or_none(now.journal)
    if found is None or found.target is None:
        return
    version = {"version": found.target}
    yield Condition(
        NotificationKind.AVAILABLE, found.target, {**version, "from": get_part_or_none(now.current)}
    )
    if found.void_reasons:
        yield Condition(
            NotificationKind.APPROVAL_VOID, f"{found.target} {len(found.void_reasons)}", version
        )
    if journal is not None and found.last_event != journal.last_event:
        # It was found before what happened last: it may be installed, or have failed, by now. What
        # was told lasts until the service has looked again; nobody is asked for anything till then.
        yield from (
            Condition(kind, reported[kind], {}) for kind in UPGRADE_PROMPT_KINDS if kind in reported
        )
        return
    ready = found.binding and found.rehearsal_status in (
        RehearsalStatus.PASSED,
        RehearsalStatus.NOT_REQUIRED,
    )
    if not ready or not limits.starts_automatically:
        return
    if journal is None or journal.holds or journal.open_change is not None:
        return
    missing = journal.count_approvals(found.binding, limits.required_approvals).missing
    if missing and (found.was_rolled_back or not limits.approves_automatically):
        yield Condition(
            NotificationKind.WAITING_FOR_APPROVAL,
            f"{found.binding} {missing}",
            {**version, "missing": missing},
        )
        return
    chosen = journal.find_schedule(found.binding)
    begins = _find_start(now.now, chosen.not_before if chosen else None, limits)
    if begins is not None and begins - now.now <= limits.upgrade_notice:
        at = begins.isoformat()
        predicted = sum_predicted_range(now.rehearsal)
        stop = dict(zip(("low_s", "high_s"), predicted, strict=True)) if predicted else {}
        yield Condition(
            NotificationKind.UPGRADE_UPCOMING, f"{found.target} {at}", {**version, "at": at, **stop}
        )


def _find_start(
    now: datetime, not_before: datetime | None, limits: AlertSettings
) -> datetime | None:
    """When an upgrade may begin at the earliest; None where that is now, or never."""
    start = max(now, not_before) if not_before else now
    if limits.windows:
        opening = find_next_opening(limits.windows, start, limits.zone)
        if opening is None:
            return None
        start = max(start, opening.start)
    return start if start > now else None


def _detect_feed_expiry(now: SiteStatus, limits: AlertSettings) -> Iterator[Condition]:
    view = get_part_or_none(now.feed_view)
    if view is None:
        return
    ends = view.expires_at
    at = ends.isoformat()
    if view.is_stale(now.now):
        yield Condition(NotificationKind.FEED_EXPIRED, "stale", {"at": at})
    elif ends - now.now < limits.expiry_notice:
        days = round((ends - now.now) / timedelta(days=1), 1)
        yield Condition(NotificationKind.FEED_EXPIRING, "lapsing", {"at": at, "days": days})


def detect_new_conditions(
    now: SiteStatus,
    limits: AlertSettings,
    reported: Mapping[str, str],
    down_since: datetime | None = None,
) -> tuple[tuple[Notification, ...], dict[str, str]]:
    """Return the states that have begun, as news, and what now counts as told.

    That users can work again is told where they were told that they cannot.
    """
    news: list[Notification] = []
    after: dict[str, str] = {}
    for state in list_conditions(now, limits, reported, down_since):
        # Several of one kind (agents that were given up) count together.
        kind = state.kind.value
        after[kind] = f"{after[kind]}; {state.key}" if kind in after else state.key
        if state.key not in reported.get(kind, "").split("; "):
            number = f"{kind} {state.key} {now.now.isoformat()}"
            values = {f"{name}_": value for name, value in state.values.items()}
            news.append(Notification.create(number[:100], state.kind, now.now, **values))
    ended = reported.get(NotificationKind.APPLICATION_DOWN)
    if ended is not None and NotificationKind.APPLICATION_DOWN not in after:
        number = f"{NotificationKind.APPLICATION_UP} {ended}"
        current = get_part_or_none(now.current)
        news.append(
            Notification.create(
                number[:100], NotificationKind.APPLICATION_UP, now.now, version=current, at_=ended
            )
        )
    return tuple(news), after
