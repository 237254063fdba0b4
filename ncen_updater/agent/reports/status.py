"""Status of a site at one moment, read once, for people, notifications, metrics and decisions.

Every part is a value, or the error in its place; nothing is guessed, and no failure is left out.
The caller names the parts that it needs, and no other is read. The journal is read over one
connection, in its state of one instant.

To add a fact: a field of :class:`SiteStatus` and its line in :func:`read_status`, or a field of
:class:`JournalSnapshot` and its line in :func:`read_journal_snapshot`. Standard library only: this
module is on the path of ``status``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

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
from ncen_updater.agent.policy.availability import Availability, AvailabilityState, on_full_disk
from ncen_updater.agent.storage.journal.jobs import Job, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.journal_file import FIRST_HASH
from ncen_updater.agent.storage.journal.rows import ChainHead
from ncen_updater.agent.storage.journal.site_history import (
    FailedReleaseRecord,
    HoldRecord,
    SiteHistory,
)
from ncen_updater.agent.storage.slots.link import read_current_version
from ncen_updater.common.bounded_io import parse_json, read_file
from ncen_updater.common.disk_space import find_full
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
#: As in :class:`.config.model.SoakSettings`, which cannot be imported here; a test compares them.
DEFAULT_SOAK_S = 3600.0
#: So many times a site is looked at once more where what was seen of it cannot be of one moment.
MAX_REREADS = 2
T = TypeVar("T")
#: A value, or the error that stands in its place.
Part: TypeAlias = "T | Exception"
#: In the place of what nobody asked for.
NOT_READ = LookupError("this part was not asked for")
#: Large files, read again when they changed: size and time of a file to what was read of it.
FileCache = dict[Path, tuple[tuple[int, int], object]]


def require_part(part: Part[T]) -> T:
    """Return a part, or raise the error that stands in its place."""
    if isinstance(part, Exception):
        raise part
    return part


def get_part_or_none(part: Part[T]) -> T | None:
    """Return a part, None in the place of an error: for who says elsewhere that it is missing."""
    return None if isinstance(part, Exception) else part


@dataclass(frozen=True)
class JournalSnapshot:
    """What the journal says at one instant.

    Attributes:
        last_event: Number of its last event.
        head: That event by its number and hash, for anyone who keeps it elsewhere.
        open_change: The open change.
        last_change: The change that was begun last; an open one is always that.
        last_facts: What the steps of the last one kept.
        pending_rollback: A rollback that was interrupted and is still to be done.
        holds: Holds in force.
        bad_releases: Releases that failed here and are remembered.
        good_since: Of those that came well to their end here, when they did last.
        waiting_job: The oldest order that waits.
        rollback_job: One that waits to go back from the release that is watched.
        approvals: Approvals in force, of whatever.
        upgrade_approvals: Those of upgrades, with where they lead.
        rollback_approvals: Those of a rollback from a release that was brought last.
        schedules: Chosen times in force.
        consumed_approvals: Who had approved the last one, which was undone, and has not approved
            since.
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

    @property
    def needs_operator(self) -> bool:
        """Tell whether the open change's release turned bad and needs a person to roll back."""
        return self.open_change is not None and bool(self.last_facts.needs_operator)

    @property
    def hold_until(self) -> datetime | None:
        """Return when the last hold in force ends by itself, if all of them do."""
        ends = [hold.until for hold in self.holds if hold.until is not None]
        return max(ends) if ends and len(ends) == len(self.holds) else None

    def count_approvals(self, binding: str, needed: int) -> ApprovalCount:
        """Return who approved a binding, of so many who have to."""
        return count_approvals(self.approvals, binding, needed)

    def find_schedule(self, binding: str) -> ScheduleRecord | None:
        """Return the start time chosen for a binding."""
        return next((found for found in self.schedules if found.binding == binding), None)


