"""A site at one moment, read once: what people, news, figures and decisions are told of it.

Every part is a value, or the error that stands in its place; nothing is guessed, and nothing that
went wrong is left out. Who asks names the parts it needs, and no other is read. What the journal
says is read over one connection, as it was at one instant.

To add a fact: a field of :class:`SiteStatus` and its line in :func:`read_status`, or a field of
:class:`JournalFacts` and its line in :func:`journal_facts`. Standard library only: this module is
on the path of ``status``.
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
from ncen_updater.agent.config.noted_check import config_error
from ncen_updater.agent.config.paths import Places
from ncen_updater.agent.config.read import read_config
from ncen_updater.agent.engine.approvals.model import (
    Approval,
    ApprovalCount,
    BackApproval,
    ReleaseApproval,
    count_approvals,
)
from ncen_updater.agent.engine.approvals.rollback_approvals import brought_by
from ncen_updater.agent.engine.approvals.store import ApprovalStore, ScheduleRecord
from ncen_updater.agent.engine.lock import lock_holder
from ncen_updater.agent.engine.pending_rollback import (
    PendingRollback,
    order_to_go_back,
    pending_rollback,
)
from ncen_updater.agent.model.change import Change, ChangeState
from ncen_updater.agent.model.errors import JournalUnreadable
from ncen_updater.agent.model.facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.model.names import JOURNAL, LOCK
from ncen_updater.agent.policy.availability import Availability, AvailabilityState, on_full_disk
from ncen_updater.agent.storage.journal.head import ChainHead
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.orders import Order, Orders
from ncen_updater.agent.storage.journal.schema import FIRST_HASH
from ncen_updater.agent.storage.journal.site_history import (
    BadReleaseRecord,
    HoldRecord,
    SiteHistory,
)
from ncen_updater.agent.storage.slots.link import current_version
from ncen_updater.common.bounded_io import parse_json, read_file
from ncen_updater.common.disk_space import find_full
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import Text
from ncen_updater.common.records import stored_time
from ncen_updater.feed.last_view import LastView, read_last_view, view_path

if TYPE_CHECKING:
    from ncen_updater.agent.config.model import AgentConfig
    from ncen_updater.agent.engine.recovery import Situation
    from ncen_updater.agent.engine.rehearsal.stops import LastStop
    from ncen_updater.agent.engine.rehearsal.store import RehearsalRecord
    from ncen_updater.agent.engine.site import Site
    from ncen_updater.agent.storage.agent_selection import AgentSelection
    from ncen_updater.agent.storage.service_state import Assessment, ServiceState
    from ncen_updater.feed.brakes import BrakeSeen

logger = logging.getLogger(__name__)

MAX_METADATA_BYTES = 5_000_000
#: As in :class:`.config.model.SoakSettings`, which cannot be imported here; a test compares them.
SOAK_S = 3600.0
#: So many times a site is looked at once more where what was seen of it cannot be of one moment.
LOOKS_AGAIN = 2
T = TypeVar("T")
#: A value, or the error that stands in its place.
Known: TypeAlias = "T | Exception"
#: In the place of what nobody asked for.
NOT_READ = LookupError("this part was not asked for")
#: Large files, read again when they changed: size and time of a file to what was read of it.
Cache = dict[Path, tuple[tuple[int, int], object]]


def need(part: Known[T]) -> T:
    """Return a part, or raise the error that stands in its place."""
    if isinstance(part, Exception):
        raise part
    return part


def or_none(part: Known[T]) -> T | None:
    """Return a part, None in the place of an error: for who says elsewhere that it is missing."""
    return None if isinstance(part, Exception) else part


@dataclass(frozen=True)
class JournalFacts:
    """What the journal says at one instant.

    Attributes:
        event: Number of its last event.
        head: That event by its number and hash, for whoever keeps it elsewhere.
        change: The open change.
        last: The change that was begun last; an open one is always that.
        facts: What the steps of the last one kept.
        owed: A rollback that is owed.
        holds: Holds in force.
        bad_releases: Releases that failed here and are remembered.
        well_since: Of those that came well to their end here, when they did last.
        order: The oldest order that waits.
        back: One that waits to go back from the release that is watched.
        approvals: Approvals in force, of whatever.
        of_releases: Those of upgrades, with where they lead.
        of_rollbacks: Those of going back from a release that was brought last.
        schedules: Chosen times in force.
        used_up: Who had approved the last one, which was undone, and has not approved since.
    """

    event: int = 0
    head: str = str(ChainHead(0, FIRST_HASH))
    change: Change | None = None
    last: Change | None = None
    facts: ChangeFacts = NO_FACTS
    owed: PendingRollback | None = None
    holds: tuple[HoldRecord, ...] = ()
    bad_releases: tuple[BadReleaseRecord, ...] = ()
    well_since: Mapping[str, datetime] = field(default_factory=dict)
    order: Order | None = None
    back: Order | None = None
    approvals: tuple[Approval, ...] = ()
    of_releases: tuple[ReleaseApproval, ...] = ()
    of_rollbacks: tuple[BackApproval, ...] = ()
    schedules: tuple[ScheduleRecord, ...] = ()
    used_up: tuple[str, ...] = ()

    @property
    def waits(self) -> bool:
        """Whether the release of the open change turned bad and nobody takes it back by itself."""
        return self.change is not None and bool(self.facts.waits_for_person)

    @property
    def held_until(self) -> datetime | None:
        """When the last hold in force ends by itself, if all of them do."""
        ends = [hold.until for hold in self.holds if hold.until is not None]
        return max(ends) if ends and len(ends) == len(self.holds) else None

    def people(self, binding: str, needed: int) -> ApprovalCount:
        """Who approved a binding, of so many who have to."""
        return count_approvals(self.approvals, binding, needed)

    def scheduled(self, binding: str) -> ScheduleRecord | None:
        """The time that was chosen for a binding."""
        return next((found for found in self.schedules if found.binding == binding), None)


def journal_facts(journal: Journal, now: datetime) -> JournalFacts:
    """Read what a journal says; what changes between two reads is the caller's to keep out."""
    memory, consent = SiteHistory(journal), ApprovalStore(journal)
    last, bad = next(iter(journal.changes(1)), None), memory.bad_releases()
    if last is not None:
        require_zones(journal, last)
    facts = journal.facts(last.id) if last else NO_FACTS
    return JournalFacts(
        event=journal.last_event(),
        head=str(journal.head()),
        change=journal.open_change(),
        last=last,
        facts=facts,
        owed=pending_rollback(journal),
        holds=memory.holds_in_force(now),
        bad_releases=bad,
        well_since=_well_since(journal, {row.version for row in bad}),
        order=Orders(journal).waiting(),
        back=order_to_go_back(journal),
        approvals=consent.in_force(),
        of_releases=consent.of_releases(),
        of_rollbacks=_of_rollbacks(journal, consent),
        schedules=consent.schedules(),
        used_up=_used_up(consent, last, facts) if last else (),
    )


