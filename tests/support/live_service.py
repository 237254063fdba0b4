"""The real service on a real stand-in site: started, signalled, killed, checked from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from packaging.version import Version

from demo.evidence import case_references, database_digests
from demo.site import DemoSite, version_of
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.config.service import WindowSettings
from ncen_updater.agent.engine.approvals import upgrade_approvals as approving
from ncen_updater.agent.engine.lock import read_lock_holder
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalStore
from ncen_updater.agent.engine.site_factory import build_site
from ncen_updater.agent.model.change import Actor, StepName
from ncen_updater.agent.model.event_names import CHANGE_LOCK_FILE, JOURNAL_FILE
from ncen_updater.agent.policy.windows import find_open_window
from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.agent.storage.service_state import (
    SERVICE_STATE_PATH,
    ServiceState,
    ServiceStateFile,
)
from ncen_updater.common.progress import SilentProgress
from tests.support import processes
from tests.support.forks import Fork, begin_agent

AMINA, BO = Actor("amina", 1001), Actor("bo", 1002)
PATIENCE_S = 300.0


def open_hours(now: datetime | None = None) -> dict[str, str]:
    """Return a maintenance window that is open for some hours."""
    now = now or datetime.now(UTC)
    return _hours(now - timedelta(hours=1), now + timedelta(hours=3))


def closed_hours(now: datetime | None = None) -> dict[str, str]:
    """Return a maintenance window that opens in some hours."""
    now = now or datetime.now(UTC)
    return _hours(now + timedelta(hours=4), now + timedelta(hours=8))


def _hours(start: datetime, end: datetime) -> dict[str, str]:
    return {"start": f"{start:%H:%M}", "end": f"{end:%H:%M}"}


@dataclass(frozen=True)
class Records:
    """Records entered by users, and the contents of the databases."""

    cases: Mapping[str, set[str]]
    digests: Mapping[str, str]


class ServedSite:
    """Stand-in site with its service, which is a process of its own.

    Args:
        demo: Laid-out site that runs and has a journal and a trusted root.
    """

    def __init__(self, demo: DemoSite) -> None:
        self.demo = demo
        self.log = demo.root / "service.log"
        self._process: Fork | subprocess.Popen[bytes] | None = None

    # ---- the process -----------------------------------------------------------------------------

    def start(self) -> None:
        """Start the service."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
        words = ("--config", str(self.demo.config_path), "serve")
        with self.log.open("ab") as log:
            self._process = begin_agent(
                *words, environment={**kept, "LANG": "C.UTF-8"}, log=log.fileno(), session=True
            )

    @property
    def socket(self) -> Path:
        """Return the socket of the service."""
        config = load_config(self.demo.config_path)
        return config.paths.resolve(config.service.api_socket)

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to the service."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> int:
        """Stop the service like systemd; return its exit status."""
        if self._process is None:
            return 0
        self.tell(signal.SIGTERM)
        try:
            return self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()
            self._process = None

    def kill(self, *, service: bool = True, children: bool = True) -> None:
        """Send SIGKILL to the service, to its children, or to both at once."""
        assert self._process is not None
        found = self.children() if children else []
        if service:
            self._process.kill()
            self._process.wait()
            self._process = None
        processes.kill(found)

    def children(self) -> list[int]:
        """Return all descendants of the service except the application."""
        return [] if self._process is None else processes.ours_below(self._process.pid)

    def said(self, words: str) -> bool:
        """Return whether the service has logged this text."""
        return words in self.log.read_text("utf-8", "replace")

    def until(self, what: str, holds: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
        """Wait for an action of the service.

        Raises:
            AssertionError: If it does not happen; with the end of the service's log.
        """
        deadline = time.monotonic() + seconds
        while not holds():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                tail = self.log.read_text("utf-8", "replace")[-3000:]
                raise AssertionError(f"never: {what}\n{tail}")
            time.sleep(0.05)

    # ---- state of the site ---------------------------------------------------------------------

    def journal(self) -> Journal:
        """Return the journal, open for reading."""
        return Journal.open(self.demo.state / JOURNAL_FILE, read_only=True)

    def kinds(self) -> list[str]:
        """Return the kinds of all events."""
        with self.journal() as journal:
            return [event.kind for event in journal.list_events()]

    def service_state(self) -> ServiceState:
        """Return the stored state of the service."""
        return ServiceStateFile(self.demo.state / SERVICE_STATE_PATH).load()

    def current(self) -> str:
        """Return the release at the link ``current``."""
        return self.demo.current.resolve().name

    def at_rest(self) -> bool:
        """Return whether no change is open and no operation runs or was interrupted."""
        with self.journal() as journal:
            open_work = (
                journal.find_open_change() is not None or RehearsalStore(journal).list_interrupted()
            )
        busy = read_lock_holder(self.demo.state / CHANGE_LOCK_FILE) is not None
        return not (open_work or busy or self.children())

    def records(self) -> Records:
        """Return the current contents of the databases."""
        place = self.demo.databases
        return Records(case_references(place), database_digests(place))

    def judge(self, before: Records, start: str) -> list[str]:
        """Return the faults of the site; empty for one consistent version with all records."""
        found, now = [], self.records()
        whole = version_of(self.demo).whole
        if whole is None:
            found.append(f"a mixture: {version_of(self.demo)}")
        if self.demo.maintenance_file.exists():
            found.append("officers are kept out")
        if now.cases != before.cases:
            found.append("records are missing, or there are new ones")
        if whole == start and now.digests != before.digests:
            found.append("the release before, with other data")
        return found

    def outside(self, hours: Mapping[str, str], since: datetime) -> list[str]:
        """Return changes since a time whose downtime was outside the window."""
        window = WindowSettings.model_validate(dict(hours)).to_window()
        with self.journal() as journal:
            closes = [
                (change.id, change.steps[StepName.MAINTENANCE_ON].started_at)
                for change in journal.list_changes()
                if StepName.MAINTENANCE_ON in change.steps and change.created_at >= since
            ]
        return [name for name, at in closes if find_open_window([window], at, UTC) is None]

    # ---- actions of users ------------------------------------------------------------------------

    def configure(self, **tables: Mapping[str, Any]) -> None:
        """Replace tables of the configuration."""
        self.demo.configure({**(self.demo.options.settings or {}), **tables})

    def approve(self, person: Actor, version: str | None = None) -> int:
        """Approve the rehearsed release; return the number of missing approvals."""
        site = build_site(load_config(self.demo.config_path), self.demo.config_path)
        target = Version(version) if version else None
        with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
            found = approving.find_upgrade_to_approve(site, journal, SilentProgress(), target)
            approving.approve_upgrade(journal, found, person)
            return approving.find_upgrade_to_approve(
                site, journal, SilentProgress(), target
            ).count.missing

    def order(self, kind: JobKind, **data: object) -> int:
        """Queue a job."""
        with Journal.open(self.demo.state / JOURNAL_FILE) as journal:
            return JobQueue(journal).enqueue(kind, data, AMINA)

    def result(self, number: int) -> Mapping[str, Any] | None:
        """Return the result of a job; None while it runs."""
        with self.journal() as journal:
            order = JobQueue(journal).find(number)
        return order.result if order else None

    def hold(self, reason: str) -> None:
        """Set a hold."""
        with Journal.open(self.demo.state / JOURNAL_FILE) as journal:
            SiteHistory(journal).add_hold(reason, AMINA.name, None)

    def unhold(self) -> None:
        """Lift the hold."""
        with Journal.open(self.demo.state / JOURNAL_FILE) as journal:
            SiteHistory(journal).lift_holds(AMINA.name)
