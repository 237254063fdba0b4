"""Progress through a pipe: whole lines, never in the way of the work."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from ncen_updater.common.i18n import Text
from ncen_updater.common.relay import VARIABLE, Relay, Told, relay_from_environment


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            continue


def lines(reader: int) -> list[Told | None]:
    try:
        return [Told.from_line(line) for line in os.read(reader, 65536).splitlines()]
    except BlockingIOError:
        return []


def test_a_sentence_arrives_with_its_figures(pipe: tuple[int, int]) -> None:
    Relay(pipe[1]).tell(Text("copying {name}", {"name": "cases"}), 3, 9)
    assert lines(pipe[0]) == [Told("copying {name}", {"name": "cases"}, 3, 9)]


def test_the_same_sentence_is_said_twice_a_second_at_most(pipe: tuple[int, int]) -> None:
    now = [10.0]
    relay = Relay(pipe[1], lambda: now[0])
    for done in range(100):
        relay.tell(Text("a"), done, 100)
    now[0] += 0.5
    relay.tell(Text("a"), 100, 100)
    relay.tell(Text("b"))
    assert [told and (told.template, told.done) for told in lines(pipe[0])] == [
        ("a", 0), ("a", 100), ("b", None),
    ]  # fmt: skip


def test_long_values_do_not_part_a_line(pipe: tuple[int, int]) -> None:
    values: dict[str, object] = {f"v{number}": "é" * 5000 for number in range(40)}
    Relay(pipe[1]).tell(Text("x {v1}", values))
    content = os.read(pipe[0], 65536)
    assert len(content) <= select.PIPE_BUF
    assert content.endswith(b"\n")


def test_a_full_pipe_and_one_that_nobody_reads_stop_nothing(pipe: tuple[int, int]) -> None:
    relay = Relay(pipe[1])
    for number in range(20_000):
        relay.tell(Text(f"sentence {number}"))
    assert len(lines(pipe[0])) > 100
    os.close(pipe[0])
    relay.tell(Text("nobody reads"))


@pytest.mark.parametrize(
    "line", [b"", b"x", b"[]", b"{}", b'{"tell": 3, "values": {}}', b"[" * 100_000, b"\xff"]
)
def test_what_is_no_progress_is_nothing(line: bytes) -> None:
    assert Told.from_line(line) is None


def test_only_where_the_parent_asks(pipe: tuple[int, int]) -> None:
    assert relay_from_environment({}) is None
    assert relay_from_environment({VARIABLE: "x"}) is None
    relay = relay_from_environment({VARIABLE: str(pipe[1])})
    assert relay is not None
    relay.tell(Text("here"))
    assert lines(pipe[0]) == [Told("here")]
