"""What a session is given once somebody is in: the service that answers them, and what it found."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import CONSOLE_BUSY
from ncen_updater.console.following import Following
from ncen_updater.console.looking import Looking
from ncen_updater.console.service import SiteService

#: So many requests of one person are answered at a time.
REQUESTS = 8


@contextmanager
def have_place(places: threading.Semaphore) -> Iterator[None]:
    """Have one of few places for the block; never waits.

    Raises:
        UpdaterError: If there is none.
    """
    if not places.acquire(blocking=False):
        raise UpdaterError(CONSOLE_BUSY)
    try:
        yield
    finally:
        places.release()


class Inside:
    """Of one person; browsers of the same person may share it.

    Args:
        service: Answers as that person's.
        lasting: Whether it stays when no browser has it any more.

    Attributes:
        service: Answers as that person's.
        looking: What was looked at for them.
        following: What goes on.
        requests: Places for what is asked for them at a time.
    """

    def __init__(self, service: SiteService, *, lasting: bool = False) -> None:
        self.service, self._lasting = service, lasting
        self.looking, self.following = Looking(service), Following(service)
        self.requests = threading.BoundedSemaphore(REQUESTS)

    def leave(self) -> None:
        """No browser has it any more."""
        if not self._lasting:
            self.end()

    def end(self) -> None:
        """Let go of every page that waits for something, and of the line to the service."""
        self.following.end()
        self.service.end()
