"""Errors of the publisher. Codes 7001 to 7099; findings of ``lint`` are 7101 to 7199."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import replace

from pydantic import ValidationError

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import BUILD_REFUSED, WRITE_FAILED, ErrorMessage, ExitCode
from ncen_updater.formats.errors import describe_mistakes


class BuildError(UpdaterError):
    """A release directory that cannot be built."""

    message = BUILD_REFUSED


def describe_system_error(error: BaseException) -> str:
    """Return the message of an error; of a system error, its text and file without the number."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"file '{error.filename}': {error.strerror}" if error.filename else error.strerror


@contextlib.contextmanager
def report_errors(
    message: ErrorMessage, *kinds: type[Exception], **values: object
) -> Iterator[None]:
    """Report errors of some kinds in the block with a message; their own text is its detail.

    Args:
        message: The message.
        *kinds: The kinds; other errors pass.
        **values: Values for the message's placeholders.

    Raises:
        UpdaterError: With the message.
    """
    try:
        yield
    except kinds as error:
        mistakes = isinstance(error, ValidationError)
        detail = describe_mistakes(error, "-") if mistakes else describe_system_error(error)[:500]
        raise UpdaterError(message, state=None, detail=detail, **values) from error


def make_write_error(cause: OSError) -> UpdaterError:
    """Return the error for a failed write to the feed."""
    full = cause.errno == errno.ENOSPC
    return UpdaterError(
        replace(WRITE_FAILED, exit_code=ExitCode.SPACE) if full else WRITE_FAILED,
        state=LazyText(N_("The feed is unchanged or completely published.")),
        detail=describe_system_error(cause),
    )
