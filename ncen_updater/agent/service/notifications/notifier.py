"""Finds news, keeps it, and has it sent: what runs beside the service's loop.

One round looks at the journal and the site, writes what is new into the outbox, and lets a child
send what is due. Whatever fails here is logged and tried again; the loop notices nothing of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.config.model import AgentConfig
from ncen_updater.agent.config.paths import load_places
from ncen_updater.agent.model.names import JOURNAL
from ncen_updater.agent.model.notification_kind import NewsKind
from ncen_updater.agent.policy.availability import Availability
from ncen_updater.agent.policy.pacing import MessagePace, Send, Wait, Waiting, pace
from ncen_updater.agent.reports.status import (
    FROM_THE_DISK,
    Cache,
    JournalFacts,
    SiteStatus,
    or_none,
    read_status,
)
from ncen_updater.agent.service.notifications.conditions import OUTAGE, AlertLimits, fresh, is_down
from ncen_updater.agent.service.notifications.journal_news import news_since
from ncen_updater.agent.service.notifications.news import ALWAYS, News
from ncen_updater.agent.service.notifications.outbox import Outbox, OutboxFile, Way
from ncen_updater.agent.service.notifications.sending import Sender
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError

logger = logging.getLogger(__name__)

#: Below the state directory.
OUTBOX = "service/outbox.json"
#: How long a round may be away at most: conditions such as a full disk wake nobody.
LONGEST = timedelta(minutes=5)


def limits_of(config: AgentConfig) -> AlertLimits:
    """Return from when on lasting states are told at a site."""
    notify = config.notify
    return AlertLimits(
        window=timedelta(hours=notify.window_hours),
        feed=timedelta(days=notify.feed_days),
        disk_percent=notify.disk_percent,
        automatic=config.service.mode == "automatic",
        self_starting=config.service.mode != "notify",
        only_reports=config.soak.on_failure == "report",
        approvals=config.service.approvals,
        windows=tuple(item.window() for item in config.service.windows),
        zone=config.service.zone(),
    )


class Notifier:
    """Tells people about one site.

    Args:
        config_path: The configuration file; read again when it was changed.
        config: What it says now.
        send: Sends one message.
        now: The wall clock.
        seen: Called with each look at the site, for metrics.
        asker: Gives who asks whether officers can work; this process does by default.
    """

    def __init__(
        self,
        config_path: Path,
        config: AgentConfig,
        *,
        send: Sender,
        now: Callable[[], datetime],
        seen: Callable[[AgentConfig, SiteStatus, Outbox], None] = lambda *_: None,
        asker: Callable[[Path, AgentConfig], Callable[[], Availability]] | None = None,
    ) -> None:
        self._path = config_path
        self._send, self._now, self._seen, self._asker = send, now, seen, asker
        self._down_since: datetime | None = None
        self._use(config, self._mark())

    def _use(self, config: AgentConfig, mark: int) -> None:
        self._config, self._config_mark = config, mark
        self._places = load_places(self._path)
        self._journal = self._places.state / JOURNAL
        self._file = OutboxFile(self._places.state / OUTBOX)
        self._cache: Cache = {}
        self._ask = self._asker(self._path, config) if self._asker else None

    def _mark(self) -> int:
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return 0

    def _refresh(self) -> None:
        """Go on with a configuration that was changed, or with the old one."""
        mark = self._mark()
        if mark == self._config_mark:
            return
        try:
            self._use(load_config(self._path), mark)
        except UpdaterError as error:
            logger.warning("told as before: %s", error, extra={"code": error.code})
            self._config_mark = mark

    def round(self) -> datetime:
        """Look, keep, send; return when to come again, if nobody wakes us before."""
        self._refresh()
        status = read_status(
            self._places,
            self._now(),
            FROM_THE_DISK,
            config=self._config,
            cache=self._cache,
            ask=self._ask,
        )
        down = is_down(status)
        if down is not None:
            self._down_since = (self._down_since or status.now) if down else None
        outbox = self._gather(status)
        journal = or_none(status.journal)
        for name in outbox.ways:
            outbox = self._serve(outbox, name, journal.head if journal else "")
        self._seen(self._config, status, outbox)
        return self._again(outbox, self._now())

    # ---- finding ---------------------------------------------------------------------------------

    def _gather(self, status: SiteStatus) -> Outbox:
        before, journal = self._file.load(), or_none(status.journal)
        ways = [w for w in ("mail", "webhook") if getattr(self._config.notify, w) is not None]
        # The first time, what happened long ago is not told.
        outbox = before or Outbox(event=journal.event if journal else 0)
        found = self._events(outbox.event, journal)
        event = journal.event if journal else outbox.event
        states, told = fresh(status, limits_of(self._config), outbox.told, self._down_since)
        skipped = frozenset(self._config.notify.leave_out)
        if NewsKind.DOWN in skipped:
            skipped |= {NewsKind.UP}
        news = [item for item in (*found, *states) if item.kind not in skipped - ALWAYS]
        outbox = outbox.with_news(event, told, news, ways).without_old(status.now)
        if outbox != before:
            self._file.save(outbox)
        return outbox

    def _events(self, after: int, seen: JournalFacts | None) -> tuple[News, ...]:
        """What happened since, up to the instant of the snapshot."""
        if seen is None:
            return ()
        try:
            with Journal.open(self._journal, read_only=True) as journal:
                # Of another journal than before, with fewer events, nothing is told: it is old.
                return news_since(journal, after, seen.event)
        except UpdaterError as error:
            logger.debug("the journal is not read: %s", error)
            return ()

    # ---- sending ---------------------------------------------------------------------------------

    def _due(self, outbox: Outbox, way: Way, now: datetime) -> Send | Wait | None:
        again = way.retry_at()
        if again is not None and min(again, now + timedelta(hours=1)) > now:
            return Wait(min(again, now + timedelta(hours=1)))
        if way.message is not None:
            return Send(way.message.news)
        notify = self._config.notify
        waiting = [
            Waiting(item.id, item.at, item.urgent) for item in map(outbox.news.get, way.waiting)
            if item is not None
        ]  # fmt: skip
        limits = MessagePace(notify.per_hour, timedelta(seconds=notify.gather_s))
        return pace(waiting, way.sent, now, limits)

    def _serve(self, outbox: Outbox, name: str, head: str) -> Outbox:
        now = self._now()
        due = self._due(outbox, outbox.ways[name], now)
        if not isinstance(due, Send):
            return outbox
        if outbox.ways[name].message is None:
            outbox = outbox.begin(name, due.ids)
            self._file.save(outbox)
        way = outbox.ways[name]
        assert way.message is not None  # noqa: S101 - begun above
        code = self._send(
            {
                "way": name,
                "id": way.message.id,
                "left_out": way.left_out,
                "head": head,
                "news": [outbox.news[number].to_json() for number in way.message.news],
            }
        )
        at = self._now()
        outbox = outbox.sent(name, at) if code is None else outbox.failed(name, at)
        self._file.save(outbox)
        return outbox

    def _again(self, outbox: Outbox, now: datetime) -> datetime:
        ends = [now + LONGEST]
        if self._down_since is not None and NewsKind.DOWN not in outbox.told:
            ends.append(max(now, self._down_since + OUTAGE))
        for way in outbox.ways.values():
            due = self._due(outbox, way, now)
            if isinstance(due, Wait):
                ends.append(due.until)
            elif isinstance(due, Send):
                ends.append(now)
        return min(ends)
