"""Puts a message together: words for a letter, and the same as values for a webhook. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from ncen_updater.agent.service.notifications.news import News
from ncen_updater.agent.service.notifications.words import Explain, sentences, title
from ncen_updater.common.cli.render import format_minute
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import NOTIFY_ERROR


class NotifyError(UpdaterError):
    """A message could not be delivered."""

    message = NOTIFY_ERROR
    family = range(9601, 9650)


@dataclass(frozen=True)
class LetterReader:
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
class Letter:
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


def write_letter(
    number: str,
    news: Sequence[News],
    left_out: int,
    reader: LetterReader,
    explain: Explain,
    head: str = "",
) -> Letter:
    """Put a message together.

    Args:
        number: Its id.
        news: What is in it, at least one, the most urgent first.
        left_out: How much earlier news was given up undelivered.
        reader: For whom.
        explain: Says what a code means.
        head: The newest event of the journal, by number and hash.
    """

    def say(text: Text) -> str:
        return text.render(reader.language)

    first = say(title(news[0], reader.zone))
    more = len(news) - 1
    words = {"site": reader.site, "first": first, "more": more}
    subject = say(
        Text(N_("[{site}] {first} (and {more} more)") if more else "[{site}] {first}", words)
    )
    urgent = any(item.urgent for item in news)
    blocks, items = [], []
    for item in news:
        lines = [say(text) for text in sentences(item, reader.zone, explain)]
        at = format_minute(item.at, reader.zone).render(reader.language)
        blocks.append("\n".join([f"{at}  {lines[0]}", *(f"    {line}" for line in lines[1:])]))
        items.append({**item.to_json(), "words": lines})
    if left_out:
        lost = N_("Earlier news that could not be delivered: {count}.")
        blocks.append(say(Text(lost, {"count": left_out})))
    if head:
        kept = N_(
            "Keep this: head of the journal {head}. 'ncen-updater verify --head' finds it again."
        )
        blocks.append(say(Text(kept, {"head": head})))
    foot = Text(N_("Sent by ncen-updater at site {site}. Do not answer."), {"site": reader.site})
    return Letter(
        id=number,
        subject=" ".join(subject.split())[:200],
        body="\n\n".join([*blocks, f"-- \n{say(foot)}"]) + "\n",
        urgent=urgent,
        document={
            "schema": 1,
            "id": number,
            "site": reader.site,
            "language": reader.language,
            "subject": subject,
            "urgent": urgent,
            "left_out": left_out,
            "head": head or None,
            "news": items,
        },
    )
