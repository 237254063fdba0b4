"""Status of a site at one moment, read once, for users, notifications, metrics and decisions.

Every part is a value, or the error that occurred instead; no failure is omitted. Callers name the
parts that they need, and no others are read. The journal is read over one connection, in one
transaction.

To add a fact: add a field of :class:`SiteStatus` and its line in :func:`read_status`, or a field of
:class:`JournalSnapshot` and its line in :func:`read_journal_snapshot`. No third-party imports,
since ``status`` must start fast.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from ncen_updater.agent.config.errors import ConfigError
from ncen_updater.agent.config.essential_settings import EssentialSettings
from ncen_updater.agent.config.raw_config import read_raw_config
from ncen_updater.agent.config.validation_cache import check_config
from ncen_updater.agent.engine.approvals.approval import (
    Approval,
    ApprovalCount,
    ReleaseApproval,
    RollbackApproval,
    count_approvals,
)
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore, ScheduleRecord
from ncen_updater.agent.engine.approvals.rollback_approvals import find_installing_upgrade
from ncen_updater.agent.engine.lock import read_lock_holder
from ncen_updater.agent.engine.pending_rollback import (
    PendingRollback,
    find_pending_rollback,
    find_rollback_job,
)
from ncen_updater.agent.model.change import Change, ChangeState
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.model.errors import JournalUnreadableError
from ncen_updater.agent.model.event_names import CHANGE_LOCK_FILE, JOURNAL_FILE
from ncen_updater.agent.policy.availability import Availability, AvailabilityState, apply_full_disk
from ncen_updater.agent.storage.journal.jobs import Job, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.journal_file import FIRST_HASH
from ncen_updater.agent.storage.journal.rows import ChainHead
from ncen_updater.agent.storage.journal.site_history import (
    FailedReleaseRecord,
    HoldRecord,
    SiteHistory,
    select_longest_hold,
)
from ncen_updater.agent.storage.slots.link import read_current_version
from ncen_updater.common.bounded_io import parse_json, read_file
from ncen_updater.common.disk_space import find_full_path
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import parse_stored_time
from ncen_updater.feed.feed_summary import FeedSummary, get_view_path, read_feed_summary

if TYPE_CHECKING:
    from ncen_updater.agent.config.agent_config import AgentConfig
    from ncen_updater.agent.engine.recovery import ObservedState
    from ncen_updater.agent.engine.rehearsal.downtime_forecasts import LastDowntime
    from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalRecord
    from ncen_updater.agent.engine.site import Site
    from ncen_updater.agent.storage.agent_selection import AgentSelection
    from ncen_updater.agent.storage.service_state import Assessment, ServiceState
    from ncen_updater.feed.feed_summary import KnownEmergencyHalt

logger = logging.getLogger(__name__)

MAX_METADATA_BYTES = 5_000_000
#: Default of :class:`.agent_config.SoakSettings`, which is slow to import; a test compares them.
DEFAULT_SOAK_S = 3600.0
#: Number of repeated reads if the parts are inconsistent.
MAX_REREADS = 2
#: More than a tick of the kernel's clock: HZ is 100 or more.
CLOCK_TICK_NS = 20_000_000
T = TypeVar("T")
#: A value, or the error that occurred instead.
Part: TypeAlias = "T | Exception"
#: Value of parts that were not requested.
NOT_READ = LookupError("this part was not requested")
#: Cache of large files: modification time and size, and the parsed content.
FileCache = dict[Path, tuple[tuple[int, int], object]]


def require_part(part: Part[T]) -> T:
    """Return a part, or raise its error."""
    if isinstance(part, Exception):
        raise part
    return part


def get_part_or_none(part: Part[T]) -> T | None:
    """Return a part, or None if it is an error that is reported elsewhere."""
    return None if isinstance(part, Exception) else part


@dataclass(frozen=True)
class JournalSnapshot:
    """State of the journal at one moment.

    Attributes:
        last_event: Number of its last event.
        head: Number and hash of the last event, to be recorded elsewhere.
        open_change: The open change.
        last_change: The last started change, which may be open.
        last_facts: Facts of the last change.
        pending_rollback: A rollback that was interrupted and is still pending.
        holds: Holds in force.
        bad_releases: Releases marked bad at this site.
        good_since: When releases marked bad last succeeded at this site, by version.
        waiting_job: The oldest queued job.
        rollback_job: A queued rollback from the release in its soak period.
        approvals: All approvals in force.
        upgrade_approvals: Approvals in force for upgrades, with their target.
        rollback_approvals: Approvals in force for a rollback of the last upgrade.
        schedules: Schedules in force.
        consumed_approvals: Approvers of the last change, if it was reverted, who have not approved
            again.
        rehearsed: Versions that the newest rehearsal upgraded from and to, if it passed and no
            change began since.
    """

    last_event: int = 0
    head: str = str(ChainHead(0, FIRST_HASH))
    open_change: Change | None = None
    last_change: Change | None = None
    last_facts: ChangeFacts = NO_FACTS
    pending_rollback: PendingRollback | None = None
    holds: tuple[HoldRecord, ...] = ()
    bad_releases: tuple[FailedReleaseRecord, ...] = ()
    good_since: Mapping[str, datetime] = field(default_factory=dict)
    waiting_job: Job | None = None
    rollback_job: Job | None = None
    approvals: tuple[Approval, ...] = ()
    upgrade_approvals: tuple[ReleaseApproval, ...] = ()
    rollback_approvals: tuple[RollbackApproval, ...] = ()
    schedules: tuple[ScheduleRecord, ...] = ()
    consumed_approvals: tuple[str, ...] = ()
    rehearsed: tuple[str, str] | None = None

    @property
    def needs_operator(self) -> bool:
        """Return whether the open change's release failed and an operator must roll it back."""
        return self.open_change is not None and bool(self.last_facts.needs_operator)

    @property
    def longest_hold(self) -> HoldRecord | None:
        """Return the hold that ends last; None without a hold."""
        return select_longest_hold(self.holds)

    def count_approvals(self, binding: str, needed: int) -> ApprovalCount:
        """Return the approvals of a binding, compared with the required number."""
        return count_approvals(self.approvals, binding, needed)

    def find_schedule(self, binding: str) -> ScheduleRecord | None:
        """Return the schedule of a binding; None without one."""
        return next((found for found in self.schedules if found.binding == binding), None)


