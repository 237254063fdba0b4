"""Pause of the soak period while something other than the release is at fault.

A lost database server or a full disk is not attributed to the release. So neither failed checks nor
the time during such an outage count. If the application ended during the outage, it is started
afterwards. One command waits at most :data:`OUTAGE_LIMIT_S`; then it ends, the change stays open,
and the service (or an operator's ``resume``) continues the soak period after the outage.

An application that an operator stopped is not attributed to the release either. The agent does not
start it; it waits until the operator starts it or requests a rollback. An application that ended on
its own is judged. So is one controlled by commands, because there the agent cannot know who stopped
it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from pathlib import Path

from ncen_updater.agent.adapters.application.health_result import HealthResult
from ncen_updater.agent.engine.site import Site, StepContext
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.errors import ApplicationError
from ncen_updater.agent.model.event_names import (
    APPLICATION_RUNS,
    APPLICATION_STOPPED,
    DATABASES_AVAILABLE,
    DATABASES_UNAVAILABLE,
    DISK_FULL,
    DISK_HAS_SPACE,
)
from ncen_updater.common.disk_space import MARGIN_BYTES, find_full_path
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    HEALTH_ACCESS_DENIED,
    SOAK_DATABASES_DOWN,
    SOAK_DISK_FULL,
)

logger = logging.getLogger(__name__)

#: How long one command waits for the end of an outage.
OUTAGE_LIMIT_S = 600.0


class OutageCause(Enum):
    """Cause of an outage; its values are the events of its start and its end."""

    DATABASES = (DATABASES_UNAVAILABLE, DATABASES_AVAILABLE)
    DISK = (DISK_FULL, DISK_HAS_SPACE)
    STOPPED = (APPLICATION_STOPPED, APPLICATION_RUNS)


#: Progress titles during an outage.
OUTAGE_TITLES = {
    OutageCause.DATABASES: N_("waiting for the databases; soak timer paused"),
    OutageCause.DISK: N_("waiting for disk space in {path}; soak timer paused"),
    OutageCause.STOPPED: N_("application stopped by an operator; soak timer paused"),
}
CAUSE_BY_START_EVENT = {cause.value[0]: cause for cause in OutageCause}
END_EVENTS = frozenset(cause.value[1] for cause in OutageCause)


def find_full_disk(site: Site) -> Path | None:
    """Return a directory of site or databases whose file system is full, else None."""
    free_bytes = measure_database_space(site)
    full = find_full_path(list_written_directories(site))
    return next(
        (path for path, free in free_bytes.items() if free < MARGIN_BYTES), full and full[0]
    )


def list_written_directories(site: Site) -> tuple[Path, ...]:
    """Return the directories to which agent and application write, except the databases'."""
    paths = site.config.paths
    files = (paths.resolve(item.directory) for item in site.config.files)
    return (site.state_directory, site.slots.slots_directory, *files)


def measure_database_space(site: Site) -> Mapping[Path, int]:
    """Return the free bytes of the databases' file systems; empty if they cannot be determined."""
    try:
        return site.database_engine.measure_free_bytes()
    except (OSError, UpdaterError) as error:
        logger.warning("cannot measure the disk space of the databases: %s", error)
        return {}


