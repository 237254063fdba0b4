"""What goes on, as it happens: one stream of the service for every page that is open here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from ncen_updater.common.errors import UpdaterError
from ncen_updater.console.service_client import Document, ServiceClient, ServiceRefusedError

#: Between two tries to reach a service that is away.
RETRY_S = 1.0
#: The service has no place for one more listener: it is asked instead.
TOO_MANY_STREAMS_CODE = "NU-9320"


class EventFollower:
    """Follows the service from the first page that wants to know.

    The service keeps few places for listeners; the pages of one person share one of them.

    Args:
        service: That is followed.
        clock: A clock that is never set.
    """

    def __init__(self, service: ServiceClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._service, self._clock = service, clock
        self._lock = threading.Lock()
        self._number, self._here, self._heard = 0, False, clock()
        self._moment: Document | None = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin, if that has not been done."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._follow, name="following", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Follow no longer."""
        self._ended.set()

    @property
    def is_stopped(self) -> bool:
        """Whether the console ends."""
        return self._ended.is_set()

    def get_activity(self) -> tuple[int, Document | None, float]:
        """Return the number of what happened last, what the service does, how long it is silent."""
        with self._lock:
            return self._number, self._moment, self._clock() - self._heard

    def _follow(self) -> None:
        while not self.is_stopped:
            try:
                for _, kind, document in self._service.stream("en"):
                    self._update(here=True, moment=document if kind == "service" else None)
                    if self.is_stopped:
                        return
            except ServiceRefusedError as refused:
                self._poll_activity(instead=refused.error["code"] == TOO_MANY_STREAMS_CODE)
            except UpdaterError:
                self._update(here=False)
            self._ended.wait(RETRY_S)

    def _poll_activity(self, *, instead: bool) -> None:
        """Ask what goes on, where nobody tells it; pages follow a little later then."""
        moment: Document | None = None
        with suppress(UpdaterError, ServiceRefusedError):
            moment = self._service.get("/v1/status", "en")["service"] if instead else None
        self._update(here=moment is not None, moment=moment)

    def _update(self, *, here: bool, moment: Document | None = None) -> None:
        with self._lock:
            if here:
                self._heard = self._clock()
            if here or self._here:
                self._number += 1
            self._here, self._moment = here, moment or self._moment