def read_journal_snapshot(journal: Journal, now: datetime) -> JournalSnapshot:
    """Read the state of the journal; the caller holds a read transaction."""
    history, approvals = SiteHistory(journal), ApprovalStore(journal)
    last, bad = next(iter(journal.list_changes(1)), None), history.list_bad_releases()
    if last is not None:
        require_zones(journal, last)
    facts = journal.read_facts(last.id) if last else NO_FACTS
    return JournalSnapshot(
        last_event=journal.read_last_event_number(),
        head=str(journal.read_head()),
        open_change=journal.find_open_change(),
        last_change=last,
        last_facts=facts,
        pending_rollback=find_pending_rollback(journal),
        holds=history.list_active_holds(now),
        bad_releases=bad,
        good_since=_read_good_since(journal, {row.version for row in bad}),
        waiting_job=JobQueue(journal).find_next(),
        rollback_job=find_rollback_job(journal),
        approvals=approvals.list_active(),
        upgrade_approvals=approvals.list_for_upgrades(),
        rollback_approvals=_list_applicable_rollback_approvals(journal, approvals),
        schedules=approvals.list_schedules(),
        consumed_approvals=_list_consumed_approvals(approvals, last, facts) if last else (),
        rehearsed=_find_rehearsed(journal, last),
    )


def _list_applicable_rollback_approvals(
    journal: Journal, store: ApprovalStore
) -> tuple[RollbackApproval, ...]:
    """Return rollback approvals for the last upgrade; an approval applies to one upgrade only."""
    approvals = store.list_for_rollbacks()
    upgrades = {one.origin: find_installing_upgrade(journal, one.origin) for one in approvals}
    return tuple(
        one for one in approvals if (by := upgrades[one.origin]) is not None and by.id == one.undoes
    )


def _list_consumed_approvals(
    store: ApprovalStore, last: Change, facts: ChangeFacts
) -> tuple[str, ...]:
    """Return the approvers of a reverted last change: each approval is valid for one attempt."""
    if last.state is not ChangeState.REVERTED:
        return ()
    renewed = {one.actor for one in store.list_active() if one.at >= last.created_at}
    return tuple(
        actor for actor in store.list_consumed_by(last.id, facts.binding) if actor not in renewed
    )


def require_zones(journal: Journal, change: Change) -> None:
    """Refuse a change with a time without time zone, which no agent writes.

    Raises:
        JournalUnreadableError: If there is such a time.
    """
    times = [change.created_at, change.ended_at]
    for record in change.steps.values():
        times += [record.started_at, record.ended_at]
    if any(time is not None and time.tzinfo is None for time in times):
        raise JournalUnreadableError(
            path=journal.path, reason=LazyText("{id}: time without a time zone", {"id": change.id})
        )


