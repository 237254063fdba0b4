"""Errors of the publisher. Codes 7001 to 7099; findings of ``lint`` are 7101 to 7199."""

from __future__ import annotations

import errno
from dataclasses import replace

from ncen_updater.common.errors import ExitCode, UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import BUILD_REFUSED, FEED_BROKEN, WRITE_FAILED

__all__ = ["BuildRefused", "FeedBroken", "WriteFailed"]


class FeedBroken(UpdaterError):
    """A published feed that a client would refuse, or that has a hole."""

    message = FEED_BROKEN


class BuildRefused(UpdaterError):
    """A release directory that cannot be built."""

    message = BUILD_REFUSED


class WriteFailed(UpdaterError):
    """The disk or the file system under the feed."""

    message = WRITE_FAILED

    def __init__(self, cause: OSError) -> None:
        full = cause.errno == errno.ENOSPC
        super().__init__(
            replace(WRITE_FAILED, exit_code=ExitCode.SPACE) if full else WRITE_FAILED,
            state=Text(N_("Clients see the feed as it was, or the whole new one.")),
            detail=str(cause),
        )
