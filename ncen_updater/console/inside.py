"""What a session is given once somebody is in: the service that answers them, and what it found."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import CONSOLE_BUSY
from ncen_updater.console.inspection_poller import EventFollower, InspectionPoller
from ncen_updater.console.service_client import ServiceClient

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


class UserContext:
    """Of one person; browsers of the same person may share it.

    Args:
        service: Answers as that person's.
        persistent: Whether it stays when no browser has it any more.

    Attributes:
        service: Answers as that person's.
        looking: What was looked at for them.
        following: What goes on.
        requests: Places for what is asked for them at a time.
    """

    def __init__(self, service: ServiceClient, *, persistent: bool = False) -> None:
        self.service, self._lasting = service, persistent
        self.inspections, self.event_follower = InspectionPoller(service), EventFollower(service)
        self.requests = threading.BoundedSemaphore(REQUESTS)

    def release(self) -> None:
        """No browser has it any more."""
        if not self._lasting:
            self.close()

    def close(self) -> None:
        """Let go of every page that waits for something, and of the line to the service."""
        self.event_follower.stop()
        self.service.close()
