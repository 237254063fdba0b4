"""Pacing of notifications: a few an hour, several events in one, urgent ones first. Pure.

* An urgent event is sent at once, together with all waiting ones.
* Other events wait a while for more, and leave the last message of the hour to urgent ones (where
  there is more than one an hour).
* A message that could not be delivered is tried again after delays that grow to an hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

HOUR = timedelta(hours=1)
#: So many news go into one message.
MAX_PER_MESSAGE = 50
FIRST_RETRY_DELAY = timedelta(minutes=1)


@dataclass(frozen=True)
class PendingNotification:
    """News that has not been told."""

    id: str
    at: datetime
    urgent: bool


@dataclass(frozen=True)
class MessageLimits:
    """How often may be told.

    Attributes:
        per_hour: The most messages in any hour.
        batch_delay: What is not urgent waits so long for others.
    """

    per_hour: int
    batch_delay: timedelta


@dataclass(frozen=True)
class SendNow:
    """Send these now, in this order."""

    ids: tuple[str, ...]


@dataclass(frozen=True)
class SendLater:
    """Send nothing before this time."""

    until: datetime


def decide_sending(
    waiting: Sequence[PendingNotification],
    sent: Iterable[datetime],
    now: datetime,
    limits: MessageLimits,
) -> SendNow | SendLater | None:
    """Decide what is sent on one way.

    Args:
        waiting: What has not been told on this way.
        sent: When messages were sent on it; a time that has not come yet counts as now.
        now: The time.
        limits: How often may be told.

    Returns:
        What to send, until when to wait, or None where there is nothing to tell.
    """
    if not waiting:
        return None
    recent = sorted(at for at in (min(at, now) for at in sent) if at > now - HOUR)
    urgent = any(item.urgent for item in waiting)
    reserved = 0 if urgent or limits.per_hour == 1 else 1
    # So many have to be older than an hour before one more may go.
    too_many = len(recent) - (limits.per_hour - reserved) + 1
    if too_many > 0:
        return SendLater(recent[too_many - 1] + HOUR)
    if not urgent:
        ready = min(min(item.at, now) for item in waiting) + limits.batch_delay
        if ready > now:
            return SendLater(ready)
    order = sorted(waiting, key=lambda item: (not item.urgent, item.at, item.id))
    return SendNow(tuple(item.id for item in order[:MAX_PER_MESSAGE]))


def compute_retry_at(last: datetime, failures: int) -> datetime:
    """Return when a message is tried again after so many failures in a row, at least one."""
    delay: timedelta = FIRST_RETRY_DELAY * 2 ** min(failures - 1, 10)
    return last + min(HOUR, delay)