def read_journal_snapshot(journal: Journal, now: datetime) -> JournalSnapshot:
    """Read what a journal says; what changes between two reads is the caller's to keep out."""
    memory, consent = SiteHistory(journal), ApprovalStore(journal)
    last, bad = next(iter(journal.list_changes(1)), None), memory.list_bad_releases()
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
        holds=memory.list_active_holds(now),
        bad_releases=bad,
        good_since=_read_good_since(journal, {row.version for row in bad}),
        waiting_job=JobQueue(journal).find_next(),
        rollback_job=find_rollback_job(journal),
        approvals=consent.list_active(),
        upgrade_approvals=consent.list_for_upgrades(),
        rollback_approvals=_list_applicable_rollback_approvals(journal, consent),
        schedules=consent.list_schedules(),
        consumed_approvals=_list_consumed_approvals(consent, last, facts) if last else (),
    )


def _list_applicable_rollback_approvals(
    journal: Journal, consent: ApprovalStore
) -> tuple[RollbackApproval, ...]:
    """Approvals of what can still be done: a yes to undo an upgrade is none to undo another."""
    given = consent.list_for_rollbacks()
    brought = {one.origin: find_installing_upgrade(journal, one.origin) for one in given}
    return tuple(
        one for one in given if (by := brought[one.origin]) is not None and by.id == one.undoes
    )


def _list_consumed_approvals(
    consent: ApprovalStore, last: Change, facts: ChangeFacts
) -> tuple[str, ...]:
    """List whose approval the last change used up when it was undone: one is for one try."""
    if last.state is not ChangeState.REVERTED:
        return ()
    again = {one.actor for one in consent.list_active() if one.at >= last.created_at}
    return tuple(
        who for who in consent.list_consumed_by(last.id, facts.binding) if who not in again
    )


def require_zones(journal: Journal, change: Change) -> None:
    """Refuse a change with a time that has no zone: no agent wrote it, and it is before no other.

    Raises:
        JournalUnreadableError: If so.
    """
    times = [change.created_at, change.ended_at]
    for record in change.steps.values():
        times += [record.started_at, record.ended_at]
    if any(time is not None and time.tzinfo is None for time in times):
        raise JournalUnreadableError(
            path=journal.path, reason=LazyText("{id}: time without a time zone", {"id": change.id})
        )


def _read_good_since(journal: Journal, versions: Collection[str]) -> dict[str, datetime]:
    """Read when changes to releases came to their end last, where nothing turned bad."""
    found: dict[str, datetime] = {}
    finished = f"SELECT id, to_version FROM changes WHERE state = '{ChangeState.FINISHED}'"  # noqa: S608
    for row in journal.query(f"{finished} ORDER BY rowid DESC") if versions else ():
        if row["to_version"] in versions and row["to_version"] not in found:
            change, facts = journal.read_change(row["id"]), journal.read_facts(row["id"])
            well = facts.soak_error is None or facts.confirmed_by is not None
            if well and change.ended_at is not None:
                found[change.to_version] = change.ended_at
    return found


