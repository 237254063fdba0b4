"""Outbox of sent and pending notifications: one file, replaced atomically.

The number of the last event read and its notifications are in the same file, so that a crash
neither loses nor duplicates one. A message is stored before it is sent, and is sent again with the
same ID if its delivery is unknown: receivers recognise the ID (``Message-ID``, ``NCEN-Message``).
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
from ncen_updater.common.bounded_io import (
    FileTooLargeError,
    NotRegularFileError,
    parse_json,
    read_file,
)
from ncen_updater.common.json_records import JsonRecord

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MAX_FILE_BYTES = 4_000_000
#: Limits for undelivered notifications; beyond them they are dropped, and the next message says so.
MAX_PENDING = 300
MAX_AGE = timedelta(days=7)
RATE_WINDOW = timedelta(hours=2)
HOUR = timedelta(hours=1)
#: Notifications per message.
MAX_PER_MESSAGE = 50
FIRST_RETRY_DELAY = timedelta(minutes=1)


@dataclass(frozen=True)
class MessageLimits:
    """Rate limits.

    Attributes:
        per_hour: Maximum number of messages in any hour.
        batch_delay: Time that a notification waits for others if it is not critical.
    """

    per_hour: int
    batch_delay: timedelta


@dataclass(frozen=True)
class SendNow:
    """Send these notifications now, in this order."""

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
    """Decide what to send on a channel now. Pure.

    Critical notifications are sent at once, together with all others that wait. Others wait for the
    batch delay, and leave the last message of the hour to critical ones (if more than one message
    per hour is allowed).

    Args:
        waiting: Pending notifications of the channel.
        sent: Times of its sent messages; a future time counts as now.
        now: The current time.
        limits: Rate limits.

    Returns:
        What to send, until when to wait, or None if nothing is pending.
    """
    if not waiting:
        return None
    recent = sorted(at for at in (min(at, now) for at in sent) if at > now - HOUR)
    critical = any(item.is_critical for item in waiting)
    reserved = 0 if critical or limits.per_hour == 1 else 1
    # Number of messages that must be older than an hour before the next one.
    too_many = len(recent) - (limits.per_hour - reserved) + 1
    if too_many > 0:
        return SendLater(recent[too_many - 1] + HOUR)
    if not critical:
        ready = min(min(item.at, now) for item in waiting) + limits.batch_delay
        if ready > now:
            return SendLater(ready)
    order = sorted(waiting, key=lambda item: (not item.is_critical, item.at, item.id))
    return SendNow(tuple(item.id for item in order[:MAX_PER_MESSAGE]))


def compute_retry_at(last: datetime, failures: int) -> datetime:
    """Return the time of the next attempt after consecutive failures, at least one."""
    delay: timedelta = FIRST_RETRY_DELAY * 2 ** min(failures - 1, 10)
    return last + min(HOUR, delay)


@dataclass(frozen=True)
class OutboxMessage(JsonRecord):
    """A message that is being sent.

    Attributes:
        id: Message ID, the same for every attempt.
        notification_ids: IDs of its notifications, in order.
    """

    id: str
    notification_ids: tuple[str, ...]


@dataclass(frozen=True)
class DeliveryChannel(JsonRecord):
    """One channel: ``mail`` or ``webhook``.

    Attributes:
        pending: IDs of undelivered notifications.
        sent_at: Times of sent messages, as far as the rate limit needs them.
        message: The message that is being sent, from before its first attempt until its delivery.
        failures: Consecutive failed attempts.
        last_attempt_at: Time of the last failed attempt.
        dropped: Number of dropped notifications.
    """

    pending: tuple[str, ...] = ()
    sent_at: tuple[datetime, ...] = ()
    message: OutboxMessage | None = None
    failures: int = 0
    last_attempt_at: datetime | None = None
    dropped: int = 0

    def restrict_to(self, notification_ids: Collection[str]) -> DeliveryChannel:
        """Return the channel with only existing notifications; an empty message is removed."""
        waiting = tuple(number for number in self.pending if number in notification_ids)
        content = (
            tuple(i for i in self.message.notification_ids if i in notification_ids)
            if self.message
            else ()
        )
        message = OutboxMessage(self.message.id, content) if self.message and content else None
        return replace(self, pending=waiting, message=message)

    def compute_retry_time(self) -> datetime | None:
        """Return the earliest time of the next attempt after failures; None without failures."""
        if not self.failures or self.last_attempt_at is None:
            return None
        return compute_retry_at(self.last_attempt_at, self.failures)


@dataclass(frozen=True)
class Outbox(JsonRecord):
    """Content of the outbox file.

    Attributes:
        last_event: Number of the last journal event processed.
        reported: Key of each reported condition by its kind.
        notifications: Notifications pending on any channel, by ID.
        channels: Channels by name.
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
        """Return the outbox with new notifications; channels no longer configured are removed."""
        fresh = {item.id: item for item in notifications}
        configured = {name: self.channels.get(name, DeliveryChannel()) for name in channels}
        extended = {
            name: replace(
                channel,
                pending=(*channel.pending, *(i for i in fresh if i not in channel.pending)),
            )
            for name, channel in configured.items()
        }
        return replace(
            self,
            last_event=event,
            reported=reported,
            notifications={**self.notifications, **fresh},
            channels=extended,
        )._drop_unreferenced()

    def without_expired(self, now: datetime) -> Self:
        """Return the outbox without notifications that were undelivered for too long."""
        channels = {}
        for name, channel in self.channels.items():
            sending = set(channel.message.notification_ids) if channel.message else set()
            remaining = [
                i
                for i in channel.pending
                if i in sending or self.notifications[i].at > now - MAX_AGE
            ]
            excess = len(remaining) - MAX_PENDING
            if excess > 0:
                droppable = [i for i in remaining if i not in sending]
                droppable.sort(key=lambda i: self.notifications[i].is_critical)  # dropped last
                dropped = set(droppable[:excess])
                remaining = [i for i in remaining if i not in dropped]
            lost = len(channel.pending) - len(remaining)
            channels[name] = replace(
                channel, pending=tuple(remaining), dropped=channel.dropped + lost
            )
        return replace(self, channels=channels)._drop_unreferenced()

    def start_delivery(self, name: str, ids: tuple[str, ...]) -> Self:
        """Return the outbox with a new message for a channel."""
        number = hashlib.sha256("\n".join((name, *ids)).encode()).hexdigest()[:32]
        return self._update_channel(name, message=OutboxMessage(number, ids))

    def mark_sent(self, name: str, at: datetime) -> Self:
        """Return the outbox after a channel's message was delivered."""
        channel = self.channels[name]
        sent = set(channel.message.notification_ids) if channel.message else set()
        recent = tuple(t for t in channel.sent_at if at - RATE_WINDOW < t <= at)
        return self._update_channel(
            name, message=None, failures=0, last_attempt_at=None, dropped=0, sent_at=(*recent, at),
            pending=tuple(i for i in channel.pending if i not in sent),
        )._drop_unreferenced()  # fmt: skip

    def mark_failed(self, name: str, at: datetime) -> Self:
        """Return the outbox after an attempt to deliver a channel's message failed."""
        return self._update_channel(
            name, failures=self.channels[name].failures + 1, last_attempt_at=at
        )

    def _update_channel(self, name: str, **changes: Any) -> Self:  # noqa: ANN401 - any fields
        return replace(
            self, channels={**self.channels, name: replace(self.channels[name], **changes)}
        )

    def _drop_unreferenced(self) -> Self:
        pending = {number for channel in self.channels.values() for number in channel.pending}
        return replace(
            self, notifications={i: item for i, item in self.notifications.items() if i in pending}
        )

    # ---- the file --------------------------------------------------------------------------------

    def to_json(self) -> dict[str, object]:
        """Return the JSON document of the file."""
        notifications = [item.to_json() for item in self.notifications.values()]
        return {**super().to_json(), "schema": SCHEMA_VERSION, "notifications": notifications}

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Parse the JSON document of the file.

        Raises:
            ValueError, KeyError, TypeError: If it is invalid.
        """
        if not isinstance(data, dict) or data["schema"] != SCHEMA_VERSION:
            raise ValueError("not an outbox of this version")
        by_id = {item["id"]: item for item in data["notifications"]}
        outbox = super().from_json({**data, "notifications": by_id})
        channels = {
            name: channel.restrict_to(outbox.notifications)
            for name, channel in outbox.channels.items()
        }
        return replace(outbox, channels=channels)._drop_unreferenced()


class OutboxFile:
    """The outbox file.

    Args:
        path: Path of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unsaved: Outbox | None = None

    def load(self) -> Outbox | None:
        """Read the file; None if it is missing, or damaged and therefore renamed.

        An outbox that could not be saved is saved first, and returned in any case.

        Raises:
            OSError: If it cannot be read now, as with too many open files.
        """
        if self._unsaved is not None:
            unsaved = self._unsaved
            self.save(unsaved)
            return unsaved
        try:
            data = parse_json(read_file(self._path, MAX_FILE_BYTES))
            return Outbox.from_json(data)
        except FileNotFoundError:
            return None
        except (
            ValueError, KeyError, TypeError, NotRegularFileError, FileTooLargeError,
        ) as error:  # fmt: skip
            logger.warning(
                "%s is damaged and set aside; notifications continue from now: %s",
                self._path,
                error,
            )
            aside = self._path.with_suffix(".damaged")
            durable.rename_entry(self._path, aside)
            return None

    def save(self, outbox: Outbox) -> None:
        """Replace the file atomically; on a full disk, keep the outbox in memory.

        So a full disk, which people need to know about, is notified. After a restart, messages
        that were sent meanwhile are sent again.
        """
        content = json.dumps(outbox.to_json(), sort_keys=True, indent=1).encode()
        self._unsaved = outbox
        try:
            durable.write_file(self._path, content, 0o640)
        except OSError as error:
            logger.warning("cannot write %s: %s", self._path, error)
        else:
            self._unsaved = None