def _of_rollbacks(journal: Journal, consent: ApprovalStore) -> tuple[BackApproval, ...]:
    """Approvals of what can still be done: a yes to undo an upgrade is none to undo another."""
    given = consent.of_rollbacks()
    brought = {one.origin: brought_by(journal, one.origin) for one in given}
    return tuple(
        one for one in given if (by := brought[one.origin]) is not None and by.id == one.undoes
    )


def _used_up(consent: ApprovalStore, last: Change, facts: ChangeFacts) -> tuple[str, ...]:
    """Whose yes the last change took along when it was undone: one is for one try."""
    if last.state is not ChangeState.UNDONE:
        return ()
    again = {one.who for one in consent.in_force() if one.at >= last.created_at}
    return tuple(who for who in consent.spent_on(last.id, facts.binding) if who not in again)


def require_zones(journal: Journal, change: Change) -> None:
    """Refuse a change with a time that has no zone: no agent wrote it, and it is before no other.

    Raises:
        JournalUnreadable: If so.
    """
    times = [change.created_at, change.ended_at]
    for record in change.steps.values():
        times += [record.started_at, record.ended_at]
    if any(time is not None and time.tzinfo is None for time in times):
        raise JournalUnreadable(
            path=journal.path, reason=Text("{id}: a time without its zone", {"id": change.id})
        )


