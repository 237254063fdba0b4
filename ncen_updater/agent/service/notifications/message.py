"""Puts a message together: words for a letter, and the same as values for a webhook. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from ncen_updater.agent.service.notifications.notification import Notification
from ncen_updater.agent.service.notifications.notification_text import (
    Explain,
    format_notification,
    format_title,
)
from ncen_updater.common.cli.render import format_scheduled_time
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import NOTIFY_ERROR


class NotificationError(UpdaterError):
    """A message could not be delivered."""

    message = NOTIFY_ERROR
    code_range = range(9601, 9650)


@dataclass(frozen=True)
class MessageContext:
    """For whom a message is.

    Attributes:
        site: Id of the site.
        language: Language of the words.
        zone: Zone of times.
    """

    site: str
    language: str
    zone: tzinfo


@dataclass(frozen=True)
class NotificationMessage:
    """A message.

    Attributes:
        id: The same for each try.
        subject: One line.
        body: Plain text.
        urgent: Whether something in it is.
        document: The same as values.
    """

    id: str
    subject: str
    body: str
    urgent: bool
    document: Mapping[str, Any]


def compose_message(
    number: str,
    notifications: Sequence[Notification],
    dropped: int,
    context: MessageContext,
    explain: Explain,
    chain_head: str = "",
) -> NotificationMessage:
    """Put a message together.

    Args:
        number: Its id.
        notifications: What is in it, at least one, the most urgent first.
        dropped: How much earlier news was given up undelivered.
        context: For whom.
        explain: Says what a code means.
        chain_head: The newest event of the journal, by number and hash.
    """

    def say(text: LazyText) -> str:
        return text.render(context.language)

    first = say(format_title(notifications[0], context.zone))
    more = len(notifications) - 1
    words = {"site": context.site, "first": first, "more": more}
    subject = say(LazyText(N_("[{site}] {first} (+{more})") if more else "[{site}] {first}", words))
    urgent = any(item.urgent for item in notifications)
    blocks, items = [], []
    for item in notifications:
        lines = [say(text) for text in format_notification(item, context.zone, explain)]
        at = format_scheduled_time(item.at, context.zone).render(context.language)
        blocks.append("\n".join([f"{at}  {lines[0]}", *(f"    {line}" for line in lines[1:])]))
        items.append({**item.to_json(), "lines": lines})
    if dropped:
        lost = N_("Earlier notifications not delivered: {count}")
        blocks.append(say(LazyText(lost, {"count": dropped})))
    if chain_head:
        retained = N_("Chain head: {head}. To verify it, run: ncen-updater verify --head")
        blocks.append(say(LazyText(retained, {"head": chain_head})))
    foot = LazyText(
        N_("Sent by ncen-updater on site {site}. Do not reply."), {"site": context.site}
    )
    return NotificationMessage(
        id=number,
        subject=" ".join(subject.split())[:200],
        body="\n\n".join([*blocks, f"-- \n{say(foot)}"]) + "\n",
        urgent=urgent,
        document={
            "schema": 1,
            "id": number,
            "site": context.site,
            "language": context.language,
            "subject": subject,
            "urgent": urgent,
            "left_out": dropped,
            "chain_head": chain_head or None,
            "news": items,
        },
    )
