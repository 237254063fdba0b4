"""What the service was asked to look at: begun once, waited for elsewhere, kept for a while.

An inspection takes seconds to minutes. A page never waits for it: it says that the site is being
looked at, and shows what was found as soon as that is there.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import Text
from ncen_updater.common.progress import ProgressUpdate
from ncen_updater.console.service import Document, ServiceRefusal, SiteService, told

#: So many things are kept, the newest; and so many are looked at together, as the service lets one
#: person.
MOST, TOGETHER = 24, 2
#: The service has no room for one more; so long is waited for that, and so often.
FULL, FULL_S, TRIES = "NU-9324", 5.0, 60
#: Between two looks how far it is, first and at last. A request that waits would hold one of the
#: few places of its person.
SOON_S, LATER_S = 0.1, 1.0


@dataclass(frozen=True)
class Looked:
    """One thing that is looked at, as it is at one moment: pages are made of it while work goes on.

    Attributes:
        mark: What the site was like when it was begun; of another mark it is stale.
        begun_at: When.
        serial: Tells it from one of the same that was begun before or after it.
        found: The document, once it is there.
        error: Why nothing was found, as an error has it.
        progress: What the work said last.
        at: When it ended.
        stale: Whether the site has changed since.
    """

    mark: str
    begun_at: datetime
    serial: int = 0
    found: Document | None = None
    error: dict[str, str] | None = None
    progress: Text | None = None
    at: datetime | None = None
    stale: bool = False

    @property
    def loading(self) -> bool:
        """Whether it is not there yet."""
        return self.at is None


class Looking:
    """Keeps what was looked at.

    Args:
        service: That looks.
    """

    def __init__(self, service: SiteService) -> None:
        self._service = service
        self._kept: dict[str, Looked] = {}
        self._serial = 0
        self._lock = threading.Lock()
        self._turn = threading.BoundedSemaphore(TOGETHER)

    def look(
        self, kind: str, mark: str, form: Mapping[str, object], *, anew: bool = False
    ) -> Looked:
        """Return what was found, or is being found; begun where there is nothing of it.

        What was found before the site changed is returned as stale, until somebody asks anew.

        Args:
            kind: Of the inspection.
            mark: What the site is like now.
            form: What the inspection takes.
            anew: Whether what is there is not wanted.
        """
        name = json.dumps([kind, form], sort_keys=True)
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None and not anew:
                stale = not kept.loading and kept.mark != mark
                if not (stale and kept.error):
                    return replace(kept, stale=stale)
            self._serial += 1
            begun = Looked(mark, self._service.now(), self._serial)
            self._kept.pop(name, None)
            while len(self._kept) >= MOST:
                del self._kept[next(iter(self._kept))]
            self._kept[name] = begun
        work = threading.Thread(
            target=self._work, args=(name, begun, {"kind": kind, **form}), name="looking",
            daemon=True,
        )  # fmt: skip
        work.start()
        return begun

    def forget(self, kind: str) -> None:
        """Let go of everything of a kind that has ended: it is looked at once more."""
        with self._lock:
            for name in [n for n, one in self._kept.items() if json.loads(n)[0] == kind and one.at]:
                del self._kept[name]

    def _work(self, name: str, begun: Looked, form: Mapping[str, object]) -> None:
        language, found, error = str(form["language"]), None, None
        try:
            with self._turn:
                document = self._inspected(name, begun, form, language)
            wrong = document.get("error") if isinstance(document, dict) else {}
            if wrong is None:
                found = document
            else:
                error = ServiceRefusal(409, wrong).error
        except ServiceRefusal as refused:
            error = refused.error
        except UpdaterError as away:  # nothing else is raised; a page would wait for ever
            error = told(away, Text("-"), language)
        self._know(name, begun, found=found, error=error, at=self._service.now())

    def _know(self, name: str, begun: Looked, **more: object) -> None:
        """Keep what is known now in one step, unless it was begun anew or let go of meanwhile."""
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None and kept.serial == begun.serial:
                self._kept[name] = replace(kept, **more)  # type: ignore[arg-type]

    def _inspected(
        self, name: str, begun: Looked, form: Mapping[str, object], language: str
    ) -> Document:
        seen, pause = self._begun(form, language), SOON_S
        while seen["result"] is None:
            update = ProgressUpdate.from_json(seen["progress"])
            self._know(name, begun, progress=update.text if update is not None else None)
            time.sleep(pause)
            pause = min(2 * pause, LATER_S)
            seen = self._service.get(f"/v1/inspections/{seen['id']}", language)
        found: Document = seen["result"]["document"]
        return found

    def _begun(self, form: Mapping[str, object], language: str) -> Document:
        """Begin an inspection, once there is room: a terminal of this person may look, too."""
        for _ in range(TRIES):
            try:
                return self._service.call("POST", "/v1/inspections", language, form)
            except ServiceRefusal as refused:
                if refused.error["code"] != FULL:
                    raise
            time.sleep(FULL_S)
        return self._service.call("POST", "/v1/inspections", language, form)
