"""Tests of the outbox: nothing twice, nothing lost, and bounded."""

from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from ncen_updater.agent.model.event_names import NotificationKind
from ncen_updater.agent.service.notifications import outbox
from ncen_updater.agent.service.notifications.notification import Notification
from ncen_updater.agent.service.notifications.outbox import (
    MAX_AGE,
    MAX_PENDING,
    Outbox,
    OutboxFile,
    OutboxMessage,
)

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WAYS = ("mail", "webhook")


def news(
    number: int, kind: NotificationKind = NotificationKind.AVAILABLE, at: datetime = AT
) -> Notification:
    return Notification.create(f"event {number}", kind, at, version="3.3.0")


def test_notifications_wait_per_channel_until_delivered() -> None:
    box = Outbox(0).with_notifications(3, {}, [news(1), news(2)], WAYS)
    box = box.start_delivery("mail", ("event 1", "event 2")).mark_sent("mail", AT)
    assert box.channels["mail"].pending == ()
    assert box.channels["webhook"].pending == ("event 1", "event 2")
    box = box.start_delivery("webhook", ("event 2", "event 1")).mark_sent("webhook", AT)
    assert box.notifications == {}


def test_message_keeps_its_id_and_content_across_retries() -> None:
    box = Outbox(0).with_notifications(1, {}, [news(1)], WAYS).start_delivery("mail", ("event 1",))
    again = box.mark_failed("mail", AT).with_notifications(2, {}, [news(2)], WAYS)
    assert again.channels["mail"].message == box.channels["mail"].message
    assert again.channels["mail"].compute_retry_time() == AT + timedelta(minutes=1)
    done = again.mark_sent("mail", AT)
    assert done.channels["mail"].pending == ("event 2",)
    assert done.channels["mail"].failures == 0
    other = done.start_delivery("mail", ("event 2",)).channels["mail"].message
    assert other is not None
    assert other != box.channels["mail"].message


def test_duplicate_notification_is_stored_once() -> None:
    box = (
        Outbox(0)
        .with_notifications(1, {}, [news(1)], WAYS)
        .with_notifications(1, {}, [news(1)], WAYS)
    )
    assert box.channels["mail"].pending == ("event 1",)


def test_removed_channel_is_dropped() -> None:
    box = (
        Outbox(0)
        .with_notifications(1, {}, [news(1)], WAYS)
        .with_notifications(1, {}, [], ("mail",))
    )
    assert set(box.channels) == {"mail"}


def test_undelivered_notifications_expire_and_are_counted() -> None:
    old = AT - MAX_AGE
    box = (
        Outbox(0)
        .with_notifications(9, {}, [news(1, at=old), news(2)], ("mail",))
        .without_expired(AT)
    )
    assert box.channels["mail"].pending == ("event 2",)
    assert box.channels["mail"].dropped == 1
    many = [
        news(n, NotificationKind.UPGRADE_FAILED if n == 0 else NotificationKind.AVAILABLE)
        for n in range(MAX_PENDING + 5)
    ]
    box = Outbox(0).with_notifications(9, {}, many, ("mail",)).without_expired(AT)
    assert len(box.channels["mail"].pending) == MAX_PENDING
    assert "event 0" in box.notifications
    assert "event 1" not in box.notifications
    assert box.channels["mail"].dropped == 5


def test_limit_holds_even_if_critical_notifications_must_be_dropped() -> None:
    many = [
        news(n, NotificationKind.AVAILABLE if n == 0 else NotificationKind.UPGRADE_FAILED)
        for n in range(MAX_PENDING + 2)
    ]
    box = Outbox(0).with_notifications(9, {}, many, ("mail",)).without_expired(AT)
    assert len(box.channels["mail"].pending) == MAX_PENDING
    assert box.channels["mail"].dropped == 2


def test_notification_being_sent_does_not_expire() -> None:
    box = Outbox(0).with_notifications(9, {}, [news(1, at=AT - MAX_AGE)], ("mail",))
    box = box.start_delivery("mail", ("event 1",)).without_expired(AT)
    assert box.channels["mail"].pending == ("event 1",)


def test_outbox_file_round_trips(tmp_path: Path) -> None:
    file = OutboxFile(tmp_path / "outbox.json")
    assert file.load() is None
    box = Outbox(5).with_notifications(7, {"available": "3.3.0"}, [news(1), news(2)], WAYS)
    box = box.start_delivery("mail", ("event 2", "event 1")).mark_failed("mail", AT)
    box = box.start_delivery("webhook", ("event 1",)).mark_sent("webhook", AT)
    file.save(box)
    assert file.load() == box


#: As the agent before the one codec wrote it.
STORED = """{"channels": {
 "mail": {"dropped": 0, "failures": 1, "last_attempt_at": "2026-03-01T12:00:00+00:00",
  "message": {"id": "1062533d2327f5ec988a8e8d2a227931", "notification_ids": ["event 2", "event 1"]},
  "pending": ["event 1", "event 2"], "sent_at": []},
 "webhook": {"dropped": 0, "failures": 0, "last_attempt_at": null, "message": null,
  "pending": ["event 2"], "sent_at": ["2026-03-01T12:00:00+00:00"]}},
 "last_event": 7, "notifications": [
 {"at": "2026-03-01T12:00:00+00:00", "id": "event 1", "kind": "available", "severity": "info",
  "values": {"version": "3.3.0"}},
 {"at": "2026-03-01T12:00:00+00:00", "id": "event 2", "kind": "release-withdrawn",
  "severity": "critical",
  "values": {"version": "3.3.0"}}],
 "reported": {"available": "3.3.0"}, "schema": 1}"""


def test_earlier_outbox_is_read_and_written_unchanged(tmp_path: Path) -> None:
    """An older agent reads the outbox of the newer one."""
    path = tmp_path / "outbox.json"
    path.write_text(STORED)
    box = OutboxFile(path).load()
    assert box is not None
    assert box.channels["mail"].message == OutboxMessage(
        "1062533d2327f5ec988a8e8d2a227931", ("event 2", "event 1")
    )
    OutboxFile(path).save(box)
    assert json.loads(path.read_text()) == json.loads(STORED)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"schema": 2}', b"\xff", b"[" * 100_000,
     b'{"schema": 1, "event": "1", "told": {}, "notifications": [], "ways": {}}',
     b'{"schema": 1, "event": 1, "told": {}, "notifications": [{}], "ways": {}}',
     b'{"schema": 1, "event": 1, "told": {}, "notifications": [], "ways": {"mail": 3}}'],
)  # fmt: skip
def test_damaged_outbox_is_set_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "outbox.json"
    path.write_bytes(content)
    assert OutboxFile(path).load() is None
    assert not path.exists()
    assert path.with_suffix(".damaged").read_bytes() == content


def test_outbox_that_cannot_be_opened_now_is_not_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Seen: too many open files cost all pending notifications.
    file, box = OutboxFile(tmp_path / "outbox.json"), Outbox(7)
    file.save(box)

    def fail(*_: object) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Too many open files"):
        patch.setattr(outbox, "read_file", fail)
        file.load()
    assert file.load() == box


def test_message_without_notifications_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "outbox.json"
    file = OutboxFile(path)
    file.save(
        Outbox(0).with_notifications(1, {}, [news(1)], WAYS).start_delivery("mail", ("event 1",))
    )
    data = json.loads(path.read_text())
    data["notifications"] = []
    path.write_text(json.dumps(data))
    box = file.load()
    assert box is not None
    assert box.channels["mail"].message is None
