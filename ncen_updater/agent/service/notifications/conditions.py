"""Lasting states that are told once, when they begin, and again only after they had ended. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from ncen_updater.agent.engine.rehearsal.stops import stop_range
from ncen_updater.agent.model.change import ChangeState
from ncen_updater.agent.model.notification_kind import NewsKind
from ncen_updater.agent.policy.automation import Rehearsed
from ncen_updater.agent.policy.availability import AvailabilityState
from ncen_updater.agent.policy.windows import Window, next_opening
from ncen_updater.agent.reports.status import SiteStatus, or_none
from ncen_updater.agent.service.notifications.news import News
from ncen_updater.common.errors import UpdaterError

#: A disk has to have so much more free space, per cent, before it may be told anew.
RECOVERED = 2.0
#: An application that is away for less was restarted; nobody is told of that.
OUTAGE = timedelta(minutes=2)
#: What asks people for something, or tells them when it begins.
ASKS = (NewsKind.WAITS, NewsKind.WINDOW)


@dataclass(frozen=True)
class AlertLimits:
    """From when on a state is told.

    Attributes:
        window: So long before an upgrade begins.
        feed: So long before the lists lapse.
        disk_percent: Less free space than this.
        automatic: Whether nobody has to approve.
        self_starting: Whether the service begins upgrades by itself at all.
        only_reports: Whether a release that turns bad in its watched time waits for a person.
        approvals: How many people have to approve.
        windows: When a cut-over may begin; none means at any time.
        zone: Zone of the windows.
    """

    window: timedelta = timedelta(hours=12)
    feed: timedelta = timedelta(days=5)
    disk_percent: float = 10.0
    automatic: bool = False
    self_starting: bool = True
    only_reports: bool = False
    approvals: int = 1
    windows: tuple[Window, ...] = ()
    zone: tzinfo = UTC


@dataclass(frozen=True)
class Lasting:
    """One state: ``key`` says whether it is the same as before."""

    kind: NewsKind
    key: str
    values: Mapping[str, object]


def is_down(now: SiteStatus) -> bool | None:
    """Whether officers cannot work although nobody keeps them out; None where that is not known.

    What was stopped by somebody, as far as the system tells that, is theirs to start. Nor does an
    open change keep officers out while its release is watched.
    """
    seen, journal = or_none(now.availability), or_none(now.journal)
    if seen is None:
        return None
    if seen.state is AvailabilityState.WORKS:
        return False
    if seen.state not in (AvailabilityState.NOT_RUNNING, AvailabilityState.NOT_WORKING):
        return None
    change = None if journal is None else journal.change
    at_work = change is not None and not change.watched
    return None if at_work or seen.asked_to_stop else True


def lasting(
    now: SiteStatus,
    limits: AlertLimits,
    told: Mapping[str, str],
    down_since: datetime | None = None,
) -> Iterator[Lasting]:
    """Yield the states that hold and are to be told.

    Args:
        now: How the site stands.
        limits: From when on a state is told.
        told: What was told and has not ended since.
        down_since: When the application was first seen down, if it still was when last seen.
    """
    yield from _outage(now, told, down_since)
    yield from _person(now, limits)
    yield from _target(now, limits, told)
    yield from _feed(now, limits)
    if now.withdrawn:
        yield Lasting(NewsKind.WITHDRAWN, str(now.current), {"version": now.current})
    agent = or_none(now.agent)
    for version, bad in agent.bad.items() if agent else ():
        yield Lasting(NewsKind.AGENT_RETURNED, f"{version} {bad.times}", {"version": version})
    disks = map(or_none, (or_none(now.free_percent) or {}).values())
    free = min((percent for percent in disks if percent is not None), default=None)
    bound = limits.disk_percent + (RECOVERED if NewsKind.DISK in told else 0.0)
    if free is not None and free < bound:
        yield Lasting(NewsKind.DISK, "low", {"free_percent": free})


def _outage(
    now: SiteStatus, told: Mapping[str, str], down_since: datetime | None
) -> Iterator[Lasting]:
    """An outage lasts until officers can work, whatever is done about it meanwhile."""
    known, down = told.get(NewsKind.DOWN), is_down(now)
    if down is False:
        return
    if known is not None:
        yield Lasting(NewsKind.DOWN, known, {})
    elif down and down_since is not None and now.now - down_since >= OUTAGE:
        at = down_since.isoformat()
        yield Lasting(NewsKind.DOWN, at, {"version": or_none(now.current), "at": at})


def _person(now: SiteStatus, limits: AlertLimits) -> Iterator[Lasting]:
    journal = now.journal
    if isinstance(journal, Exception):
        code = journal.code if isinstance(journal, UpdaterError) else UpdaterError.message.code
        yield Lasting(NewsKind.NEEDS_PERSON, code, {"code": code})
        return
    bad_releases = {row.version: row.code for row in journal.bad_releases}
    owed = journal.owed
    if owed is not None and not owed.by_itself:
        bad = owed.change
        values: dict[str, object] = {
            "change": bad.id, "from": bad.from_version, "version": bad.to_version,
            "code": bad_releases.get(bad.to_version),
        }  # fmt: skip
        yield Lasting(NewsKind.NEEDS_PERSON, f"bad {bad.id}", values)
    change = journal.change
    if change is None:
        return
    values = {
        "change": change.id, "from": change.from_version, "version": change.to_version,
    }  # fmt: skip
    if change.state is ChangeState.STUCK:
        values["code"] = change.error_code
        yield Lasting(NewsKind.NEEDS_PERSON, f"stuck {change.id}", values)
    elif change.committed and (
        journal.waits or (limits.only_reports and change.to_version in bad_releases)
    ):
        values["code"] = bad_releases.get(change.to_version)
        yield Lasting(NewsKind.NEEDS_PERSON, f"bad {change.id}", values)


def _target(now: SiteStatus, limits: AlertLimits, told: Mapping[str, str]) -> Iterator[Lasting]:
    found, journal = now.next, or_none(now.journal)
    if found is None or found.target is None:
        return
    version = {"version": found.target}
    yield Lasting(NewsKind.AVAILABLE, found.target, {**version, "from": or_none(now.current)})
    if found.voids:
        yield Lasting(NewsKind.APPROVAL_VOID, f"{found.target} {len(found.voids)}", version)
    if journal is not None and found.event != journal.event:
        # It was found before what happened last: it may be installed, or have failed, by now. What
        # was told lasts until the service has looked again; nobody is asked for anything till then.
        yield from (Lasting(kind, told[kind], {}) for kind in ASKS if kind in told)
        return
    ready = found.binding and found.rehearsed in (Rehearsed.PASSED, Rehearsed.NOT_WANTED)
    if not ready or not limits.self_starting:
        return
    if journal is None or journal.holds or journal.change is not None:
        return
    missing = journal.people(found.binding, limits.approvals).missing
    if missing and (found.left or not limits.automatic):
        yield Lasting(NewsKind.WAITS, f"{found.binding} {missing}", {**version, "missing": missing})
        return
    chosen = journal.scheduled(found.binding)
    begins = _begins(now.now, chosen.not_before if chosen else None, limits)
    if begins is not None and begins - now.now <= limits.window:
        at = begins.isoformat()
        predicted = stop_range(now.rehearsal)
        stop = dict(zip(("low_s", "high_s"), predicted, strict=True)) if predicted else {}
        yield Lasting(NewsKind.WINDOW, f"{found.target} {at}", {**version, "at": at, **stop})


def _begins(now: datetime, not_before: datetime | None, limits: AlertLimits) -> datetime | None:
    """When an upgrade may begin at the earliest; None where that is now, or never."""
    start = max(now, not_before) if not_before else now
    if limits.windows:
        opening = next_opening(limits.windows, start, limits.zone)
        if opening is None:
            return None
        start = max(start, opening.start)
    return start if start > now else None


def _feed(now: SiteStatus, limits: AlertLimits) -> Iterator[Lasting]:
    view = or_none(now.view)
    if view is None:
        return
    ends = view.expires_at
    at = ends.isoformat()
    if view.stale(now.now):
        yield Lasting(NewsKind.FEED_STALE, "stale", {"at": at})
    elif ends - now.now < limits.feed:
        days = round((ends - now.now) / timedelta(days=1), 1)
        yield Lasting(NewsKind.FEED_LAPSING, "lapsing", {"at": at, "days": days})


def fresh(
    now: SiteStatus,
    limits: AlertLimits,
    told: Mapping[str, str],
    down_since: datetime | None = None,
) -> tuple[tuple[News, ...], dict[str, str]]:
    """Return the states that have begun, as news, and what now counts as told.

    That officers can work again is told where they were told that they cannot.
    """
    news: list[News] = []
    after: dict[str, str] = {}
    for state in lasting(now, limits, told, down_since):
        # Several of one kind (agents that were given up) count together.
        kind = state.kind.value
        after[kind] = f"{after[kind]}; {state.key}" if kind in after else state.key
        if state.key not in told.get(kind, "").split("; "):
            number = f"{kind} {state.key} {now.now.isoformat()}"
            values = {f"{name}_": value for name, value in state.values.items()}
            news.append(News.of(number[:100], state.kind, now.now, **values))
    ended = told.get(NewsKind.DOWN)
    if ended is not None and NewsKind.DOWN not in after:
        number = f"{NewsKind.UP} {ended}"
        current = or_none(now.current)
        news.append(News.of(number[:100], NewsKind.UP, now.now, version=current, at_=ended))
    return tuple(news), after
