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

#: Maximum number of cached inspections, and of inspections run at the same time, which is the
#: service's limit per user.
MAX_RETAINED, MAX_PARALLEL = 24, 2
#: Error of the service at its limit of inspections; retry interval and number of retries.
TOO_MANY_INSPECTIONS_CODE, INSPECTION_RETRY_S, MAX_TRIES = "NU-9324", 5.0, 60
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
        self._states: dict[str, InspectionState] = {}
        self._serial = 0
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(MAX_PARALLEL)

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
            cached = self._states.get(name)
            if cached is not None and not refresh:
                stale = not cached.is_loading and cached.revision != revision
                if not (stale and cached.error):
                    return replace(cached, stale=stale)
            self._serial += 1
            started = InspectionState(revision, self._service.now(), self._serial)
            self._states.pop(name, None)
            while len(self._states) >= MAX_RETAINED:
                del self._states[next(iter(self._states))]
            self._states[name] = started
        work = threading.Thread(
            target=self._run, args=(name, started, {"kind": kind, **form}), name="inspection",
            daemon=True,
        )  # fmt: skip
        work.start()
        return started

    def discard(self, kind: str) -> None:
        """Remove ended inspections of a kind from the cache, so that they are repeated."""
        with self._lock:
            for name in [
                n
                for n, state in self._states.items()
                if json.loads(n)[0] == kind and state.ended_at
            ]:
                del self._states[name]

    def _run(self, name: str, started: InspectionState, form: Mapping[str, object]) -> None:
        language, result, error = str(form["language"]), None, None
        try:
            with self._slots:
                document = self._poll_result(name, started, form, language)
            failure = document.get("error") if isinstance(document, dict) else {}
            if failure is None:
                result = document
            else:
                error = ServiceRefusedError(409, failure).error
        except ServiceRefusedError as refused:
            error = refused.error
        # no other exception is raised; without this the page would wait forever
        except UpdaterError as unreachable:
            error = build_error_document(unreachable, LazyText("-"), language)
        self._update(name, started, document=result, error=error, ended_at=self._service.now())

    def _update(self, name: str, started: InspectionState, **changes: object) -> None:
        """Replace the cached state atomically, unless it was restarted or discarded meanwhile."""
        with self._lock:
            cached = self._states.get(name)
            if cached is not None and cached.serial == started.serial:
                self._states[name] = replace(cached, **changes)  # type: ignore[arg-type]

    def _poll_result(
        self, name: str, started: InspectionState, form: Mapping[str, object], language: str
    ) -> Document:
        response, pause_s = self._start_inspection(form, language), MIN_POLL_S
        while response["result"] is None:
            update = ProgressUpdate.from_json(response["progress"])
            self._update(name, started, progress=update.text if update is not None else None)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_POLL_S)
            response = self._service.get(f"/v1/inspections/{response['id']}", language)
        document: Document = response["result"]["document"]
        return document

    def _start_inspection(self, form: Mapping[str, object], language: str) -> Document:
        """Start an inspection; retry at the limit, since the user's terminals count as well."""
        for _ in range(MAX_TRIES):
            try:
                return self._service.call("POST", "/v1/inspections", language, form)
            except ServiceRefusedError as refused:
                if refused.error["code"] != TOO_MANY_INSPECTIONS_CODE:
                    raise
            time.sleep(INSPECTION_RETRY_S)
        return self._service.call("POST", "/v1/inspections", language, form)


#: Interval between two attempts to open the event stream.
STREAM_RETRY_S = 1.0
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
        self._counter, self._connected, self._last_event_at = 0, False, time.monotonic()
        self._activity: Document | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start the thread, unless it was started before."""
        with self._lock:
            if self._thread is None:
                self._last_event_at = time.monotonic()
                self._thread = threading.Thread(
                    target=self._follow, name="event-follower", daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        """Stop following."""
        self._stopping.set()

    @property
    def is_stopped(self) -> bool:
        """Return whether :meth:`stop` was called."""
        return self._stopping.is_set()

    def get_activity(self) -> tuple[int, Document | None, float]:
        """Return the event counter, the last service state, and the seconds since an event."""
        with self._lock:
            return self._counter, self._activity, time.monotonic() - self._last_event_at

    def _follow(self) -> None:
        while not self.is_stopped:
            try:
                for _, kind, document in self._service.stream("en"):
                    self._update(connected=True, activity=document if kind == "service" else None)
                    if self.is_stopped:
                        return
            except ServiceRefusedError as refused:
                self._poll_activity(poll=refused.error["code"] == TOO_MANY_STREAMS_CODE)
            except UpdaterError:
                self._update(connected=False)
            self._stopping.wait(STREAM_RETRY_S)

    def _poll_activity(self, *, poll: bool) -> None:
        """Poll the status once if no stream is available; pages then update a little later."""
        activity: Document | None = None
        with suppress(UpdaterError, ServiceRefusedError):
            activity = self._service.get("/v1/status", "en")["service"] if poll else None
        self._update(connected=activity is not None, activity=activity)

    def _update(self, *, connected: bool, activity: Document | None = None) -> None:
        with self._lock:
            if connected:
                self._last_event_at = time.monotonic()
            if connected or self._connected:
                self._counter += 1
            self._connected, self._activity = connected, activity or self._activity
