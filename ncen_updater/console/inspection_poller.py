"""Inspections requested from the service: started once, polled, and cached for a while.

An inspection takes seconds to minutes. A page never waits for it: it says that the site is being
looked at, and shows what was found as soon as that is there.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.progress import ProgressUpdate
from ncen_updater.console.service_client import (
    Document,
    ServiceClient,
    ServiceRefusedError,
    build_error_document,
)

#: So many things are kept, the newest; and so many are looked at together, as the service lets one
#: person.
MAX_RETAINED, MAX_PARALLEL = 24, 2
#: The service has no room for one more; so long is waited for that, and so often.
TOO_MANY_INSPECTIONS_CODE, RETRY_S, MAX_TRIES = "NU-9324", 5.0, 60
#: Between two looks how far it is, first and at last. A request that waits would hold one of the
#: few places of its person.
MIN_POLL_S, MAX_POLL_S = 0.1, 1.0


@dataclass(frozen=True)
class InspectionState:
    """One thing that is looked at, as it is at one moment: pages are made of it while work goes on.

    Attributes:
        revision: What the site was like when it was begun; of another mark it is stale.
        requested_at: When.
        serial: Tells it from one of the same that was begun before or after it.
        document: The document, once it is there.
        error: Why nothing was found, as an error has it.
        progress: What the work said last.
        ended_at: When it ended.
        stale: Whether the site has changed since.
    """

    revision: str
    requested_at: datetime
    serial: int = 0
    document: Document | None = None
    error: dict[str, str] | None = None
    progress: LazyText | None = None
    ended_at: datetime | None = None
    stale: bool = False

    @property
    def is_loading(self) -> bool:
        """Return whether it is not there yet."""
        return self.ended_at is None


class InspectionPoller:
    """Keeps what was looked at.

    Args:
        service: That looks.
    """

    def __init__(self, service: ServiceClient) -> None:
        self._service = service
        self._kept: dict[str, InspectionState] = {}
        self._serial = 0
        self._lock = threading.Lock()
        self._turn = threading.BoundedSemaphore(MAX_PARALLEL)

    def inspect(
        self, kind: str, revision: str, form: Mapping[str, object], *, refresh: bool = False
    ) -> InspectionState:
        """Return what was found, or is being found; begun where there is nothing of it.

        What was found before the site changed is returned as stale, until somebody asks anew.

        Args:
            kind: Of the inspection.
            revision: What the site is like now.
            form: What the inspection takes.
            refresh: Whether what is there is not wanted.
        """
        name = json.dumps([kind, form], sort_keys=True)
        with self._lock:
            cached = self._kept.get(name)
            if cached is not None and not refresh:
                stale = not cached.is_loading and cached.revision != revision
                if not (stale and cached.error):
                    return replace(cached, stale=stale)
            self._serial += 1
            begun = InspectionState(revision, self._service.now(), self._serial)
            self._kept.pop(name, None)
            while len(self._kept) >= MAX_RETAINED:
                del self._kept[next(iter(self._kept))]
            self._kept[name] = begun
        work = threading.Thread(
            target=self._run, args=(name, begun, {"kind": kind, **form}), name="looking",
            daemon=True,
        )  # fmt: skip
        work.start()
        return begun

    def discard(self, kind: str) -> None:
        """Let go of everything of a kind that has ended: it is looked at once more."""
        with self._lock:
            for name in [
                n for n, one in self._kept.items() if json.loads(n)[0] == kind and one.ended_at
            ]:
                del self._kept[name]

    def _run(self, name: str, begun: InspectionState, form: Mapping[str, object]) -> None:
        language, found, error = str(form["language"]), None, None
        try:
            with self._turn:
                document = self._poll_result(name, begun, form, language)
            wrong = document.get("error") if isinstance(document, dict) else {}
            if wrong is None:
                found = document
            else:
                error = ServiceRefusedError(409, wrong).error
        except ServiceRefusedError as refused:
            error = refused.error
        except UpdaterError as away:  # nothing else is raised; a page would wait for ever
            error = build_error_document(away, LazyText("-"), language)
        self._update(name, begun, document=found, error=error, ended_at=self._service.now())

    def _update(self, name: str, begun: InspectionState, **more: object) -> None:
        """Keep what is known now in one step, unless it was begun anew or let go of meanwhile."""
        with self._lock:
            cached = self._kept.get(name)
            if cached is not None and cached.serial == begun.serial:
                self._kept[name] = replace(cached, **more)  # type: ignore[arg-type]

    def _poll_result(
        self, name: str, begun: InspectionState, form: Mapping[str, object], language: str
    ) -> Document:
        seen, pause = self._start_inspection(form, language), MIN_POLL_S
        while seen["result"] is None:
            update = ProgressUpdate.from_json(seen["progress"])
            self._update(name, begun, progress=update.text if update is not None else None)
            time.sleep(pause)
            pause = min(2 * pause, MAX_POLL_S)
            seen = self._service.get(f"/v1/inspections/{seen['id']}", language)
        found: Document = seen["result"]["document"]
        return found

    def _start_inspection(self, form: Mapping[str, object], language: str) -> Document:
        """Begin an inspection, once there is room: a terminal of this person may look, too."""
        for _ in range(MAX_TRIES):
            try:
                return self._service.call("POST", "/v1/inspections", language, form)
            except ServiceRefusedError as refused:
                if refused.error["code"] != TOO_MANY_INSPECTIONS_CODE:
                    raise
            time.sleep(RETRY_S)
        return self._service.call("POST", "/v1/inspections", language, form)


#: Between two tries to reach a service that is away.
RETRY_S = 1.0


#: The service has no place for one more listener: it is asked instead.
TOO_MANY_STREAMS_CODE = "NU-9320"


class EventFollower:
    """Follows the service from the first page that wants to know.

    The service keeps few places for listeners; the pages of one person share one of them.

    Args:
        service: That is followed.
    """

    def __init__(self, service: ServiceClient) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._number, self._here, self._heard = 0, False, time.monotonic()
        self._moment: Document | None = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin, if that has not been done."""
        with self._lock:
            if self._thread is None:
                self._heard = time.monotonic()
                self._thread = threading.Thread(target=self._follow, name="following", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Follow no longer."""
        self._ended.set()

    @property
    def is_stopped(self) -> bool:
        """Return whether the console ends."""
        return self._ended.is_set()

    def get_activity(self) -> tuple[int, Document | None, float]:
        """Return the number of what happened last, what the service does, how long it is silent."""
        with self._lock:
            return self._number, self._moment, time.monotonic() - self._heard

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
                self._heard = time.monotonic()
            if here or self._here:
                self._number += 1
            self._here, self._moment = here, moment or self._moment