def _read_good_since(journal: Journal, versions: Collection[str]) -> dict[str, datetime]:
    """Return when changes to releases last ended without a failed soak period, or confirmed."""
    found: dict[str, datetime] = {}
    finished = f"SELECT id, to_version FROM changes WHERE state = '{ChangeState.FINISHED}'"  # noqa: S608
    for row in journal.query(f"{finished} ORDER BY rowid DESC") if versions else ():
        if row["to_version"] in versions and row["to_version"] not in found:
            change, facts = journal.read_change(row["id"]), journal.read_facts(row["id"])
            succeeded = facts.soak_error is None or facts.confirmed_by is not None
            if succeeded and change.ended_at is not None:
                found[change.to_version] = change.ended_at
    return found


@dataclass(frozen=True)
class SiteStatus:
    """Status of a site at one moment.

    Attributes:
        now: The moment.
        paths: Paths and identity of the site.
        current: The installed release; None if none was selected yet.
        configuration_error: Error of the complete configuration; None without one.
        maintenance_on: Whether the maintenance file exists; None if the configuration has none.
        availability: Availability according to maintenance page, processes and health check.
        lock_holder: Holder of the change lock.
        journal: State of the journal.
        required_approvals: Number of required approvals.
        soak_s: Duration of the soak period in seconds.
        rehearsals: Rehearsals, newest first.
        last_downtime: Actual and predicted downtime of the newest successful change.
        feed_view: Summary of the last verified metadata.
        emergency_halts: Emergency halts in force.
        signed_at: The newest time in signed metadata; a correct clock is not behind it.
        expiries: Expiry of each TUF role's metadata.
        service_state: State of the service.
        agent: Selection of the agent.
        free_percent: Free disk space in percent, by content of the disk.
        full_disk: A full disk of the site and its free bytes; the agent's own disk first.
        observed_state: State of the open change according to databases and slots.
    """

    now: datetime
    paths: EssentialSettings
    current: Part[str | None] = NOT_READ
    configuration_error: Part[ConfigError | None] = NOT_READ
    maintenance_on: Part[bool | None] = NOT_READ
    availability: Part[Availability] = NOT_READ
    lock_holder: Part[str | None] = NOT_READ
    journal: Part[JournalSnapshot] = NOT_READ
    required_approvals: Part[int] = NOT_READ
    soak_s: Part[float] = NOT_READ
    rehearsals: Part[tuple[RehearsalRecord, ...]] = NOT_READ
    last_downtime: Part[LastDowntime | None] = NOT_READ
    feed_view: Part[FeedSummary | None] = NOT_READ
    emergency_halts: Part[tuple[KnownEmergencyHalt, ...]] = NOT_READ
    signed_at: Part[datetime | None] = NOT_READ
    expiries: Part[Mapping[str, Part[datetime]]] = NOT_READ
    service_state: Part[ServiceState] = NOT_READ
    agent: Part[AgentSelection | None] = NOT_READ
    free_percent: Part[Mapping[str, Part[float]]] = NOT_READ
    full_disk: Part[tuple[Path, int] | None] = NOT_READ
    observed_state: Part[ObservedState] = NOT_READ

    @property
    def errors(self) -> tuple[Exception, ...]:
        """Return the errors of requested parts, each once."""
        parts = [getattr(self, one.name) for one in fields(self)]
        found = [part for part in parts if isinstance(part, Exception) and part is not NOT_READ]
        return tuple({id(error): error for error in found}.values())

    @property
    def is_inconsistent(self) -> bool:
        """Return whether the maintenance page's state contradicts the probed availability."""
        maintenance_file, availability = (
            get_part_or_none(self.maintenance_on),
            get_part_or_none(self.availability),
        )
        if (
            maintenance_file is None
            or availability is None
            or availability.state is AvailabilityState.UNKNOWN
        ):
            return False
        return maintenance_file is not (availability.state is AvailabilityState.MAINTENANCE)

    @property
    def is_work_unfinished(self) -> bool:
        """Return whether a change or a rehearsal is unfinished."""
        from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalState

        interrupted = any(
            one.state is RehearsalState.RUNNING for one in require_part(self.rehearsals)
        )
        return require_part(self.journal).open_change is not None or interrupted

    @property
    def soak_until(self) -> datetime | None:
        """Return the end of the open change's soak period; None if there is none.

        An outage of the databases extends the soak period. None also after a confirmation, which
        ends the soak period.
        """
        journal, seconds = get_part_or_none(self.journal), get_part_or_none(self.soak_s)
        if journal is None or seconds is None or journal.open_change is None:
            return None
        if (
            not journal.open_change.is_soaking
            or journal.last_facts.is_soak_failed
            or journal.needs_operator
        ):
            return None
        # the service ends the soak period in its next cycle
        if journal.last_facts.confirmed_by is not None:
            return None
        if journal.last_facts.contract_started is not None:  # the soak period is over
            return None
        return (journal.last_facts.soak_started_at or self.now) + timedelta(seconds=seconds)

    @property
    def is_contracting(self) -> bool:
        """Return whether the final migrations of the open change are running."""
        journal = get_part_or_none(self.journal)
        if journal is None or journal.open_change is None or not journal.open_change.is_soaking:
            return False
        return (
            journal.last_facts.contract_started is not None
            and journal.last_facts.contract_s is None
        )

    @property
    def is_withdrawn(self) -> bool | None:
        """Return whether the installed release is withdrawn; None if unknown."""
        view, current = get_part_or_none(self.feed_view), self.current
        return None if view is None or isinstance(current, Exception) else current in view.withdrawn

    @property
    def next_upgrade(self) -> Assessment | None:
        """Return the service's last assessment of the next upgrade."""
        service_state = get_part_or_none(self.service_state)
        return service_state.assessment if service_state else None

    @property
    def binding(self) -> str:
        """Return the binding of the next upgrade; empty if nothing can be approved."""
        return self.next_upgrade.binding if self.next_upgrade else ""

    def count_missing_approvals(self, needed: int) -> int | None:
        """Return the number of missing approvals of the next upgrade; None if unknown.

        0 if nothing can be approved yet.
        """
        journal, assessment = get_part_or_none(self.journal), self.next_upgrade
        if assessment is None or assessment.target is None or not assessment.binding:
            needed = 0
        return journal.count_approvals(self.binding, needed).missing if journal else None

    @property
    def rehearsal(self) -> RehearsalRecord | None:
        """Return the newest rehearsal of the next upgrade."""
        assessment = self.next_upgrade
        if assessment is None or assessment.current is None or assessment.target is None:
            return None
        hop = (assessment.current, assessment.target)
        rehearsals = require_part(self.rehearsals)
        return next((one for one in rehearsals if (one.from_version, one.to_version) == hop), None)


