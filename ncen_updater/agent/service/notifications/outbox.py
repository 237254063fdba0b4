"""Outbox of sent and pending notifications: one file, replaced in one step.

The number of the last event that was read and its notifications are in the same file, so a crash
neither loses nor duplicates one. A message is stored before it is sent, and sent again under the
same number where its delivery is unknown: receivers recognise it by that number (``Message-ID``,
``NCEN-Message``).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

from ncen_updater.agent.service.notifications.notification import Notification
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import parse_json, read_file
from ncen_updater.common.json_records import JsonRecord

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MAX_FILE_BYTES = 4_000_000
#: What nobody took for so long, or beyond so many, is given up; the message says how much that was.
MAX_PENDING = 300
MAX_AGE = timedelta(days=7)
RATE_WINDOW = timedelta(hours=2)
HOUR = timedelta(hours=1)
#: So many news go into one message.
MAX_PER_MESSAGE = 50
FIRST_RETRY_DELAY = timedelta(minutes=1)


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
    waiting: Sequence[Notification],
    sent: Iterable[datetime],
    now: datetime,
    limits: MessageLimits,
) -> SendNow | SendLater | None:
    """Decide what is sent on one way. Pure.

    What is urgent goes at once, and takes along whatever else waits. What is not urgent waits a
    while for others, and leaves the last message of the hour to what is urgent (where there is more
    than one an hour).

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


@dataclass(frozen=True)
class OutboxMessage(JsonRecord):
    """What was put together to be sent.

    Attributes:
        id: Of the message; the same for every try.
        notification_ids: Ids of what is in it, in order.
    """

    id: str
    notification_ids: tuple[str, ...]


@dataclass(frozen=True)
class DeliveryChannel(JsonRecord):
    """One way on which people are told: ``mail`` or ``webhook``.

    Attributes:
        pending: Ids of news that were not told on it.
        sent_at: When messages were sent, as far as that still counts.
        message: What is being sent, from before its first try until it was taken.
        failures: Tries in a row that failed.
        last_attempt_at: The last of them.
        dropped: News that were given up.
    """

    pending: tuple[str, ...] = ()
    sent_at: tuple[datetime, ...] = ()
    message: OutboxMessage | None = None
    failures: int = 0
    last_attempt_at: datetime | None = None
    dropped: int = 0

    def restrict_to(self, notification_ids: Collection[str]) -> DeliveryChannel:
        """Return it with what is there to be told; a message of nothing is none."""
        waiting = tuple(number for number in self.pending if number in notification_ids)
        content = (
            tuple(i for i in self.message.notification_ids if i in notification_ids)
            if self.message
            else ()
        )
        message = OutboxMessage(self.message.id, content) if self.message and content else None
        return replace(self, pending=waiting, message=message)

    def compute_retry_time(self) -> datetime | None:
        """Compute when it may be tried again after failures."""
        if not self.failures or self.last_attempt_at is None:
            return None
        return compute_retry_at(self.last_attempt_at, self.failures)