@dataclass(frozen=True)
class SiteStatus:
    """A site at one moment.

    Attributes:
        now: The moment.
        paths: Where the site is, and who.
        current: The release in use; None where none was ever chosen.
        configuration_error: What is wrong with the whole configuration; None where nothing is.
        maintenance_on: Whether the maintenance page keeps users out; None if the configuration
            names none.
        availability: Whether users can work, by maintenance page, processes and health address.
        lock_holder: Who holds the lock of changes.
        journal: What the journal says.
        required_approvals: How many people have to approve.
        soak_s: So many seconds a release is watched.
        rehearsals: Rehearsals, newest first.
        last_downtime: The stop of the newest change that ended well, and its prediction.
        feed_view: The last verified list.
        emergency_halts: What one user halted for a while, and what holds now.
        signed_at: The newest time in what was signed, which no right clock is behind.
        expiries: Role of the feed to when its signed list lapses.
        service_state: What the service keeps between two looks.
        agent: Which agent is chosen.
        free_percent: Free space of a disk, by what lies on it.
        full_disk: A disk of the site that is full, and its free bytes; the agent's own first.
        observed_state: What databases and slots say of the open change.
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
        """Return what stands in the place of parts that were asked for, each once."""
        parts = [getattr(self, one.name) for one in fields(self)]
        found = [part for part in parts if isinstance(part, Exception) and part is not NOT_READ]
        return tuple({id(error): error for error in found}.values())

    @property
    def is_inconsistent(self) -> bool:
        """Return whether the maintenance page was seen in another state than users met it in."""
        maintenance_file, seen = (
            get_part_or_none(self.maintenance_on),
            get_part_or_none(self.availability),
        )
        if maintenance_file is None or seen is None or seen.state is AvailabilityState.UNKNOWN:
            return False
        return maintenance_file is not (seen.state is AvailabilityState.MAINTENANCE)

    @property
    def is_work_unfinished(self) -> bool:
        """Tell whether a change or a rehearsal was begun that has not ended."""
        from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalState

        interrupted = any(
            one.state is RehearsalState.RUNNING for one in require_part(self.rehearsals)
        )
        return require_part(self.journal).open_change is not None or interrupted

    @property
    def soak_until(self) -> datetime | None:
        """Return until when the release of the open change is watched, if all goes well; else None.

        An outage of the databases makes it longer; None once somebody confirmed the release, which
        ends it.
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
        if journal.last_facts.confirmed_by is not None:  # the service ends it at its next look
            return None
        if journal.last_facts.contract_started is not None:  # its time is over
            return None
        return (journal.last_facts.soak_started_at or self.now) + timedelta(seconds=seconds)

    @property
    def is_contracting(self) -> bool:
        """Return whether the migrations of the open change are being brought to their end."""
        journal = get_part_or_none(self.journal)
        if journal is None or journal.open_change is None or not journal.open_change.is_soaking:
            return False
        return (
            journal.last_facts.contract_started is not None
            and journal.last_facts.contract_s is None
        )

    @property
    def is_withdrawn(self) -> bool | None:
        """Return whether the release in use was withdrawn; None where that is not known."""
        view, current = get_part_or_none(self.feed_view), self.current
        return None if view is None or isinstance(current, Exception) else current in view.withdrawn

    @property
    def next_upgrade(self) -> Assessment | None:
        """Return what stands between the site and its next release, as the service found last."""
        service_state = get_part_or_none(self.service_state)
        return service_state.assessment if service_state else None

    @property
    def binding(self) -> str:
        """Return what approvals of the next upgrade carry; empty where none is to approve."""
        return self.next_upgrade.binding if self.next_upgrade else ""

    def count_missing_approvals(self, needed: int) -> int | None:
        """Count the approvals that are missing for the next upgrade; None where that is not known.

        Nobody, where nothing can be approved yet.
        """
        journal, found = get_part_or_none(self.journal), self.next_upgrade
        if found is None or found.target is None or not found.binding:
            needed = 0
        return journal.count_approvals(self.binding, needed).missing if journal else None

    @property
    def rehearsal(self) -> RehearsalRecord | None:
        """Return the newest rehearsal of what is next."""
        found = self.next_upgrade
        if found is None or found.current is None or found.target is None:
            return None
        way = (found.current, found.target)
        rehearsals = require_part(self.rehearsals)
        return next((one for one in rehearsals if (one.from_version, one.to_version) == way), None)