ALL_PARTS = frozenset(one.name for one in fields(SiteStatus)) - {"now", "paths"}
#: Parts that can be read without the databases.
PARTS_WITHOUT_DATABASES = ALL_PARTS - {"observed_state"}


def read_status(
    paths: EssentialSettings,
    now: datetime,
    parts: Collection[str] = ALL_PARTS,
    *,
    config: AgentConfig | None = None,
    site: Site | None = None,
    cache: FileCache | None = None,
    probe: Callable[[], Availability] | None = None,
) -> SiteStatus:
    """Read the status of a site; changes nothing, and never raises errors of parts.

    Args:
        paths: Paths and identity of the site.
        now: The current time.
        parts: Names of the requested fields of :class:`SiteStatus`.
        config: The complete configuration; without it agent and free space are not read.
        site: The complete site; without it the databases are not queried.
        cache: Cache of large files.
        probe: Probes the availability; by default this process does, with its own permissions.
    """

    def part(name: str, read: Callable[[], T]) -> Part[T]:
        return _read_part(read) if name in parts else NOT_READ

    raw_config = functools.cache(lambda: read_raw_config(paths.config_path).data)

    def read_once() -> SiteStatus:
        # Read the lock before the journal: a process that released it has already written
        # everything.
        lock_holder = part("lock_holder", lambda: read_lock_holder(paths.state / CHANGE_LOCK_FILE))
        journal, rehearsals, last_downtime = _read_journal_parts(paths, now, parts)
        return SiteStatus(
            now,
            paths,
            current=part("current", lambda: _read_current(paths)),
            configuration_error=part(
                "configuration_error", lambda: check_config(paths.config_path, paths.state)
            ),
            availability=part("availability", lambda: _read_availability(paths, probe)),
            maintenance_on=part("maintenance_on", lambda: _is_maintenance_on(raw_config())),
            lock_holder=lock_holder,
            journal=journal,
            required_approvals=part(
                "required_approvals", lambda: _get_required_approvals(raw_config())
            ),
            soak_s=part("soak_s", lambda: _get_soak_seconds(raw_config())),
            rehearsals=rehearsals,
            last_downtime=last_downtime,
            feed_view=part("feed_view", lambda: _read_feed_view(paths, cache)),
            emergency_halts=part("emergency_halts", lambda: _read_emergency_halts(paths, now)),
            signed_at=part("signed_at", lambda: _read_signed_at(paths)),
            expiries=part("expiries", lambda: _read_expiries(paths, cache)),
            service_state=part("service_state", lambda: _read_service_state(paths)),
            agent=part("agent", lambda: _read_agent_selection(config)) if config else NOT_READ,
            free_percent=part("free_percent", lambda: _read_free_space(paths, config))
            if config
            else NOT_READ,
            full_disk=part(
                "full_disk",
                lambda: find_full_path((paths.state, paths.slots, *_list_database_disks(paths))),
            ),
            observed_state=part("observed_state", lambda: _observe_site(site, journal))
            if site
            else NOT_READ,
        )

    # Probing the application takes seconds; the maintenance page may have been removed meanwhile.
    status = read_once()
    for _ in range(MAX_REREADS):
        if not status.is_inconsistent:
            break
        status = read_once()
    return status