@dataclass(frozen=True)
class Outbox(JsonRecord):
    """Everything that is kept.

    Attributes:
        last_event: Number of the journal's last event that was looked at.
        reported: Kind of a lasting state to the key under which it was told.
        notifications: What is still to be told on some way, by id.
        channels: By name.
    """

    last_event: int
    reported: Mapping[str, str] = field(default_factory=dict)
    notifications: Mapping[str, Notification] = field(default_factory=dict)
    channels: Mapping[str, DeliveryChannel] = field(default_factory=dict)

    def with_notifications(
        self,
        event: int,
        reported: Mapping[str, str],
        notifications: Iterable[Notification],
        channels: Iterable[str],
    ) -> Self:
        """Return it with what was found since; ways that are configured no more are forgotten."""
        fresh = {item.id: item for item in notifications}
        retained = {name: self.channels.get(name, DeliveryChannel()) for name in channels}
        grown = {
            name: replace(way, pending=(*way.pending, *(i for i in fresh if i not in way.pending)))
            for name, way in retained.items()
        }
        return replace(
            self,
            last_event=event,
            reported=reported,
            notifications={**self.notifications, **fresh},
            channels=grown,
        )._drop_unreferenced()

    def without_expired(self, now: datetime) -> Self:
        """Return it without what nobody took for too long."""
        ways = {}
        for name, way in self.channels.items():
            fixed = set(way.message.notification_ids) if way.message else set()
            young = [
                i for i in way.pending if i in fixed or self.notifications[i].at > now - MAX_AGE
            ]  # fmt: skip
            spare = len(young) - MAX_PENDING
            if spare > 0:
                calm = [i for i in young if i not in fixed and not self.notifications[i].urgent]
                gone = set([*calm, *(i for i in young if i not in fixed)][:spare])
                young = [i for i in young if i not in gone]
            lost = len(way.pending) - len(young)
            ways[name] = replace(way, pending=tuple(young), dropped=way.dropped + lost)
        return replace(self, channels=ways)._drop_unreferenced()

    def start_delivery(self, name: str, ids: tuple[str, ...]) -> Self:
        """Return it with a message put together for a way."""
        number = hashlib.sha256("\n".join((name, *ids)).encode()).hexdigest()[:32]
        return self._update_channel(name, message=OutboxMessage(number, ids))

    def mark_sent(self, name: str, at: datetime) -> Self:
        """Return it after the message of a way was taken."""
        way = self.channels[name]
        done = set(way.message.notification_ids) if way.message else set()
        recent = tuple(t for t in way.sent_at if at - RATE_WINDOW < t <= at)
        return self._update_channel(
            name, message=None, failures=0, last_attempt_at=None, dropped=0, sent_at=(*recent, at),
            pending=tuple(i for i in way.pending if i not in done),
        )._drop_unreferenced()  # fmt: skip

    def mark_failed(self, name: str, at: datetime) -> Self:
        """Return it after the message of a way was not taken."""
        return self._update_channel(
            name, failures=self.channels[name].failures + 1, last_attempt_at=at
        )

    def _update_channel(self, name: str, **changes: Any) -> Self:  # noqa: ANN401 - fields of Way
        return replace(
            self, channels={**self.channels, name: replace(self.channels[name], **changes)}
        )

    def _drop_unreferenced(self) -> Self:
        wanted = {number for way in self.channels.values() for number in way.pending}
        return replace(
            self, notifications={i: item for i, item in self.notifications.items() if i in wanted}
        )

    # ---- the file --------------------------------------------------------------------------------

    def to_json(self) -> dict[str, object]:
        """Return it as the file holds it."""
        news = [item.to_json() for item in self.notifications.values()]
        return {**super().to_json(), "schema": SCHEMA_VERSION, "notifications": news}

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Read what the file holds.

        Raises:
            ValueError, KeyError, TypeError: If it is something else.
        """
        if not isinstance(data, dict) or data["schema"] != SCHEMA_VERSION:
            raise ValueError("not an outbox of this version")
        news = {item["id"]: item for item in data["notifications"]}
        found = super().from_json({**data, "notifications": news})
        ways = {name: way.restrict_to(found.notifications) for name, way in found.channels.items()}
        return replace(found, channels=ways)._drop_unreferenced()


class OutboxFile:
    """The file that keeps it.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Outbox | None:
        """Read it; None where there is none, or one that is damaged and put aside."""
        try:
            data = parse_json(read_file(self._path, MAX_FILE_BYTES))
            return Outbox.from_json(data)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OSError) as error:
            logger.warning(
                "%s is damaged and put aside; news go on from now: %s", self._path, error
            )
            aside = self._path.with_suffix(".damaged")
            durable.rename_entry(self._path, aside)
            return None

    def save(self, outbox: Outbox) -> None:
        """Replace it in one step."""
        content = json.dumps(outbox.to_json(), sort_keys=True, indent=1).encode()
        durable.write_file(self._path, content, 0o640)
