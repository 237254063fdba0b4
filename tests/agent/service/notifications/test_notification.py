"""Tests of the values allowed in notifications: an allow-list, no records of the application."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from ncen_updater.agent.model.event_names import NotificationKind
from ncen_updater.agent.service.notifications.notification import (
    RULES,
    Notification,
    filter_values,
    format_notification,
)
from ncen_updater.agent.service.notifications.send_worker import MessageContext, compose_message
from ncen_updater.common.i18n import PLACEHOLDER
from ncen_updater.common.labels import explain_code

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
#: Values of the application's records, as they might get into an event by mistake.
PLANTED = (
    "Amina Wanjiru", "Amina", "amina.wanjiru@example.org", "KE-2026-00017", "Loxodonta africana",
    "Key (name)=(Amina) already exists", "A1234567", "3.3.0 Amina", "NU-1234 Amina",
    "2026-03-01T12:00:00", "1.2.3+amina", "3.3.0\nAmina", ["Amina"], {"a": "Amina"}, None, True,
    float("nan"), float("inf"), 1e300, "uid 1 Amina", "Zoë",
)  # fmt: skip


@pytest.mark.parametrize("kind", NotificationKind)
@pytest.mark.parametrize("value", PLANTED, ids=repr)
def test_record_values_are_filtered_under_any_name(kind: NotificationKind, value: object) -> None:
    names = {*RULES[kind].values, "name", "error", "detail", "reason", "what"}
    assert filter_values(kind, dict.fromkeys(names, value)) == {}


def test_allowed_values_are_kept() -> None:
    news = Notification.create(
        "n", NotificationKind.REHEARSED, AT, from_="3.2.4", version="4.0.0rc1", low_s=1, likely_s=2,
        high_s=2.5, mapped=212, unmapped=3, checks=4, error="Amina",
    )  # fmt: skip
    assert set(news.values) == set(RULES[NotificationKind.REHEARSED].values)
    assert Notification.from_json(news.to_json()) == news


def test_altered_file_cannot_add_values() -> None:
    data = Notification.create("n", NotificationKind.UPGRADE_FAILED, AT, version="3.3.0").to_json()
    data["values"] = {"version": "3.3.0", "code": "Amina", "name": "Amina"}
    assert Notification.from_json(data).values == {"version": "3.3.0"}


@pytest.mark.parametrize("kind", NotificationKind)
def test_every_kind_has_a_text_with_allowed_values_only(kind: NotificationKind) -> None:
    assert set(PLACEHOLDER.findall(RULES[kind].title)) <= set(RULES[kind].values)
    said = format_notification(Notification.create("n", kind, AT), UTC)
    assert "{" not in " ".join(str(text) for text in said)


def test_code_is_explained_without_error_values() -> None:
    known = explain_code("NU-6011")
    assert known is not None
    assert "{" not in str(known[0])
    assert explain_code("NU-0000") is None
    said = format_notification(
        Notification.create("n", NotificationKind.UPGRADE_FAILED, AT, code="NU-0000"),
        UTC,
    )
    assert "NU-0000" in str(said[1])


@pytest.mark.parametrize("code", ["NU-6008", "NU-6009", "NU-4006"])
def test_reason_with_filtered_values_is_omitted(code: str) -> None:
    """Seen: "Reason NU-6008: … … did not become healthy in … seconds: …"."""
    said = format_notification(
        Notification.create("n", NotificationKind.UPGRADE_FAILED, AT, version="3.3.0", code=code),
        UTC,
    )
    whole = "\n".join(map(str, said))
    assert "…" not in whole
    assert f"Code {code}. Run on the server: ncen-updater history" in whole


def test_times_are_local_to_the_site() -> None:
    news = Notification.create(
        "n",
        NotificationKind.UPGRADE_UPCOMING,
        AT,
        version="3.3.0",
        at_=AT.isoformat(),
        low_s=60,
        likely_s=75,
        high_s=90,
    )
    reader = MessageContext("ke-1", "en", ZoneInfo("Africa/Nairobi"))
    letter = compose_message("id", [news], 0, reader)
    assert letter.subject == "[ke-1] Upgrade to 3.3.0 starts at 2026-03-01 15:00 EAT"
    assert "Downtime: about 1 min 15 s (at most 1 min 30 s)" in letter.body
    assert letter.body.startswith("2026-03-01 15:00 EAT  Upgrade")
    assert not letter.is_critical