ALL_PARTS = frozenset(one.name for one in fields(SiteStatus)) - {"now", "paths"}
#: What can be read without the databases.
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
    """Read a site; changes nothing, and never raises for what a part holds.

    Args:
        paths: Where it is.
        now: The time.
        parts: Names of fields of :class:`SiteStatus` that are wanted.
        config: The whole configuration; without it neither the agent nor the disks are looked at.
        site: The whole site; without it the databases are not asked.
        cache: What was read of large files before.
        probe: Asks whether users can work; this process does by default, with its own rights.
    """

    def part(name: str, read: Callable[[], T]) -> Part[T]:
        return _read_part(read) if name in parts else NOT_READ

    def look() -> SiteStatus:
        # Who is at work comes before the journal: one who has ended since has written all of it.
        at_work = part("lock_holder", lambda: read_lock_holder(paths.state / CHANGE_LOCK_FILE))
        journal, rehearsals, stop = _read_journal_parts(paths, now, parts)
        return SiteStatus(
            now,
            paths,
            current=part("current", lambda: _read_current(paths)),
            configuration_error=part(
                "configuration_error", lambda: check_config(paths.config_path, paths.state)
            ),
            availability=part("availability", lambda: _read_availability(paths, probe)),
            maintenance_on=part("maintenance_on", lambda: _is_maintenance_on(paths.config_path)),
            lock_holder=at_work,
            journal=journal,
            required_approvals=part(
                "required_approvals", lambda: _read_approvals_needed(paths.config_path)
            ),
            soak_s=part("soak_s", lambda: _read_soak_seconds(paths.config_path)),
            rehearsals=rehearsals,
            last_downtime=stop,
            feed_view=part("feed_view", lambda: _read_feed_view(paths, cache)),
            emergency_halts=part("emergency_halts", lambda: _read_emergency_halts(paths, now)),
            signed_at=part("signed_at", lambda: _signed_at(paths)),
            expiries=part("expiries", lambda: _read_expiries(paths, cache)),
            service_state=part("service_state", lambda: _read_service_state(paths)),
            agent=part("agent", lambda: _read_agent_selection(config)) if config else NOT_READ,
            free_percent=part("free_percent", lambda: _read_free_space(paths, config))
            if config
            else NOT_READ,
            full_disk=part("full_disk", lambda: find_full(_disks(paths))),
            observed_state=part("observed_state", lambda: _observe_site(site, journal))
            if site
            else NOT_READ,
        )

    # The answer of the application takes seconds; the maintenance page may have been removed
    # meanwhile.
    looked = look()
    for _ in range(MAX_REREADS):
        if not looked.is_inconsistent:
            break
        looked = look()
    return looked


def _read_part(read: Callable[[], T]) -> Part[T]:
    try:
        return read()
    except Exception as error:
        if not isinstance(error, UpdaterError | OSError | ValueError | LookupError):
            logger.exception("a mistake of ours stands in the place of a part")
        return error.with_traceback(None)


def _read_journal_parts(
    places: EssentialSettings, now: datetime, parts: Collection[str]
) -> tuple[Part[JournalSnapshot], Part[tuple[RehearsalRecord, ...]], Part[LastDowntime | None]]:
    """Read what comes of the journal, over one connection, as it was at one instant."""
    # The databases are asked about the change that the journal says is open.
    if not {"journal", "rehearsals", "last_downtime", "observed_state"} & set(parts):
        return NOT_READ, NOT_READ, NOT_READ

    def read() -> tuple[JournalSnapshot, tuple[RehearsalRecord, ...], LastDowntime | None]:
        with (
            Journal.open(places.state / JOURNAL_FILE, read_only=True) as journal,
            journal.read_transaction(),
        ):
            return (
                read_journal_snapshot(journal, now),
                _read_rehearsals(journal) if "rehearsals" in parts else (),
                _read_last_downtime(journal) if "last_downtime" in parts else None,
            )

    found = _read_part(read)
    if isinstance(found, Exception):
        return found, found, found
    facts, rehearsals, stop = found
    return (
        facts,
        rehearsals if "rehearsals" in parts else NOT_READ,
        stop if "last_downtime" in parts else NOT_READ,
    )


def _read_rehearsals(journal: Journal) -> tuple[RehearsalRecord, ...]:
    from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalStore

    return RehearsalStore(journal).list_newest()


def _read_last_downtime(journal: Journal) -> LastDowntime | None:
    from ncen_updater.agent.engine.rehearsal.downtime_forecasts import find_last_downtime

    return find_last_downtime(journal)