def _read_part(read: Callable[[], T]) -> Part[T]:
    try:
        return read()
    except Exception as error:
        if not isinstance(error, UpdaterError | OSError | ValueError | LookupError):
            logger.exception("a part of the status cannot be read")
        return error.with_traceback(None)


def _read_journal_parts(
    paths: EssentialSettings, now: datetime, parts: Collection[str]
) -> tuple[Part[JournalSnapshot], Part[tuple[RehearsalRecord, ...]], Part[LastDowntime | None]]:
    """Read the parts from the journal, over one connection and in one transaction."""
    # The query of the databases needs the open change from the journal.
    if not {"journal", "rehearsals", "last_downtime", "observed_state"} & set(parts):
        return NOT_READ, NOT_READ, NOT_READ

    def read() -> tuple[JournalSnapshot, tuple[RehearsalRecord, ...], LastDowntime | None]:
        with (
            Journal.open(paths.state / JOURNAL_FILE, read_only=True) as journal,
            journal.read_transaction(),
        ):
            return (
                read_journal_snapshot(journal, now),
                _read_rehearsals(journal) if "rehearsals" in parts else (),
                _read_last_downtime(journal) if "last_downtime" in parts else None,
            )

    values = _read_part(read)
    if isinstance(values, Exception):
        return values, values, values
    snapshot, rehearsals, last_downtime = values
    return (
        snapshot,
        rehearsals if "rehearsals" in parts else NOT_READ,
        last_downtime if "last_downtime" in parts else NOT_READ,
    )


def _read_rehearsals(journal: Journal) -> tuple[RehearsalRecord, ...]:
    from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalStore

    return RehearsalStore(journal).list_newest()


def _find_rehearsed(journal: Journal, last: Change | None) -> tuple[str, str] | None:
    from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalState, RehearsalStore

    for one in RehearsalStore(journal).list_newest(1):
        if one.state is RehearsalState.PASSED and (not last or one.started_at >= last.created_at):
            return one.from_version, one.to_version
    return None


def _read_last_downtime(journal: Journal) -> LastDowntime | None:
    from ncen_updater.agent.engine.rehearsal.downtime_forecasts import find_last_downtime

    return find_last_downtime(journal)


def read_mtime_ns(path: Path) -> int:
    """Return a file's modification time in nanoseconds; 0 if it is missing.

    A write after this call changes the time. Linux before 6.13 gives all writes within one tick of
    its clock the same time, so the tick of a new time is waited out.
    """
    try:
        mtime = path.stat().st_mtime_ns
    except OSError:
        return 0
    # Below zero, the clock was set back: the time of a later write is another one.
    if 0 <= time.time_ns() - mtime < CLOCK_TICK_NS:
        time.sleep(CLOCK_TICK_NS / 1e9)
    return mtime


def _read_current(paths: EssentialSettings) -> str | None:
    version = read_current_version(paths.slots, paths.current)
    return str(version) if version else None


