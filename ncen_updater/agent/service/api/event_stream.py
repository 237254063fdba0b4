"""The stream: events of the journal and what goes on just now, as server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html. A listener that does not read is
dropped by the server's time-out; one place is kept for each, there are few, and nobody has more
than three of them. Root has places of its own.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import partial

from ncen_updater.agent.service.api.authorization import ApiContext
from ncen_updater.agent.service.api.forms import MAX_NUMBER, parse_whole_number
from ncen_updater.agent.service.api.queries import ApiRequest, build_activity_document
from ncen_updater.agent.service.errors import RequestRefusedError
from ncen_updater.agent.storage.journal.rows import JournalEvent
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.json_records import error_to_json, to_json_value
from ncen_updater.common.messages import TOO_MANY_STREAMS


class ConnectionLimits:
    """Counts the open connections of each user.

    Args:
        per_user: So many may one user hold.
        total: So many may all of them hold; what is left serves those that are not counted.
        exempt_uids: Numbers of users that are not counted: root and the service's own.
    """

    def __init__(self, per_user: int, total: int, exempt_uids: Collection[int]) -> None:
        self._each, self._all, self._free = per_user, total, frozenset(exempt_uids)
        self._held: Counter[int] = Counter()
        self._lock = threading.Lock()

    def try_acquire(self, uid: int) -> bool:
        """Count one more of a user; False where that is one too many: then it does not count."""
        if uid in self._free:
            return True
        with self._lock:
            if self._held[uid] >= self._each or self._held.total() >= self._all:
                return False
            self._held[uid] += 1
            return True

    def count_held(self, uid: int) -> int:
        """Count the streams of a user."""
        with self._lock:
            return self._held[uid]

    def release(self, uid: int) -> None:
        """Forget one that had entered."""
        if uid in self._free:
            return
        with self._lock:
            self._held[uid] -= 1
            if self._held[uid] <= 0:
                del self._held[uid]


#: Of all that are counted, and of one person.
MAX_STREAMS, MAX_STREAMS_PER_USER = 9, 3
HEARTBEAT_S = 15.0
#: Between two looks at the journal's file, which children write without telling us.
POLL_INTERVAL_S = 0.25
EVENT_BATCH_SIZE = 200


class EventStreams:
    """Gives out streams, as many as there is room for.

    Args:
        context: What they are made of.
        max_streams: How many at the same time; root as many besides.
        monotonic: The clock of the heartbeat.
    """

    def __init__(
        self,
        context: ApiContext,
        max_streams: int = MAX_STREAMS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context, self._most, self._clock = context, max_streams, monotonic
        self._places = ConnectionLimits(MAX_STREAMS_PER_USER, max_streams, ())
        self._roots = ConnectionLimits(max_streams, max_streams, ())

    def open_stream(self, request: ApiRequest) -> Iterator[bytes]:
        """Return a stream; it begins with what came after an event of the journal.

        Raises:
            RequestRefusedError: If there is no room, or this person has as many as one may.
            BadRequestError: If the number is none.
            UpdaterError: If the journal cannot be read.
        """
        wanted = request.query.get("after", request.last_event)
        after = parse_whole_number(wanted, "after", -1, MAX_NUMBER)
        if after < 0:
            with self._context.open_journal() as journal:
                after = journal.read_last_event_number()
        uid = request.caller.actor.uid
        places = self._roots if uid in (0, os.geteuid()) else self._places
        if not places.try_acquire(uid):
            raise RequestRefusedError(TOO_MANY_STREAMS, count=places.count_held(uid) or self._most)
        return _StreamIterator(
            self._generate_messages(after, request.language), partial(places.release, uid)
        )

    def _generate_messages(self, after: int, language: str) -> Iterator[bytes]:
        context, seen, changed_at, reported_at = self._context, -1, -1, self._clock()
        yield b"retry: 2000\n\n"
        while True:
            moment = context.snapshots.get_latest()
            if moment.sequence != seen:
                yield _format_message("service", build_activity_document(moment, language))
                reported_at = self._clock()
            if moment.closing:
                return
            seen = moment.sequence
            try:
                now_changed = context.journal_path.stat().st_mtime_ns
                if now_changed != changed_at:
                    for event in self._read_events(after):
                        after = event.number
                        yield _format_event(event, language)
                        reported_at = self._clock()
                    changed_at = now_changed
            except (UpdaterError, OSError) as error:
                known = error if isinstance(error, UpdaterError) else UpdaterError()
                yield _format_message("error", {"error": error_to_json(known, [], language)})
                return
            if self._clock() - reported_at >= HEARTBEAT_S:
                yield b": alive\n\n"
                reported_at = self._clock()
            context.snapshots.wait_for_change(seen, POLL_INTERVAL_S)

    def _read_events(self, after: int) -> Iterator[JournalEvent]:
        while True:
            with self._context.open_journal() as journal:
                events = journal.list_events(after, limit=EVENT_BATCH_SIZE)
            yield from events
            if len(events) < EVENT_BATCH_SIZE:
                return
            after = events[-1].number


class _StreamIterator:
    """An iterator that gives its place back, also where it was never begun."""

    def __init__(self, messages: Iterator[bytes], release: Callable[[], None]) -> None:
        self._messages, self._release = messages, release
        self._open = True

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._messages)

    def close(self) -> None:
        """Give the place back; WSGI servers call it at every end."""
        if self._open:
            self._open = False
            self._release()


def _format_event(event: JournalEvent, language: str) -> bytes:
    document = {
        "number": event.number,
        "at": event.at,
        "change": event.change,
        "kind": event.kind,
        "data": event.data,
    }
    return _format_message(event.kind, to_json_value(document, language), event.number)


def _format_message(kind: str, document: object, number: int | None = None) -> bytes:
    head = f"id: {number}\n" if number is not None else ""
    body = json.dumps(to_json_value(document), ensure_ascii=False)
    return f"{head}event: {kind}\ndata: {body}\n\n".encode("utf-8", "replace")