class RefusalTracker:
    """Counter of health checks whose credentials the application refuses; they give no verdict.

    Args:
        limit: Number of such checks in a row that interrupts the soak period with an error.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._in_a_row = limit, 0
        self._last: HealthResult | None = None

    def record(self, health: HealthResult) -> None:
        """Record a health check."""
        self._last = health
        self._in_a_row = self._in_a_row + 1 if health.credentials_refused else 0

    def is_last_check_excused(self) -> bool:
        """Tell whether the last health check gives no verdict on the release.

        Raises:
            HEALTH_ACCESS_DENIED: If there were too many in a row. The release stays installed.
        """
        if self._last is None or not self._in_a_row or self._last.missing_parts:
            return False
        if self._in_a_row >= self._limit:
            raise ApplicationError(HEALTH_ACCESS_DENIED, problems=self._last.problem)
        return True


class OutageTracker:
    """Tracker of outages during the soak period of one release.

    It continues an outage that an earlier, killed process recorded in the journal. It writes to the
    journal when an outage begins (in each process) and when it ends, not at each check.

    Args:
        context: Context of the soak step.
        title: Progress title for when the soak period continues.

    Attributes:
        uncounted_s: Seconds since the start of an outage recorded by an earlier process; not yet
            deducted from the soak period in the journal.
    """

    def __init__(self, context: StepContext, title: LazyText) -> None:
        self._context, self._title = context, title
        self._cause: OutageCause | None = None
        self._since: float | None = None
        self.uncounted_s = 0.0
        events = [
            event
            for event in context.journal.list_events(change=context.change.id)
            if event.kind in CAUSE_BY_START_EVENT or event.kind in END_EVENTS
        ]
        if events and events[-1].kind in CAUSE_BY_START_EVENT:
            self._cause = CAUSE_BY_START_EVENT[events[-1].kind]
            passed = (context.site.clock.now() - events[-1].at).total_seconds()
            self.uncounted_s = max(passed, 0.0)

    def is_failure_excused(self) -> bool:
        """Tell whether a health check that has just failed gives no verdict on the release.

        Raises:
            SOAK_DATABASES_DOWN: If the databases are unavailable for too long.
            SOAK_DISK_FULL: If a disk is full for too long.
        """
        if self._are_databases_unavailable():
            self._continue_outage(OutageCause.DATABASES)
            return True
        full = find_full_disk(self._context.site)
        if full is not None:
            self._continue_outage(OutageCause.DISK, full)
            return True
        if self._is_stopped_by_operator():
            self._continue_outage(OutageCause.STOPPED)
            return True
        # A check made while the outage was ending does not count either.
        return self.record_recovery()

    def record_recovery(self) -> bool:
        """Record the end of an outage; return whether there was one.

        All parts of the application that do not run are started, as after a power cut.
        """
        if self._cause is None:
            return False
        context, application = self._context, self._context.site.application
        cause = self._cause
        self._end_outage(cause)
        context.progress.report(self._title)
        if cause is OutageCause.STOPPED:
            return True  # The operator who stopped it decides whether it runs.
        try:
            application.start()
            application.start_deferred_parts()
        except ApplicationError as error:
            logger.warning("the application did not start; monitoring it: %s", error)
        return True

    def wait_until_over(self, interval_s: float) -> None:
        """Wait until the outage is over.

        Raises:
            SOAK_DATABASES_DOWN: If the databases stay unavailable for too long.
            SOAK_DISK_FULL: If a disk stays full for too long.
        """
        while self.is_failure_excused():
            self._context.site.clock.wait(interval_s)

    def _is_stopped_by_operator(self) -> bool:
        """Tell whether an operator stopped the application; then its release is not judged."""
        try:
            return self._context.site.application.was_stopped_on_request()
        except ApplicationError as error:
            logger.warning("cannot determine who stopped the application: %s", error)
            return False

    def _are_databases_unavailable(self) -> bool:
        """Tell whether the server refuses sessions, or a database is missing or closed."""
        engine = self._context.site.database_engine
        if not engine.is_accepting_connections():
            return True
        try:
            evidence = engine.read_evidence(None)
            return bool(evidence.missing or evidence.closed or evidence.locked_out)
        except UpdaterError as error:
            # The server accepts sessions; the release may be the cause of this error.
            logger.warning("cannot determine which databases exist: %s", error)
            return False

    def _continue_outage(self, cause: OutageCause, full_path: Path | None = None) -> None:
        context, now = self._context, self._read_monotonic()
        if self._cause not in (None, cause):
            self._end_outage(self._cause)
        if self._since is None:
            self._start_outage(cause, full_path)
            self._since = now
        context.progress.report(LazyText(OUTAGE_TITLES[cause], {"path": str(full_path)}))
        lasted = now - self._since
        if cause is OutageCause.STOPPED:
            return  # No time limit: only an operator can end this, and it blocks nothing else.
        if lasted >= OUTAGE_LIMIT_S:
            raise UpdaterError(
                SOAK_DATABASES_DOWN if full_path is None else SOAK_DISK_FULL,
                product=context.change.product,
                version=context.change.to_version,
                minutes=round(lasted / 60),
                path=str(full_path or "-"),
            )

    def _start_outage(self, cause: OutageCause, full_path: Path | None) -> None:
        """Record the start of the outage, so that a later process knows since when it lasts."""
        context = self._context
        self._extend_soak(self.uncounted_s)
        values = {} if full_path is None else {"path": str(full_path)}
        context.journal.record_event(cause.value[0], context.change.id, **values)
        logger.warning("the release is not judged by this: %s %s", cause.value[0], full_path or "")
        self._cause = cause

    def _end_outage(self, cause: OutageCause) -> None:
        passed = 0.0 if self._since is None else self._read_monotonic() - self._since
        self._extend_soak(self.uncounted_s + passed)
        self._context.journal.record_event(cause.value[1], self._context.change.id)
        self._cause = self._since = None

    def _extend_soak(self, seconds: float) -> None:
        """Record at once that the soak period ends later, since the process may be killed."""
        self.uncounted_s = 0.0
        started_at = self._context.read_facts().soak_started_at
        if seconds and started_at is not None:
            facts = ChangeFacts(soak_started_at=started_at + timedelta(seconds=seconds))
            self._context.journal.store_facts(self._context.change.id, facts)

    def _read_monotonic(self) -> float:
        return self._context.site.clock.monotonic()
