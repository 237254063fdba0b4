"""Lasting states that are told once, when they begin, and again only after they had ended. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from ncen_updater.agent.journal.change import ChangeState
from ncen_updater.agent.notifications.news import Kind, News
from ncen_updater.agent.notifications.situation import Situation
from ncen_updater.agent.policy.automation import Rehearsed

__all__ = ["Limits", "fresh", "lasting"]

#: A disk has to have so much more free space, per cent, before it may be told anew.
RECOVERED = 2.0


@dataclass(frozen=True)
class Limits:
    """From when on a state is told.

    Attributes:
        window: So long before an upgrade begins.
        feed: So long before the lists lapse.
        disk_percent: Less free space than this.
        automatic: Whether nobody has to approve.
        self_starting: Whether the service begins upgrades by itself at all.
        only_reports: Whether a release that turns bad in its watched time waits for a person.
    """

    window: timedelta = timedelta(hours=12)
    feed: timedelta = timedelta(days=5)
    disk_percent: float = 10.0
    automatic: bool = False
    self_starting: bool = True
    only_reports: bool = False


@dataclass(frozen=True)
class Lasting:
    """One state: ``key`` says whether it is the same as before."""

    kind: Kind
    key: str
    values: Mapping[str, object]


def lasting(now: Situation, limits: Limits, told: Mapping[str, str]) -> Iterator[Lasting]:
    """Yield the states that hold and are to be told.

    Args:
        now: How the site stands.
        limits: From when on a state is told.
        told: What was told and has not ended since.
    """
    yield from _person(now, limits)
    yield from _target(now, limits)
    yield from _feed(now, limits)
    if now.view is not None and now.current in now.view.withdrawn:
        yield Lasting(Kind.WITHDRAWN, str(now.current), {"version": now.current})
    if now.agent is not None:
        for version, bad in now.agent.bad.items():
            key = f"{version} {bad.times}"
            yield Lasting(Kind.AGENT_RETURNED, key, {"version": version})
    if now.free_percent:
        free = min(now.free_percent.values())
        bound = limits.disk_percent + (RECOVERED if Kind.DISK in told else 0.0)
        if free < bound:
            yield Lasting(Kind.DISK, "low", {"free_percent": free})


def _person(now: Situation, limits: Limits) -> Iterator[Lasting]:
    if now.journal_code is not None:
        yield Lasting(Kind.NEEDS_PERSON, now.journal_code, {"code": now.journal_code})
        return
    owed = now.owed
    if owed is not None and not owed.by_itself:
        bad = owed.change
        values: dict[str, object] = {
            "change": bad.id, "from": bad.from_version, "version": bad.to_version,
            "code": now.bad_releases.get(bad.to_version),
        }  # fmt: skip
        yield Lasting(Kind.NEEDS_PERSON, f"bad {bad.id}", values)
    change = now.change
    if change is None:
        return
    values = {
        "change": change.id, "from": change.from_version, "version": change.to_version,
    }  # fmt: skip
    if change.state is ChangeState.STUCK:
        code = change.error_code
        yield Lasting(Kind.NEEDS_PERSON, f"stuck {change.id}", {**values, "code": code})
    elif change.committed and (
        now.waits or (limits.only_reports and change.to_version in now.bad_releases)
    ):
        code = now.bad_releases.get(change.to_version)
        yield Lasting(Kind.NEEDS_PERSON, f"bad {change.id}", {**values, "code": code})


def _target(now: Situation, limits: Limits) -> Iterator[Lasting]:
    found = now.assessment
    if found is None or found.target is None:
        return
    version = {"version": found.target}
    yield Lasting(Kind.AVAILABLE, found.target, {**version, "from": now.current})
    if found.voids:
        yield Lasting(Kind.APPROVAL_VOID, f"{found.target} {len(found.voids)}", version)
    ready = found.binding and found.rehearsed in (Rehearsed.PASSED, Rehearsed.NOT_WANTED)
    if not ready or now.held or now.change is not None or not limits.self_starting:
        return
    if now.missing_approvals and (found.left or not limits.automatic):
        values = {**version, "missing": now.missing_approvals}
        yield Lasting(Kind.WAITS, f"{found.binding} {now.missing_approvals}", values)
        return
    if now.begins_at is not None and now.begins_at - now.now <= limits.window:
        at = now.begins_at.isoformat()
        stop = dict(zip(("low_s", "high_s"), now.stop, strict=True)) if now.stop else {}
        yield Lasting(Kind.WINDOW, f"{found.target} {at}", {**version, "at": at, **stop})


def _feed(now: Situation, limits: Limits) -> Iterator[Lasting]:
    if now.view is None:
        return
    ends = now.view.expires_at
    at = ends.isoformat()
    if now.view.stale(now.now):
        yield Lasting(Kind.FEED_STALE, "stale", {"at": at})
    elif ends - now.now < limits.feed:
        days = round((ends - now.now) / timedelta(days=1), 1)
        yield Lasting(Kind.FEED_LAPSING, "lapsing", {"at": at, "days": days})


def fresh(
    now: Situation, limits: Limits, told: Mapping[str, str]
) -> tuple[tuple[News, ...], dict[str, str]]:
    """Return the states that have begun, as news, and what now counts as told."""
    news: list[News] = []
    after: dict[str, str] = {}
    for state in lasting(now, limits, told):
        # Several of one kind (agents that were given up) count together.
        kind = state.kind.value
        after[kind] = f"{after[kind]}; {state.key}" if kind in after else state.key
        if state.key not in told.get(kind, "").split("; "):
            number = f"{kind} {state.key} {now.now.isoformat()}"
            values = {f"{name}_": value for name, value in state.values.items()}
            news.append(News.of(number[:100], state.kind, now.now, **values))
    return tuple(news), after