def _well_since(journal: Journal, versions: Collection[str]) -> dict[str, datetime]:
    """When changes to releases came to their end last, where nothing turned bad."""
    found: dict[str, datetime] = {}
    finished = f"SELECT id, to_version FROM changes WHERE state = '{ChangeState.FINISHED}'"  # noqa: S608
    for row in journal.rows(f"{finished} ORDER BY rowid DESC") if versions else ():
        if row["to_version"] in versions and row["to_version"] not in found:
            change, facts = journal.change(row["id"]), journal.facts(row["id"])
            well = facts.soak_failed is None or facts.confirmed_by is not None
            if well and change.ended_at is not None:
                found[change.to_version] = change.ended_at
    return found


@dataclass(frozen=True)
class SiteStatus:
    """A site at one moment.

    Attributes:
        now: The moment.
        places: Where the site is, and who.
        current: The release in use; None where none was ever chosen.
        configuration: What is wrong with the whole configuration; None where nothing is.
        door: Whether the door keeps officers out; None if the configuration names none.
        availability: Whether officers can work, as door, processes and health address said.
        at_work: Who holds the lock of changes.
        journal: What the journal says.
        needed: How many people have to approve.
        soak_s: So many seconds a release is watched.
        rehearsals: Rehearsals, newest first.
        last_stop: The stop of the newest change that ended well, and its prediction.
        view: The last verified list.
        brakes: What one officer halted for a while, and what holds now.
        signed_at: The newest time in what was signed, which no right clock is behind.
        expiries: Role of the feed to when its signed list lapses.
        service_state: What the service keeps between two looks.
        agent: Which agent is chosen.
        free_percent: Free space of a disk, by what lies on it.
        full_disk: A disk of the site that is full, and its free bytes; the agent's own first.
        databases: What databases and slots say of the open change.
    """

    now: datetime
    places: Places
    current: Known[str | None] = NOT_READ
    configuration: Known[ConfigError | None] = NOT_READ
    door: Known[bool | None] = NOT_READ
    availability: Known[Availability] = NOT_READ
    at_work: Known[str | None] = NOT_READ
    journal: Known[JournalFacts] = NOT_READ
    needed: Known[int] = NOT_READ
    soak_s: Known[float] = NOT_READ
    rehearsals: Known[tuple[RehearsalRecord, ...]] = NOT_READ
    last_stop: Known[LastStop | None] = NOT_READ
    view: Known[LastView | None] = NOT_READ
    brakes: Known[tuple[BrakeSeen, ...]] = NOT_READ
    signed_at: Known[datetime | None] = NOT_READ
    expiries: Known[Mapping[str, Known[datetime]]] = NOT_READ
    service_state: Known[ServiceState] = NOT_READ
    agent: Known[AgentSelection | None] = NOT_READ
    free_percent: Known[Mapping[str, Known[float]]] = NOT_READ
    full_disk: Known[tuple[Path, int] | None] = NOT_READ
    databases: Known[Situation] = NOT_READ

    @property
    def errors(self) -> tuple[Exception, ...]:
        """What stands in the place of parts that were asked for, each once."""
        parts = [getattr(self, one.name) for one in fields(self)]
        found = [part for part in parts if isinstance(part, Exception) and part is not NOT_READ]
        return tuple({id(error): error for error in found}.values())

    @property
    def contradicts_itself(self) -> bool:
        """Whether the door was seen in another state than officers met it in."""
        door, seen = or_none(self.door), or_none(self.availability)
        if door is None or seen is None or seen.state is AvailabilityState.UNKNOWN:
            return False
        return door is not (seen.state is AvailabilityState.MAINTENANCE)

    @property
    def unfinished(self) -> bool:
        """Whether something was begun that has not come to its end: a change, or a rehearsal."""
        from ncen_updater.agent.engine.rehearsal.store import RehearsalState

        torn = any(one.state is RehearsalState.RUNNING for one in need(self.rehearsals))
        return need(self.journal).change is not None or torn

    @property
    def watched_until(self) -> datetime | None:
        """Until when the release of the open change is watched, if all goes well; else None.

        An outage of the databases makes it longer; None once somebody confirmed the release, which
        ends it.
        """
        journal, seconds = or_none(self.journal), or_none(self.soak_s)
        if journal is None or seconds is None or journal.change is None:
            return None
        if not journal.change.watched or journal.facts.turned_bad or journal.waits:
            return None
        if journal.facts.confirmed_by is not None:  # the service ends it at its next look
            return None
        if journal.facts.contracted is not None:  # its time is over
            return None
        return (journal.facts.soak_began or self.now) + timedelta(seconds=seconds)

    @property
    def contracting(self) -> bool:
        """Whether the migrations of the open change are being brought to their end."""
        journal = or_none(self.journal)
        if journal is None or journal.change is None or not journal.change.watched:
            return False
        return journal.facts.contracted is not None and journal.facts.contract_s is None

    @property
    def withdrawn(self) -> bool | None:
        """Whether the release in use was withdrawn; None where that is not known."""
        view, current = or_none(self.view), self.current
        return None if view is None or isinstance(current, Exception) else current in view.withdrawn

    @property
    def next(self) -> Assessment | None:
        """What stands between the site and its next release, as the service found last."""
        service_state = or_none(self.service_state)
        return service_state.assessment if service_state else None

    @property
    def binding(self) -> str:
        """What approvals of what is next have to carry; empty where there is nothing to approve."""
        return self.next.binding if self.next else ""

    def missing(self, needed: int) -> int | None:
        """How many people have yet to approve what is next; None where that is not known.

        Nobody, where nothing can be approved yet.
        """
        journal, found = or_none(self.journal), self.next
        if found is None or found.target is None or not found.binding:
            needed = 0
        return journal.people(self.binding, needed).missing if journal else None

    @property
    def rehearsal(self) -> RehearsalRecord | None:
        """The newest rehearsal of what is next."""
        found = self.next
        if found is None or found.current is None or found.target is None:
            return None
        way = (found.current, found.target)
        rehearsals = need(self.rehearsals)
        return next((one for one in rehearsals if (one.from_version, one.to_version) == way), None)


