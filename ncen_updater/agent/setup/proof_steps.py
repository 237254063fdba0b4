"""Test during setup what the first upgrade needs; the tests leave nothing behind."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from ncen_updater.agent.adapters.databases.base import ChangeRef, CopyPlan
from ncen_updater.agent.engine.steps.preflight import require_no_blockers
from ncen_updater.agent.setup.machine import Machine
from ncen_updater.agent.setup.steps import (
    Before,
    SetupStep,
    SiteStep,
    create_flag_file,
    find_missing,
    remove_flag_file,
)
from ncen_updater.agent.setup.web_servers import CHECK, CHECK_ENDING, Front
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import SETUP_PAGE_NOT_SHOWN
from ncen_updater.common.progress import SilentProgress

PAGE_LIMIT_S, PAGE_INTERVAL_S = 10.0, 0.3
#: Id of the trial copies; never the id of a change.
TRIAL_ID = "setuptry"
#: Limit for a copy of one or two minutes; for larger databases the first rehearsal tests the copy.
MAX_TRIAL_BYTES = 1_000_000_000


@dataclass(frozen=True)
class TrialCopyStep(SiteStep, kind="trial-copy"):
    """Copy each database as for a rehearsal, then drop the copies."""

    @property
    def title(self) -> LazyText:
        """See :class:`SetupStep`."""
        return LazyText(N_("copy each database as a trial, and drop the copies"))

    def capture(self, machine: Machine) -> Before:
        """See :class:`SetupStep`; raise if the disk has no space for the copies."""
        engine, change = self.build_site().database_engine, self._change
        found = engine.find_blockers(change, application_stopped=False)
        require_no_blockers([one for one in found if "missing_bytes" in one.figures])
        return {"plan": engine.plan_copy(change).copies}

    def do(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        self.undo(machine, before)
        engine = self.build_site().database_engine
        engine.copy_online(self._change, CopyPlan(before["plan"]), SilentProgress())
        self.undo(machine, before)

    def undo(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        engine = self.build_site().database_engine
        engine.discard_candidates(self._change, CopyPlan(before["plan"]))

    @property
    def _change(self) -> ChangeRef:
        return ChangeRef(TRIAL_ID, 0, self.version)


@dataclass(frozen=True)
class PageStep(SetupStep, kind="page"):
    """Check that the web server shows the maintenance page, without showing it to users.

    Attributes:
        front: Address of the site at the web server.
        maintenance_file: File whose presence shows the page to all users.
    """

    front: Mapping[str, Any]
    maintenance_file: str

    @property
    def title(self) -> LazyText:
        """See :class:`SetupStep`."""
        return LazyText(N_("look at the maintenance page through the web server"))

    def capture(self, machine: Machine) -> Before:
        """See :class:`SetupStep`."""
        return {"missing": find_missing(self._file.parent)}

    def do(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`; repeat the request, because the reload is asynchronous."""
        until = time.monotonic() + PAGE_LIMIT_S
        with create_flag_file(self._file, before["missing"]):
            while (seen := self._fetch()) is not None:
                if time.monotonic() > until:
                    raise UpdaterError(SETUP_PAGE_NOT_SHOWN, url=self._url, detail=seen)
                time.sleep(PAGE_INTERVAL_S)

    def undo(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        remove_flag_file(self._file, before["missing"])

    @property
    def _file(self) -> Path:
        return Path(self.maintenance_file + CHECK_ENDING)

    @property
    def _url(self) -> str:
        front = Front(**self.front)
        return f"{'https' if front.tls else 'http'}://{front.name}:{front.port}{CHECK}"

    def _fetch(self) -> str | None:
        """Request the page; return None if it is shown, else the status or error."""
        front = Front(**self.front)
        line = http.client.HTTPConnection(front.name, front.port, timeout=PAGE_LIMIT_S)
        try:
            line.sock = socket.create_connection((front.host, front.port), PAGE_LIMIT_S)
            if front.tls:  # a local connection needs no valid certificate
                context = ssl._create_unverified_context()  # noqa: S323
                line.sock = context.wrap_socket(line.sock, server_hostname=front.name)
            line.request("GET", CHECK)
            answer = line.getresponse()
            shown = answer.status == HTTPStatus.SERVICE_UNAVAILABLE
            return None if shown and answer.headers["Retry-After"] else f"status {answer.status}"
        except (OSError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__
        finally:
            line.close()