def read_mtime_ns(path: Path) -> int:
    """Read when a file was last written, nanoseconds; 0 where it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _read_current(places: EssentialSettings) -> str | None:
    version = read_current_version(places.slots, places.current)
    return str(version) if version else None


def _is_maintenance_on(config: Path) -> bool | None:
    data = read_raw_config(config).data
    paths, application = data.get("paths", {}), data.get("application", {})
    name = application.get("maintenance_file") if isinstance(application, dict) else None
    root = paths.get("root", "/") if isinstance(paths, dict) else None
    if not isinstance(name, str) or not isinstance(root, str):
        return None
    try:
        (Path(root) / name).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _read_approvals_needed(config: Path) -> int:
    service = read_raw_config(config).data.get("service", {})
    needed = service.get("required_approvals") if isinstance(service, dict) else None
    return needed if type(needed) is int and needed > 0 else 1


def _read_soak_seconds(config: Path) -> float:
    soak = read_raw_config(config).data.get("soak", {})
    seconds = soak.get("seconds") if isinstance(soak, dict) else None
    return float(seconds) if isinstance(seconds, int | float) and seconds >= 0 else DEFAULT_SOAK_S


def _read_availability(
    places: EssentialSettings, ask: Callable[[], Availability] | None
) -> Availability:
    from ncen_updater.agent.adapters.application.availability_probe import probe_availability

    full = find_full(_databases(places))
    return on_full_disk(ask() if ask else probe_availability(places), full and full[0])


def _databases(places: EssentialSettings) -> tuple[Path, ...]:
    """Return where the databases lie, as the service found when they could be asked."""
    found = _read_service_state(places).assessment
    return tuple(map(Path, found.disks)) if found else ()


def _disks(places: EssentialSettings) -> tuple[Path, ...]:
    return (places.state, places.slots, *_databases(places))


def _read_cached(path: Path, read: Callable[[Path], T], cache: FileCache | None) -> T:
    """Read a file, or take what was read of it before."""
    cache = {} if cache is None else cache
    seen = path.stat()
    mark = (seen.st_mtime_ns, seen.st_size)
    known = cache.get(path)
    if known is None or known[0] != mark:
        known = (mark, read(path))
        cache[path] = known
    return known[1]  # type: ignore[return-value]  # what this reader made of this file


def _read_feed_view(places: EssentialSettings, cache: FileCache | None) -> FeedSummary | None:
    try:
        return _read_cached(
            get_view_path(places.feed_state, places.product), read_feed_summary, cache
        )
    except FileNotFoundError:
        return None


def _read_emergency_halts(
    places: EssentialSettings, now: datetime
) -> tuple[KnownEmergencyHalt, ...]:
    from ncen_updater.feed.feed_summary import list_active_halts
    from ncen_updater.feed.trust_state import TrustStateStore

    memory = TrustStateStore(places.state, lambda: now)
    return list_active_halts(
        memory.load().emergency_halts, places.product, memory.get_reference_time()
    )


def _signed_at(places: EssentialSettings) -> datetime | None:
    from ncen_updater.feed.trust_state import TrustStateStore

    return TrustStateStore(places.state).load().clock_floor


def _read_expiries(places: EssentialSettings, cache: FileCache | None) -> dict[str, Part[datetime]]:
    files = sorted((places.feed_state / "metadata").glob("*.json"))[:50]
    return {
        path.stem: _read_part(partial(_read_cached, path, _read_expiry, cache))
        for path in files
        if not path.name[:1].isdigit()  # kept copies of earlier roots
    }


def _read_expiry(path: Path) -> datetime:
    data = parse_json(read_file(path, MAX_METADATA_BYTES))
    return parse_stored_time(str(data["signed"]["expires"]))


def _read_service_state(places: EssentialSettings) -> ServiceState:
    from ncen_updater.agent.storage.service_state import SERVICE_STATE_PATH, ServiceStateFile

    return ServiceStateFile(places.state / SERVICE_STATE_PATH).load()


def _read_agent_selection(config: AgentConfig) -> AgentSelection | None:
    from ncen_updater.agent.storage.agent_selection import AgentSelectionFile

    return AgentSelectionFile(config.paths.resolve(config.paths.agent_slots)).load()


def _read_free_space(places: EssentialSettings, config: AgentConfig) -> dict[str, Part[float]]:
    disks = {"state": places.state, "slots": places.slots}
    if (directory := config.databases.engine_settings.local_directory) is not None:
        disks["databases"] = directory
    return {
        name: _read_part(partial(_compute_free_percent, place)) for name, place in disks.items()
    }


def _compute_free_percent(place: Path) -> float:
    disk = os.statvfs(place)
    if not disk.f_blocks:
        raise OSError(f"{place} lies where nothing says how much room there is")
    return round(100 * disk.f_bavail / disk.f_blocks, 1)


def _observe_site(site: Site, journal: Part[JournalSnapshot]) -> ObservedState:
    from ncen_updater.agent.engine.observed_state import observe_site

    facts = get_part_or_none(journal)
    return observe_site(site, facts.open_change if facts else None, by_operator=True)