EVERYTHING = frozenset(one.name for one in fields(SiteStatus)) - {"now", "places"}
#: What can be read without the databases.
FROM_THE_DISK = EVERYTHING - {"databases"}


def read_status(
    places: Places,
    now: datetime,
    parts: Collection[str] = EVERYTHING,
    *,
    config: AgentConfig | None = None,
    site: Site | None = None,
    cache: Cache | None = None,
    ask: Callable[[], Availability] | None = None,
) -> SiteStatus:
    """Read a site; changes nothing, and never raises for what a part holds.

    Args:
        places: Where it is.
        now: The time.
        parts: Names of fields of :class:`SiteStatus` that are wanted.
        config: The whole configuration; without it neither the agent nor the disks are looked at.
        site: The whole site; without it the databases are not asked.
        cache: What was read of large files before.
        ask: Asks whether officers can work; this process does by default, with its own rights.
    """

    def part(name: str, read: Callable[[], T]) -> Known[T]:
        return _known(read) if name in parts else NOT_READ

    def look() -> SiteStatus:
        # Who is at work comes before the journal: one who has ended since has written all of it.
        at_work = part("at_work", lambda: lock_holder(places.state / LOCK))
        journal, rehearsals, stop = _of_journal(places, now, parts)
        return SiteStatus(
            now,
            places,
            current=part("current", lambda: _current(places)),
            configuration=part("configuration", lambda: config_error(places.config, places.state)),
            availability=part("availability", lambda: _availability(places, ask)),
            door=part("door", lambda: _door_closed(places.config)),
            at_work=at_work,
            journal=journal,
            needed=part("needed", lambda: _needed(places.config)),
            soak_s=part("soak_s", lambda: _soak_s(places.config)),
            rehearsals=rehearsals,
            last_stop=stop,
            view=part("view", lambda: _view(places, cache)),
            brakes=part("brakes", lambda: _brakes(places, now)),
            signed_at=part("signed_at", lambda: _signed_at(places)),
            expiries=part("expiries", lambda: _expiries(places, cache)),
            service_state=part("service_state", lambda: _service_state(places)),
            agent=part("agent", lambda: _agent(config)) if config else NOT_READ,
            free_percent=part("free_percent", lambda: _free(places, config))
            if config
            else NOT_READ,
            full_disk=part("full_disk", lambda: find_full(_disks(places))),
            databases=part("databases", lambda: _evidence(site, journal)) if site else NOT_READ,
        )

    # The answer of the application takes seconds; the door may have been opened meanwhile.
    looked = look()
    for _ in range(LOOKS_AGAIN):
        if not looked.contradicts_itself:
            break
        looked = look()
    return looked