def _is_maintenance_on(config: Mapping[str, Any]) -> bool | None:
    paths, application = config.get("paths", {}), config.get("application", {})
    name = application.get("maintenance_file") if isinstance(application, dict) else None
    root = paths.get("root", "/") if isinstance(paths, dict) else None
    if not isinstance(name, str) or not isinstance(root, str):
        return None
    try:
        (Path(root) / name).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _get_required_approvals(config: Mapping[str, Any]) -> int:
    service = config.get("service", {})
    needed = service.get("required_approvals") if isinstance(service, dict) else None
    return needed if type(needed) is int and needed > 0 else 1


def _get_soak_seconds(config: Mapping[str, Any]) -> float:
    soak = config.get("soak", {})
    seconds = soak.get("seconds") if isinstance(soak, dict) else None
    return float(seconds) if isinstance(seconds, int | float) and seconds >= 0 else DEFAULT_SOAK_S


def _read_availability(
    paths: EssentialSettings, probe: Callable[[], Availability] | None
) -> Availability:
    from ncen_updater.agent.adapters.application.availability_probe import probe_availability

    full = find_full_path(_list_database_disks(paths))
    return apply_full_disk(probe() if probe else probe_availability(paths), full and full[0])


def _list_database_disks(paths: EssentialSettings) -> tuple[Path, ...]:
    """Return the disks of the databases, as the service last determined them."""
    assessment = _read_service_state(paths).assessment
    return tuple(map(Path, assessment.disks)) if assessment else ()


def _read_cached(path: Path, read: Callable[[Path], T], cache: FileCache | None) -> T:
    """Read a file, or return its cached content."""
    cache = {} if cache is None else cache
    info = path.stat()
    version = (info.st_mtime_ns, info.st_size)
    known = cache.get(path)
    if known is None or known[0] != version:
        known = (version, read(path))
        cache[path] = known
    return known[1]  # type: ignore[return-value]  # always read by the same function


def _read_feed_view(paths: EssentialSettings, cache: FileCache | None) -> FeedSummary | None:
    try:
        return _read_cached(
            get_view_path(paths.feed_state, paths.product), read_feed_summary, cache
        )
    except FileNotFoundError:
        return None


def _read_emergency_halts(
    paths: EssentialSettings, now: datetime
) -> tuple[KnownEmergencyHalt, ...]:
    from ncen_updater.feed.feed_summary import list_active_halts
    from ncen_updater.feed.trust_state import TrustStateStore

    store = TrustStateStore(paths.state, lambda: now)
    return list_active_halts(
        store.load().emergency_halts, paths.product, store.get_reference_time()
    )


def _read_signed_at(paths: EssentialSettings) -> datetime | None:
    from ncen_updater.feed.trust_state import TrustStateStore

    return TrustStateStore(paths.state).load().clock_floor


def _read_expiries(paths: EssentialSettings, cache: FileCache | None) -> dict[str, Part[datetime]]:
    files = sorted((paths.feed_state / "metadata").glob("*.json"))[:50]
    return {
        path.stem: _read_part(partial(_read_cached, path, _read_expiry, cache))
        for path in files
        if not path.name[:1].isdigit()  # copies of earlier root metadata
    }


def _read_expiry(path: Path) -> datetime:
    data = parse_json(read_file(path, MAX_METADATA_BYTES))
    return parse_stored_time(str(data["signed"]["expires"]))


def _read_service_state(paths: EssentialSettings) -> ServiceState:
    from ncen_updater.agent.storage.service_state import SERVICE_STATE_PATH, ServiceStateFile

    return ServiceStateFile(paths.state / SERVICE_STATE_PATH).load()


def _read_agent_selection(config: AgentConfig) -> AgentSelection | None:
    from ncen_updater.agent.storage.agent_selection import AgentSelectionFile

    return AgentSelectionFile(config.paths.resolve(config.paths.agent_slots)).load()


def _read_free_space(paths: EssentialSettings, config: AgentConfig) -> dict[str, Part[float]]:
    disks = {"state": paths.state, "slots": paths.slots}
    if (directory := config.databases.engine_settings.local_directory) is not None:
        disks["databases"] = directory
    return {name: _read_part(partial(_compute_free_percent, path)) for name, path in disks.items()}


def _compute_free_percent(path: Path) -> float:
    disk = os.statvfs(path)
    if not disk.f_blocks:
        raise OSError(f"cannot determine the size of the file system of {path}")
    return round(100 * disk.f_bavail / disk.f_blocks, 1)


def _observe_site(site: Site, journal: Part[JournalSnapshot]) -> ObservedState:
    from ncen_updater.agent.engine.observed_state import observe_site

    snapshot = get_part_or_none(journal)
    return observe_site(site, snapshot.open_change if snapshot else None, by_operator=True)
