"""What goes on, as it happens: one stream of the service for every page that is open here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from ncen_updater.common.errors import UpdaterError
from ncen_updater.console.service import Document, ServiceRefusal, SiteService

__all__ = ["Following"]

#: Between two tries to reach a service that is away.
AGAIN_S = 1.0
#: The service has no place for one more listener: it is asked instead.
NO_PLACE = "NU-9320"


class Following:
    """Follows the service from the first page that wants to know.

    The service keeps few places for listeners; the pages of one person share one of them.

    Args:
        service: That is followed.
        clock: A clock that is never set.
    """

    def __init__(self, service: SiteService, clock: Callable[[], float] = time.monotonic) -> None:
        self._service, self._clock = service, clock
        self._changed = threading.Condition()
        self._number = 0
        self._moment: Document | None = None
        self._here = False
        self._heard = clock()
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin, if that has not been done."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._follow, name="following", daemon=True)
                self._thread.start()

    def end(self) -> None:
        """Let every page that waits go on, and follow no longer."""
        self._ended.set()
        with self._changed:
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """Whether the console ends."""
        return self._ended.is_set()

    def wait(self, seen: int, seconds: float) -> int:
        """Wait until something happens that was not seen yet; returns its number."""
        with self._changed:
            self._changed.wait_for(lambda: self._number != seen or self.ended, seconds)
            return self._number

    def moment(self) -> tuple[Document | None, bool, float]:
        """Return what the service does, whether the line is there, and how long it was silent."""
        with self._changed:
            return self._moment, self._here, self._clock() - self._heard

    def _follow(self) -> None:
        while not self.ended:
            try:
                for _, kind, document in self._service.stream("en"):
                    self._happened(here=True, moment=document if kind == "service" else None)
                    if self.ended:
                        return
            except ServiceRefusal as refused:
                self._ask(instead=refused.error["code"] == NO_PLACE)
            except UpdaterError:
                self._happened(here=False)
            self._ended.wait(AGAIN_S)

    def _ask(self, *, instead: bool) -> None:
        """Ask what goes on, where nobody tells it; pages follow a little later then."""
        moment: Document | None = None
        with suppress(UpdaterError, ServiceRefusal):
            moment = self._service.get("/v1/status", "en")["service"] if instead else None
        self._happened(here=moment is not None, moment=moment)

    def _happened(self, *, here: bool, moment: Document | None = None) -> None:
        with self._changed:
            if here:
                self._heard = self._clock()
            if here or self._here:
                self._number += 1
            self._here, self._moment = here, moment or self._moment
            self._changed.notify_all()