def _known(read: Callable[[], T]) -> Known[T]:
    try:
        return read()
    except Exception as error:
        if not isinstance(error, UpdaterError | OSError | ValueError | LookupError):
            logger.exception("a mistake of ours stands in the place of a part")
        return error.with_traceback(None)


def _of_journal(
    places: Places, now: datetime, parts: Collection[str]
) -> tuple[Known[JournalFacts], Known[tuple[RehearsalRecord, ...]], Known[LastStop | None]]:
    """Read what comes of the journal, over one connection, as it was at one instant."""
    # The databases are asked about the change that the journal says is open.
    if not {"journal", "rehearsals", "last_stop", "databases"} & set(parts):
        return NOT_READ, NOT_READ, NOT_READ

    def read() -> tuple[JournalFacts, tuple[RehearsalRecord, ...], LastStop | None]:
        with Journal.open(places.state / JOURNAL, read_only=True) as journal, journal.at_one_time():
            return (
                journal_facts(journal, now),
                _rehearsals(journal) if "rehearsals" in parts else (),
                _last_stop(journal) if "last_stop" in parts else None,
            )

    found = _known(read)
    if isinstance(found, Exception):
        return found, found, found
    facts, rehearsals, stop = found
    return (
        facts,
        rehearsals if "rehearsals" in parts else NOT_READ,
        stop if "last_stop" in parts else NOT_READ,
    )


def _rehearsals(journal: Journal) -> tuple[RehearsalRecord, ...]:
    from ncen_updater.agent.engine.rehearsal.store import Rehearsals

    return Rehearsals(journal).all()


def _last_stop(journal: Journal) -> LastStop | None:
    from ncen_updater.agent.engine.rehearsal.stops import last_stop

    return last_stop(journal)


