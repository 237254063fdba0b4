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

from ncen_updater.agent.service.api.context import ApiContext
from ncen_updater.agent.service.api.forms import MAX_NUMBER, whole_number
from ncen_updater.agent.service.api.queries import Request, moment_document
from ncen_updater.agent.service.errors import Refused
from ncen_updater.agent.storage.journal.rows import JournalEvent
from ncen_updater.common.documents import error_document, jsonable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import TOO_MANY_STREAMS


class ConnectionLimits:
    """Counts the open connections of each user.

    Args:
        each: So many may one user hold.
        all_together: So many may all of them hold; what is left serves those that are not counted.
        free: Numbers of users that are not counted: root and the service's own.
    """

    def __init__(self, each: int, all_together: int, free: Collection[int]) -> None:
        self._each, self._all, self._free = each, all_together, frozenset(free)
        self._held: Counter[int] = Counter()
        self._lock = threading.Lock()

    def enter(self, uid: int) -> bool:
        """Count one more of a user; False where that is one too many: then it does not count."""
        if uid in self._free:
            return True
        with self._lock:
            if self._held[uid] >= self._each or self._held.total() >= self._all:
                return False
            self._held[uid] += 1
            return True

    def held_by(self, uid: int) -> int:
        """How many a user has."""
        with self._lock:
            return self._held[uid]

    def leave(self, uid: int) -> None:
        """One that had entered is gone."""
        if uid in self._free:
            return
        with self._lock:
            self._held[uid] -= 1
            if self._held[uid] <= 0:
                del self._held[uid]


#: Of all that are counted, and of one person.
MOST_STREAMS, EACH_STREAMS = 9, 3
HEARTBEAT_S = 15.0
#: Between two looks at the journal's file, which children write without telling us.
LOOK_S = 0.25
AT_ONCE = 200


class EventStreams:
    """Gives out streams, as many as there is room for.

    Args:
        context: What they are made of.
        most: How many at the same time; root as many besides.
        monotonic: The clock of the heartbeat.
    """

    def __init__(
        self,
        context: ApiContext,
        most: int = MOST_STREAMS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context, self._most, self._clock = context, most, monotonic
        self._places = ConnectionLimits(EACH_STREAMS, most, ())
        self._roots = ConnectionLimits(most, most, ())

    def open(self, request: Request) -> Iterator[bytes]:
        """Return a stream; it begins with what came after an event of the journal.

        Raises:
            Refused: If there is no room, or this person has as many as one may.
            BadRequest: If the number is none.
            UpdaterError: If the journal cannot be read.
        """
        wanted = request.query.get("after", request.last_event)
        after = whole_number(wanted, "after", -1, MAX_NUMBER)
        if after < 0:
            with self._context.reading() as journal:
                after = journal.last_event()
        uid = request.caller.person.uid
        places = self._roots if uid in (0, os.geteuid()) else self._places
        if not places.enter(uid):
            raise Refused(TOO_MANY_STREAMS, count=places.held_by(uid) or self._most)
        return _Stream(self._messages(after, request.language), partial(places.leave, uid))

    def _messages(self, after: int, language: str) -> Iterator[bytes]:
        context, seen, changed_at, said_at = self._context, -1, -1, self._clock()
        yield b"retry: 2000\n\n"
        while True:
            moment = context.snapshots.latest()
            if moment.number != seen:
                yield _message("service", moment_document(moment, language))
                said_at = self._clock()
            if moment.closed:
                return
            seen = moment.number
            try:
                now_changed = context.journal_path.stat().st_mtime_ns
                if now_changed != changed_at:
                    for event in self._events(after):
                        after = event.number
                        yield _event_message(event)
                        said_at = self._clock()
                    changed_at = now_changed
            except (UpdaterError, OSError) as error:
                known = error if isinstance(error, UpdaterError) else UpdaterError()
                yield _message("error", {"error": error_document(known, [], language)})
                return
            if self._clock() - said_at >= HEARTBEAT_S:
                yield b": alive\n\n"
                said_at = self._clock()
            context.snapshots.wait(seen, LOOK_S)

    def _events(self, after: int) -> Iterator[JournalEvent]:
        while True:
            with self._context.reading() as journal:
                events = journal.events(after, limit=AT_ONCE)
            yield from events
            if len(events) < AT_ONCE:
                return
            after = events[-1].number


class _Stream:
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


def _event_message(event: JournalEvent) -> bytes:
    document = {
        "number": event.number,
        "at": event.at,
        "change": event.change,
        "kind": event.kind,
        "data": event.data,
    }
    return _message(event.kind, document, event.number)


def _message(kind: str, document: object, number: int | None = None) -> bytes:
    head = f"id: {number}\n" if number is not None else ""
    body = json.dumps(jsonable(document), ensure_ascii=False)
    return f"{head}event: {kind}\ndata: {body}\n\n".encode("utf-8", "replace")
