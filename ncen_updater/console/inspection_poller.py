"""Inspections requested from the service: started once, polled, and cached for a while.

An inspection takes seconds to minutes. A page never waits for it: the page says that the inspection
is running and shows the result once it is available.
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

#: Cached inspections (the newest), and inspections run at the same time, which is the service's
#: limit per user.
MAX_RETAINED, MAX_PARALLEL = 24, 2
#: Error of the service at its limit of inspections; retry interval and number of retries.
TOO_MANY_INSPECTIONS_CODE, RETRY_S, MAX_TRIES = "NU-9324", 5.0, 60
#: First and longest interval between two polls. A long-polling request would occupy one of the
#: user's few connections.
MIN_POLL_S, MAX_POLL_S = 0.1, 1.0


@dataclass(frozen=True)
class InspectionState:
    """Snapshot of one inspection; pages render it while the inspection continues.

    Attributes:
        revision: Revision of the site at the start; the result is stale once the revision differs.
        requested_at: When the inspection was requested.
        serial: Distinguishes repeated inspections with the same parameters.
        document: The result, once available.
        error: Why the inspection failed, as an error document.
        progress: The last progress message.
        ended_at: When the inspection ended.
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
        """Return whether the inspection is still running."""
        return self.ended_at is None


class InspectionPoller:
    """Runs and caches the inspections of one user.

    Args:
        service: Client of the service.
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
        """Return the inspection with these parameters; start it if it is not cached.

        A result from before the last change of the site is returned as stale until the user
        requests a new one. A stale failure is repeated at once.

        Args:
            kind: Kind of the inspection.
            revision: Current revision of the site.
            form: Parameters of the inspection.
            refresh: Whether to ignore a cached result.
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
        """Remove ended inspections of a kind from the cache, so that they are repeated."""
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
        # no other exception is raised; without this the page would wait forever
        except UpdaterError as away:
            error = build_error_document(away, LazyText("-"), language)
        self._update(name, begun, document=found, error=error, ended_at=self._service.now())

    def _update(self, name: str, begun: InspectionState, **more: object) -> None:
        """Replace the cached state atomically, unless it was restarted or discarded meanwhile."""
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
        """Start an inspection; retry at the limit, since the user's terminals count as well."""
        for _ in range(MAX_TRIES):
            try:
                return self._service.call("POST", "/v1/inspections", language, form)
            except ServiceRefusedError as refused:
                if refused.error["code"] != TOO_MANY_INSPECTIONS_CODE:
                    raise
            time.sleep(RETRY_S)
        return self._service.call("POST", "/v1/inspections", language, form)


#: Interval between two attempts to reach an unresponsive service.
RETRY_S = 1.0


#: Error of the service at its limit of event streams; the console then polls instead.
TOO_MANY_STREAMS_CODE = "NU-9320"


class EventFollower:
    """Follows the service's event stream from the first page that needs it.

    The service allows few streams per user; all pages of one user share one stream.

    Args:
        service: Client of the service.
    """

    def __init__(self, service: ServiceClient) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._number, self._here, self._heard = 0, False, time.monotonic()
        self._moment: Document | None = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    def start(self) -> None:
        """Start the thread, unless it was started before."""
        with self._lock:
            if self._thread is None:
                self._heard = time.monotonic()
                self._thread = threading.Thread(target=self._follow, name="following", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Stop following."""
        self._ended.set()

    @property
    def is_stopped(self) -> bool:
        """Return whether :meth:`stop` was called."""
        return self._ended.is_set()

    def get_activity(self) -> tuple[int, Document | None, float]:
        """Return the event counter, the last service state, and the seconds since an event."""
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
        """Poll the status once if no stream is available; pages then update a little later."""
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