def changed_at(path: Path) -> int:
    """When a file was last written, nanoseconds; 0 where it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _current(places: Places) -> str | None:
    version = current_version(places.slots, places.current)
    return str(version) if version else None


def _door_closed(config: Path) -> bool | None:
    data = read_config(config).data
    paths, application = data.get("paths", {}), data.get("application", {})
    name = application.get("door_file") if isinstance(application, dict) else None
    root = paths.get("root", "/") if isinstance(paths, dict) else None
    if not isinstance(name, str) or not isinstance(root, str):
        return None
    try:
        (Path(root) / name).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _needed(config: Path) -> int:
    service = read_config(config).data.get("service", {})
    needed = service.get("approvals") if isinstance(service, dict) else None
    return needed if type(needed) is int and needed > 0 else 1


def _soak_s(config: Path) -> float:
    soak = read_config(config).data.get("soak", {})
    seconds = soak.get("seconds") if isinstance(soak, dict) else None
    return float(seconds) if isinstance(seconds, int | float) and seconds >= 0 else SOAK_S


def _availability(places: Places, ask: Callable[[], Availability] | None) -> Availability:
    from ncen_updater.agent.adapters.application.availability import look_at

    full = find_full(_databases(places))
    return on_full_disk(ask() if ask else look_at(places), full and full[0])


def _databases(places: Places) -> tuple[Path, ...]:
    """Where the databases lie, as the service found when they could be asked."""
    found = _service_state(places).assessment
    return tuple(map(Path, found.disks)) if found else ()


def _disks(places: Places) -> tuple[Path, ...]:
    return (places.state, places.slots, *_databases(places))


def _cached(path: Path, read: Callable[[Path], T], cache: Cache | None) -> T:
    """Read a file, or take what was read of it before."""
    cache = {} if cache is None else cache
    seen = path.stat()
    mark = (seen.st_mtime_ns, seen.st_size)
    known = cache.get(path)
    if known is None or known[0] != mark:
        known = (mark, read(path))
        cache[path] = known
    return known[1]  # type: ignore[return-value]  # what this reader made of this file


def _view(places: Places, cache: Cache | None) -> LastView | None:
    try:
        return _cached(view_path(places.received, places.product), read_last_view, cache)
    except FileNotFoundError:
        return None


def _brakes(places: Places, now: datetime) -> tuple[BrakeSeen, ...]:
    from ncen_updater.feed.brakes import in_force
    from ncen_updater.feed.proved import ProvedMemory

    memory = ProvedMemory(places.state, lambda: now)
    return in_force(memory.load().brakes, places.product, memory.reference())


def _signed_at(places: Places) -> datetime | None:
    from ncen_updater.feed.proved import ProvedMemory

    return ProvedMemory(places.state).load().floor


def _expiries(places: Places, cache: Cache | None) -> dict[str, Known[datetime]]:
    files = sorted((places.received / "metadata").glob("*.json"))[:50]
    return {
        path.stem: _known(partial(_cached, path, _expiry, cache))
        for path in files
        if not path.name[:1].isdigit()  # kept copies of earlier roots
    }


def _expiry(path: Path) -> datetime:
    data = parse_json(read_file(path, MAX_METADATA_BYTES))
    return stored_time(str(data["signed"]["expires"]))


def _service_state(places: Places) -> ServiceState:
    from ncen_updater.agent.storage.service_state import SERVICE_STATE, ServiceStateFile

    return ServiceStateFile(places.state / SERVICE_STATE).load()


def _agent(config: AgentConfig) -> AgentSelection | None:
    from ncen_updater.agent.storage.agent_selection import SequenceFile

    return SequenceFile(config.paths.resolve(config.paths.agent)).load()


def _free(places: Places, config: AgentConfig) -> dict[str, Known[float]]:
    disks = {"state": places.state, "slots": places.slots}
    if (directory := config.databases.own.directory_on_disk) is not None:
        disks["databases"] = directory
    return {name: _known(partial(_free_percent, place)) for name, place in disks.items()}


def _free_percent(place: Path) -> float:
    disk = os.statvfs(place)
    if not disk.f_blocks:
        raise OSError(f"{place} lies where nothing says how much room there is")
    return round(100 * disk.f_bavail / disk.f_blocks, 1)


def _evidence(site: Site, journal: Known[JournalFacts]) -> Situation:
    from ncen_updater.agent.engine.situation import look

    facts = or_none(journal)
    return look(site, facts.change if facts else None, by_person=True)
