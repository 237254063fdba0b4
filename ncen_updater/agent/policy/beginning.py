"""When the next upgrade begins by itself: for who approves, schedules or lifts a hold. Pure.

Asked of the decision that the service itself takes (:func:`.automation.obstacle`), at the instants
at which what stands in the way passes; nothing is reckoned twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from enum import StrEnum

from ncen_updater.agent.policy.automation import Inputs, Stays, obstacle
from ncen_updater.common.cli.render import format_minute
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.records import Record

#: So many things are looked at that pass by themselves, one after the other; there are five kinds.
MOST = 12
DAYS = (
    N_("Monday"), N_("Tuesday"), N_("Wednesday"), N_("Thursday"), N_("Friday"), N_("Saturday"),
    N_("Sunday"),
)  # fmt: skip


class BeginsWhen(StrEnum):
    """When an upgrade begins."""

    NOW = "now"
    AT = "at"
    NOT_BY_ITSELF = "not-by-itself"


@dataclass(frozen=True)
class Beginning(Record):
    """When an upgrade begins by itself.

    Attributes:
        when: Whether at once, at a time, or not without a person.
        at: The time.
        stays: What it waits for, where no time brings that.
        missing: How many people have yet to approve.
    """

    when: BeginsWhen
    at: datetime | None = None
    stays: Stays | None = None
    missing: int = 0


def beginning(facts: Inputs, *, serves: bool = True) -> Beginning:
    """Return when the service begins the upgrade, if nobody does anything any more. Pure.

    Args:
        facts: What the service decides by.
        serves: Whether it runs; nothing begins by itself without it.
    """
    found = _beginning(facts)
    if serves or found.when is BeginsWhen.NOT_BY_ITSELF:
        return found
    return Beginning(BeginsWhen.NOT_BY_ITSELF, None, Stays.NO_SERVICE)


def _beginning(facts: Inputs) -> Beginning:
    now = at = facts.now
    for _ in range(MOST):
        found = obstacle(facts)
        if found is None:
            return Beginning(BeginsWhen.NOW if at == now else BeginsWhen.AT, at)
        if found.until is None:
            return Beginning(BeginsWhen.NOT_BY_ITSELF, None, found.stays, facts.missing_approvals)
        at = max(found.until, at)
        facts = replace(facts, now=at)
        if facts.held_until is not None and facts.held_until <= at:
            facts = replace(facts, held=None, held_until=None)
    return Beginning(BeginsWhen.NOT_BY_ITSELF, None, Stays.NO_WINDOW)


def behind_another(found: Beginning, target: str | None, approved: Sequence[str]) -> Beginning:
    """Return when a release begins, where another one may have been approved that goes first. Pure.

    Args:
        found: When it would begin if it were the only one.
        target: The release.
        approved: Releases that enough people approved; the one that goes first is first.
    """
    if found.when is BeginsWhen.NOT_BY_ITSELF or not approved or approved[0] == target:
        return found
    return Beginning(BeginsWhen.NOT_BY_ITSELF, None, Stays.ANOTHER_FIRST)


def with_yes(facts: Inputs, begins: Beginning, *, counts: bool, serves: bool = True) -> Beginning:
    """Return when it would begin, once the person who is asked has approved. Pure.

    Args:
        facts: What the service decides by.
        begins: When it begins as it stands.
        counts: Whether theirs would be one more; that of who said yes before changes nothing.
        serves: Whether the service runs.
    """
    if not counts:
        return begins
    missing = max(0, facts.missing_approvals - 1)
    return beginning(replace(facts, missing_approvals=missing), serves=serves)


_WAITS = {
    Stays.HOLD: N_("It does not begin while upgrades are on hold ('ncen-updater unhold')."),
    Stays.NOTHING_ON_OFFER: N_("Nothing is on offer for this site: nothing begins."),
    Stays.APPROVAL: N_("It does not begin before {count} more have approved."),
    Stays.NOT_PREPARED: N_("It does not begin before it is here, rehearsed and approved."),
    Stays.NOT_REHEARSED: N_("It does not begin before it is rehearsed and approved."),
    Stays.REHEARSAL_FAILED: N_("It does not begin: its rehearsal failed."),
    Stays.NO_WINDOW: N_("It does not begin: no window ever opens here."),
    Stays.ONLY_TOLD: N_("It does not begin before somebody types 'ncen-updater upgrade'."),
    Stays.ANOTHER_FIRST: N_("It does not begin: another release was approved, and goes first."),
    Stays.NO_SERVICE: N_(
        "The service does not run: it does not begin before somebody types 'ncen-updater upgrade', "
        "or starts the service."
    ),
}
_BY_HAND = N_(
    "It does not begin before somebody types 'ncen-updater upgrade' or 'ncen-updater schedule "
    "TIME'."
)


def beginning_words(found: Beginning, zone: tzinfo | None) -> Text:
    """Say it in one sentence.

    Args:
        found: When it begins.
        zone: Zone of the site; that of the machine by default.
    """
    if found.when is BeginsWhen.NOW:
        return Text(N_("It begins now."))
    if found.at is not None:
        local = found.at.astimezone(zone)
        values = {"day": Text(DAYS[local.weekday()]), "at": format_minute(found.at, zone)}
        return Text(N_("It begins on {day} {at}."), values)
    words = _WAITS.get(found.stays, _BY_HAND) if found.stays else _BY_HAND
    return Text(words, {"count": found.missing})
