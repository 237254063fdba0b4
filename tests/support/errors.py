"""Expected errors in tests: by their message, or by their class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import ErrorMessage


def has_message(error: object, *messages: ErrorMessage | type[UpdaterError]) -> bool:
    """Return whether an error has one of these messages or classes."""
    return isinstance(error, UpdaterError) and any(
        error.message is one if isinstance(one, ErrorMessage) else isinstance(error, one)
        for one in messages
    )


@contextmanager
def refused(
    *messages: ErrorMessage | type[UpdaterError], match: str | None = None
) -> Iterator[pytest.ExceptionInfo[UpdaterError]]:
    """Expect an error with one of these messages or classes."""
    with pytest.raises(UpdaterError, match=match) as caught:
        yield caught
    expected = [one.code if isinstance(one, ErrorMessage) else one.__name__ for one in messages]
    assert has_message(caught.value, *messages), f"{caught.value!r}, not {expected}"
