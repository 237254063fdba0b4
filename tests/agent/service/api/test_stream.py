"""Tests of the event stream: its start, its order, and its limit of listeners."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ncen_updater.agent.service.api.app import (
    EVENT_BATCH_SIZE,
    HEARTBEAT_S,
    MAX_STREAMS_PER_USER,
    EventStreams,
)
from ncen_updater.agent.service.api.authorization import identify_caller
from ncen_updater.agent.service.api.queries import ApiRequest
from ncen_updater.agent.service.snapshot import ServiceEvent
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import TOO_MANY_STREAMS
from ncen_updater.common.progress import Amount, ProgressUpdate
from tests.agent.service.api.conftest import (
    APPROVER,
    NOBODY,
    OPERATOR,
    READER,
    SETTINGS,
    Counter,
    uid_of,
)
from tests.support.errors import refused


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 5.0
        return self.now


def request(after: str | None = None) -> ApiRequest:
    query = {"after": after} if after is not None else {}
    return ApiRequest(identify_caller(0, SETTINGS), "/v1/events", query=query)


def messages(stream: Iterator[bytes]) -> Iterator[tuple[str, Any]]:
    for part in stream:
        fields = dict(line.split(": ", 1) for line in part.decode().splitlines() if line)
        if "data" in fields:
            yield fields["event"], json.loads(fields["data"])


def note(counter: Counter, *kinds: str) -> None:
    with Journal.open(counter.site.journal) as journal:
        for kind in kinds:
            journal.record_event(kind, None, word="é\n")


def test_stream_starts_after_an_event_number_and_continues(counter: Counter) -> None:
    note(counter, "first", "second")
    stream = messages(EventStreams(counter.context).open_stream(request("1")))
    assert next(stream)[0] == "service"
    kind, data = next(stream)
    assert (kind, data["number"], data["data"]) == ("second", 2, {"word": "é\n"})
    note(counter, "third")
    assert next(stream)[0] == "third"


def test_stream_without_a_number_starts_with_new_events(counter: Counter) -> None:
    note(counter, "old")
    stream = messages(EventStreams(counter.context).open_stream(request()))
    assert next(stream)[0] == "service"
    note(counter, "new")
    assert next(stream)[0] == "new"


def test_many_events_arrive_completely_and_in_order(counter: Counter) -> None:
    note(counter, *(f"k{number}" for number in range(EVENT_BATCH_SIZE + 5)))
    stream = messages(EventStreams(counter.context).open_stream(request("0")))
    next(stream)
    numbers = [next(stream)[1]["number"] for _ in range(EVENT_BATCH_SIZE + 5)]
    assert numbers == list(range(1, EVENT_BATCH_SIZE + 6))


def test_progress_is_streamed(counter: Counter) -> None:
    stream = messages(EventStreams(counter.context).open_stream(request("0")))
    nothing = {"action": None, "reason": None, "status_read_at": None, "running": None}
    assert next(stream) == ("service", nothing)
    snapshots = counter.snapshots
    snapshots.handle_event(
        ServiceEvent("next", {"action": "upgrade", "reason": LazyText("because")})
    )
    snapshots.record_start(["upgrade"])
    snapshots.record_progress(ProgressUpdate("uploading {name}", {"name": "cases"}, Amount(3, 9)))
    running = next(stream)[1]["running"]
    assert running["command"] == ["upgrade"]
    assert running["progress"] == {
        "template": "uploading {name}", "values": {"name": "cases"},
        "amount": {"done": 3, "total": 9, "unit": "count"},
    }  # fmt: skip
    snapshots.record_end()
    assert next(stream)[1]["running"] is None


def test_repeated_decision_is_streamed(counter: Counter) -> None:
    """So that who gave an order meanwhile knows whether the reason is an answer to it."""
    snapshots = counter.snapshots
    snapshots.handle_event(ServiceEvent("next", {"action": "wait", "reason": LazyText("because")}))
    stream = messages(EventStreams(counter.context).open_stream(request("0")))
    assert next(stream)[1]["status_read_at"] is None
    at = datetime(2026, 11, 27, 8, tzinfo=UTC)
    snapshots.handle_event(ServiceEvent("status-read", {"action": "wait", "at": at}))
    told = next(stream)[1]
    assert (told["reason"], told["status_read_at"]) == ("because", "2026-11-27T08:00:00Z")


def test_idle_stream_sends_heartbeats(counter: Counter) -> None:
    clock = Clock()
    stream = EventStreams(counter.context, monotonic=clock).open_stream(request("0"))
    parts = [next(stream) for _ in range(3)]
    assert parts[2] == b": alive\n\n"
    assert clock.now >= HEARTBEAT_S


def test_stopping_service_ends_its_streams(counter: Counter) -> None:
    stream = EventStreams(counter.context).open_stream(request("0"))
    next(stream)
    counter.snapshots.close()
    assert len(list(stream)) == 1


def test_unreadable_journal_ends_the_stream_with_an_error(counter: Counter) -> None:
    stream = messages(EventStreams(counter.context).open_stream(request("0")))
    next(stream)
    counter.site.journal.write_bytes(b"nonsense")
    kind, data = list(stream)[-1]
    assert (kind, data["error"]["code"]) == ("error", "NU-6002")


def by(user: str) -> ApiRequest:
    return ApiRequest(identify_caller(uid_of(user), SETTINGS), "/v1/events", query={"after": "0"})


def test_one_user_cannot_occupy_all_streams(counter: Counter) -> None:
    """Two members could take all of them, and root would hear nothing of an upgrade."""
    streams = EventStreams(counter.context)
    kept = []
    for user in (READER, OPERATOR, APPROVER):
        kept += [streams.open_stream(by(user)) for _ in range(MAX_STREAMS_PER_USER)]
        with refused(TOO_MANY_STREAMS):
            streams.open_stream(by(user))
    with refused(TOO_MANY_STREAMS):
        streams.open_stream(by(NOBODY))  # there is no room for anybody else
    assert next(messages(streams.open_stream(request("0"))))[0] == "service", "but for root"
    kept[0].close()  # type: ignore[attr-defined]
    streams.open_stream(by(NOBODY))


def test_closed_stream_frees_its_slot(counter: Counter) -> None:
    streams = EventStreams(counter.context, max_streams=2)
    first, second = streams.open_stream(by(READER)), streams.open_stream(by(OPERATOR))
    with refused(TOO_MANY_STREAMS):
        streams.open_stream(by(READER))
    next(second)
    for stream in (first, second):
        stream.close()  # type: ignore[attr-defined]
        stream.close()  # type: ignore[attr-defined]
    streams.open_stream(by(READER))
    streams.open_stream(by(READER))
    with refused(TOO_MANY_STREAMS):
        streams.open_stream(by(OPERATOR))


def test_stream_has_its_content_type(counter: Counter) -> None:
    counter.snapshots.close()
    answer = counter.ask("GET", "/v1/events")
    assert answer.headers["Content-Type"] == "text/event-stream"
