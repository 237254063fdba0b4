"""Shared parts of the tests of bad input: what an error must be, and how good input is damaged."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from ncen_updater.common.cli.render import format_error
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.json_records import error_to_json
from ncen_updater.common.messages import ExitCode

#: The same examples in every run; bounded, so that the folder stays fast.
FEW = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
HUGE = "9" * 5000  # more digits than Python turns into a number
LARGE = "9" * 400  # more than any machine number, and still read by Python
DEEP = 100_000


def json_values() -> st.SearchStrategy[object]:
    """Values that JSON text can hold, with those that Python alone reads."""
    leaves: st.SearchStrategy[object] = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.sampled_from([10**400, -(10**400), 2**63, -1])
        | st.floats()
        | st.text(max_size=8)
        | st.sampled_from(["\ud800", "\0", "a\0b", "../..", "9999-99-99", "0001-01-01T00:00+23:59"])
    )
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
        ),
        max_leaves=6,
    )


def spoilt(good: bytes) -> st.SearchStrategy[bytes]:
    """Bytes near a good file: cut off, one part replaced, or anything at all."""
    place = st.integers(0, len(good))

    def put(start: int, length: int, more: bytes) -> bytes:
        return good[:start] + more + good[start + length :]

    return (
        st.binary(max_size=60)
        | place.map(lambda end: good[:end])
        | st.builds(put, place, st.integers(0, 12), st.binary(max_size=8))
        | st.builds(
            put,
            place,
            st.just(0),
            st.sampled_from([b"\0", b"\xff", b"[" * 5000, b"{", LARGE.encode(), HUGE.encode()]),
        )
    )


def has_four_facts(error: UpdaterError) -> None:
    """Assert that an error can be shown: code, what, state, remedy, and an exit code of ours."""
    for language in ("en", "fr"):
        document = error_to_json(error, [], language)
        assert document["code"] and document["title"] and document["remedy"]
        assert "\n".join(format_error(error, [], language)).encode("utf-8", "backslashreplace")
    assert error.exit_code in set(ExitCode) - {ExitCode.OK}


def typed(act: Callable[[], object]) -> UpdaterError | None:
    """Do something with bad input; whatever escapes but an error of ours escapes here too."""
    try:
        act()
    except UpdaterError as error:
        has_four_facts(error)
        return error
    return None


@contextlib.contextmanager
def bounded(seconds: int = 10) -> Iterator[None]:
    """Fail instead of waiting for ever, as on a FIFO without a writer."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"still waiting after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    limit_of_the_test_s = signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        signal.alarm(limit_of_the_test_s)


def nothing(path: Path) -> None:
    """Leave a place empty."""


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


#: What may stand in the place of a file and is none.
NO_FILES: dict[str, Callable[[Path], None]] = {
    "directory": Path.mkdir,
    "pipe": _fifo,
    "link loop": _loop,
    "device": _device,
}
