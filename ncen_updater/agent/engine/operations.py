"""What an operator asks for: upgrade, roll back, resume, confirm. One change at a time.

Each function of :class:`Operations` takes the lock, opens the journal, looks at reality against the
journal, and only then begins.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from packaging.version import Version

from ncen_updater.agent.adapters.databases.base import Marker
from ncen_updater.agent.engine import soaking
from ncen_updater.agent.engine.elapsed import witness
from ncen_updater.agent.engine.expand_contract import note_what_stays
from ncen_updater.agent.engine.interruption import Interruption
from ncen_updater.agent.engine.lock import change_lock, door_lock
from ncen_updater.agent.engine.outcome import Outcome, outcome_of
from ncen_updater.agent.engine.pending_rollback import (
    TAKEN_BACK,
    may_be_left,
    pending_rollback,
    taken_over,
)
from ncen_updater.agent.engine.permitted import require_no_hold
from ncen_updater.agent.engine.preconditions import (
    choose,
    lift_ended_fences,
    require_nothing_open,
    require_whole,
    running_version,
)
from ncen_updater.agent.engine.recovery import Decision, RecoveryAction, Situation, decide
from ncen_updater.agent.engine.rehearsal.predictions import expect, expected, settle
from ncen_updater.agent.engine.rollback_plan import RollbackPlan, way_back
from ncen_updater.agent.engine.runner import Checkpoint, Runner, no_checkpoint
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.engine.situation import look
from ncen_updater.agent.engine.steps.starting import require_well
from ncen_updater.agent.model.change import (
    Change,
    ChangeKind,
    ChangeState,
    Mode,
    StepName,
    StepState,
)
from ncen_updater.agent.model.errors import (
    ApplicationError,
    ChangeFailed,
    JournalForbidden,
    JournalUnwritable,
    NeedsPerson,
    SoakFailed,
    Unhealthy,
)
from ncen_updater.agent.model.facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.model.ids import new_change_id
from ncen_updater.agent.model.names import APPLICATION_STARTED, JOURNAL, LOCK
from ncen_updater.agent.policy.ought_to_run import RunVerdict, ought_to_run
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import (
    FEED_NEVER_READ,
    LATER_HOP_FAILED,
    NOTHING_TO_ROLL_BACK,
    OPEN_CHANGE,
    RECORDS_WOULD_BE_LOST,
    VALUES_WOULD_BE_LOST,
    WAY_BACK_CHANGED,
)
from ncen_updater.common.progress import Progress
from ncen_updater.feed.upgrade_path import NoPath, UpgradePath

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What an operation came to.

    Attributes:
        outcomes: One a change, in order.
        path: The path that was chosen, for an upgrade.
        decision: What recovery decided, for a resume.
        started: Whether a resume started an application that ought to run.
    """

    outcomes: tuple[Outcome, ...] = ()
    path: UpgradePath | NoPath | None = None
    decision: Decision | None = None
    started: bool = False


def _later_hop(failed: ChangeFailed, stays: str) -> ChangeFailed:
    """Say of a change further on the path that the hops before it stay."""
    values: dict[str, Any] = {**failed.values, "stays": stays}
    return ChangeFailed(LATER_HOP_FAILED, detail=failed.detail, **values)


class Operations:
    """The operations on one site.

    Args:
        site: What is acted on.
        progress: Told what is being done.
        interruption: Where signals may end a step.
        checkpoint: For trials, see :mod:`ncen_updater.agent.engine.runner`.
        new_id: Gives ids of changes.
    """

    def __init__(
        self,
        site: Site,
        progress: Progress,
        *,
        interruption: Interruption | None = None,
        checkpoint: Checkpoint = no_checkpoint,
        new_id: Callable[[], str] = new_change_id,
    ) -> None:
        self._site = site
        self._progress = progress
        self._interruption = interruption or Interruption()
        self._checkpoint = checkpoint
        self._new_id = new_id

    # ---- the operations ------------------------------------------------------------------------

    def path(self, target: Version | None = None, *, retry: bool = False) -> UpgradePath | NoPath:
        """Refresh the list and choose a path. Changes nothing at the site.

        Raises:
            UpdaterError: Of the trust, network or path family.
        """
        view = self._site.source.refresh()
        with Journal.open(self._site.state / JOURNAL, read_only=True) as journal:
            return choose(self._site, view.offers, journal, target, retry=retry)

    def upgrade(
        self,
        target: Version | None = None,
        *,
        retry: bool = False,
        begin_before: datetime | None = None,
        agree: Callable[[Journal, UpgradePath], ChangeFacts] | None = None,
    ) -> Result:
        """Walk the path to a release, one change a hop.

        Args:
            target: The release that a person named; the newest by default.
            retry: Try releases again that failed here.
            begin_before: When the window closes in which officers may be kept out.
            agree: Asked once, under the lock and before the first hop; raises to refuse, and
                returns what the first change has to know of the agreement.

        Raises:
            Held: An operator's hold is in force; asked again before each hop.
            ChangeFailed: The first hop failed and was undone.
            LaterHopFailed: A later one did; the hops before it stay.
            SoakFailed: A hop turned bad after its commit and, if so configured, was rolled back.
            UpdaterError: Nothing was begun.
        """
        with self._at_work("upgrade") as journal:
            lift_ended_fences(self._site, journal)
            require_nothing_open(self._site, journal)
            zone = self._site.config.service.zone()
            require_no_hold(journal, self._site.clock.now(), zone)
            offers = self._site.source.refresh().offers
            path = choose(self._site, offers, journal, target, retry=retry)
            outcomes: list[Outcome] = []
            hops = path.hops if isinstance(path, UpgradePath) else ()
            agreed = NO_FACTS
            if agree is not None and isinstance(path, UpgradePath):
                agreed = agree(journal, path)
            walked = tuple(hop.version for hop in hops)
            for offer in hops:
                require_no_hold(journal, self._site.clock.now(), zone)
                change = self._new_change(
                    ChangeKind.UPGRADE, running_version(self._site), offer.release_version
                )
                facts = dataclasses.replace(agreed, path=walked, begin_before=begin_before)
                agreed = NO_FACTS
                predicted = expected(journal, change.from_version, change.to_version)
                journal.begin(change, facts)
                expect(journal, change, predicted)
                try:
                    self._finish(journal, change.id, lambda r, c: r.run(c))
                except ChangeFailed as error:
                    if outcomes:
                        raise _later_hop(error, outcomes[-1].change.to_version) from error
                    raise
                settle(journal, change.id)
                outcomes.append(outcome_of(journal, change.id))
            return Result(tuple(outcomes), path)

    def look_at_clocks(self) -> None:
        """Count the time that has passed, for what is kept for some days; see :mod:`.elapsed`.

        Nothing comes of it where this user may not write the journal.
        """
        try:
            with Journal.open(self._site.state / JOURNAL) as journal:
                witness(journal, self._site.clock)
        except (JournalForbidden, JournalUnwritable) as error:
            logger.info("the time that has passed was not counted: %s", error)

    def way_back(self, *, accept_loss: int | None = None) -> RollbackPlan:
        """Say how a rollback would go. Changes nothing.

        Raises:
            NothingToRollBack: If there is no earlier release here.
            RecordsWouldBeLost: If it loses records and the loss was not accepted.
        """
        with Journal.open(self._site.state / JOURNAL, read_only=True) as journal:
            return self._way_back(journal, accept_loss)

    def rollback(
        self,
        *,
        accept_loss: int | None = None,
        undoes: str | None = None,
        agree: Callable[[Journal, RollbackPlan], ChangeFacts] | None = None,
    ) -> Result:
        """Go back to the release before, keeping every record where the release can.

        Args:
            accept_loss: The number of records that a person agreed to lose.
            undoes: The upgrade whose way back a person saw; by default whatever came last.
            agree: Refuses what people have not agreed to; its facts go with the change.

        Raises:
            NothingToRollBack: If there is no earlier release here.
            WayBackChanged: If another upgrade would be undone than the one that was seen.
            RecordsWouldBeLost: If it loses records and that many were not accepted.
            ChangeFailed: The rollback failed and was undone; the newer release runs.
        """
        with self._at_work("rollback") as journal:
            lift_ended_fences(self._site, journal)
            change = journal.open_change()
            if change is not None and not may_be_left(journal, change):
                raise UpdaterError(
                    OPEN_CHANGE, change=change.id, kind=change.kind, version=change.to_version
                )
            require_whole(self._site, journal, change)
            way = self._way_back(journal, accept_loss)
            if undoes not in (None, way.undoes):
                raise UpdaterError(WAY_BACK_CHANGED, version=way.target, current=way.origin)
            agreed = NO_FACTS if agree is None else agree(journal, way)
            outcome = self._roll_back(
                journal, way, closes=change.id if change else None, agreed=agreed
            )
            return Result((outcome,))

    def resume(
        self, *, by_person: bool, at_boot: bool = False, ran_in: str | None = None
    ) -> Result:
        """Bring the site to one whole version after whatever happened.

        At the start of the machine nothing is asked of the databases where no change is open: the
        application is not kept off for a server that is late. Where one is open, the server is
        waited for, as by every resume that no person typed.

        Args:
            by_person: Whether a person ordered it; they may try as often as they wish.
            at_boot: Whether the system starts the application after us: then we neither start it
                nor watch it.
            ran_in: In which start of the machine the service saw the application run last.

        Raises:
            NeedsPerson: If the facts contradict each other or recovery failed too often.
            GoingBackFailed: If going back failed once more.
        """
        from ncen_updater.agent.engine.rehearsal.rehearse import clean_interrupted

        with self._at_work("resume") as journal:
            change = journal.open_change()
            if at_boot and change is None:
                return Result(decision=decide(Situation(None)))
            if change is not None and not by_person:
                there = functools.partial(self._site.engine.require_live, opened=False)
                self._runner(journal).when_there(there)
            lift_ended_fences(self._site, journal)
            decision = decide(look(self._site, change, by_person=by_person))
            if decision.action is RecoveryAction.NOTHING:
                require_whole(self._site, journal, None)
                clean_interrupted(self._site, journal)
                try:
                    # First: a release that is to be taken back may be one that does not start.
                    found = self._take_back(journal, decision, by_person=by_person, at_boot=at_boot)
                except NeedsPerson:
                    self._start_what_ought(journal, ran_in)
                    raise
                started = self._start_what_ought(journal, ran_in)
                return dataclasses.replace(found, started=started)
            if decision.action is RecoveryAction.STOP or change is None:
                raise self._stopped(journal, change, decision)
            self._runner(journal).resumed(change.id)
            if decision.action is RecoveryAction.GO_FORWARD and not change.committed:
                journal.commit(change.id)  # the databases remember it, the journal did not
            owed = Result()
            try:
                if decision.action is RecoveryAction.GO_BACK:
                    self._runner(journal, at_boot=at_boot).back(change.id)
                elif at_boot:
                    self._runner(journal, at_boot=True).open_only(change.id)
                else:
                    self._start_to_be_watched(journal, change, ran_in)
                    self._finish(journal, change.id, lambda r, c: r.forward(c))
            except BaseException as error:
                self._runner(journal).recovery_failed(change.id, error)
                raise
            if decision.action is RecoveryAction.GO_BACK:
                owed = self._take_back(journal, decision, by_person=by_person, at_boot=at_boot)
            return Result((outcome_of(journal, change.id), *owed.outcomes), decision=decision)

    def _start_what_ought(self, journal: Journal, ran_in: str | None) -> bool:
        """Start the application where it ought to run and nobody comes to start it."""
        application = self._site.application
        verdict = ought_to_run(application.seen(), ran_in, self._site.clock.boot())
        current = self._site.slots.current()
        if verdict is not RunVerdict.START or current is None:
            return False
        self._progress.tell(Text(N_("starting the application")))
        application.start()
        require_well(self._site, self._site.slots.document(current), judged=False)
        application.start_rest()
        journal.note(APPLICATION_STARTED, version=str(current))
        return True

    def _start_to_be_watched(self, journal: Journal, change: Change, ran_in: str | None) -> None:
        """Start what ought to run for its soak, which judges a release that does not start.

        Before officers are let in that is for the steps to do.
        """
        if change.step_state(StepName.OPEN) is not StepState.DONE:
            return
        try:
            self._start_what_ought(journal, ran_in)
        except (Unhealthy, ApplicationError) as error:
            logger.warning("the application is not well, and is watched all the same: %s", error)

    def confirm(self, by: str) -> Change:
        """End the soak of the release in use; the process that watches sees it, or a resume does.

        Raises:
            NothingToConfirm: If no change is committed and open.
        """
        with Journal.open(self._site.state / JOURNAL) as journal:
            return soaking.confirm(journal, by)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Journal]:
        """Open the journal to look into it."""
        with Journal.open(self._site.state / JOURNAL, read_only=True) as journal:
            yield journal

    @contextlib.contextmanager
    def alone(self, what: str) -> Iterator[Journal]:
        """Hold the lock, whatever is open, for what looks itself at how the site stands.

        Raises:
            Busy: If somebody else holds it.
        """
        with self._at_work(what) as journal:
            yield journal

    @contextlib.contextmanager
    def between_changes(self, what: str) -> Iterator[Journal]:
        """Hold the lock while nothing is open, for work that is no change of the site.

        Raises:
            Busy, OpenChange, NeedsPerson: If that is not so.
        """
        with self._at_work(what) as journal:
            lift_ended_fences(self._site, journal)
            require_nothing_open(self._site, journal)
            yield journal

    def known_path(
        self, journal: Journal, target: Version | None = None, *, retry: bool = False
    ) -> UpgradePath | NoPath:
        """Choose a path from the last verified list, without the network.

        Raises:
            FeedNeverRead: If there is none yet; that says nothing of what is on offer.
        """
        view = self._site.source.last_view()
        if view is None:
            raise UpdaterError(FEED_NEVER_READ)
        return choose(self._site, view.offers, journal, target, retry=retry)

    # ---- parts ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _at_work(self, what: str) -> Iterator[Journal]:
        with (
            change_lock(self._site.state / LOCK, what),
            door_lock(self._site.config.application.door_file, what),
            Journal.open(self._site.state / JOURNAL, now=self._site.clock.now) as journal,
        ):
            witness(journal, self._site.clock)
            yield journal

    def _runner(self, journal: Journal, *, at_boot: bool = False) -> Runner:
        return Runner(
            self._site,
            journal,
            self._progress,
            interruption=self._interruption,
            checkpoint=self._checkpoint,
            at_boot=at_boot,
        )

    def _new_change(
        self,
        kind: ChangeKind,
        origin: Version,
        target: Version,
        mode: Mode = Mode.MIGRATE,
        source: str | None = None,
    ) -> Change:
        marker: Marker | None = self._site.engine.marker()
        return Change(
            id=self._new_id(),
            kind=kind,
            mode=mode,
            state=ChangeState.RUNNING,
            product=self._site.config.site.product,
            from_version=str(origin),
            to_version=str(target),
            generation=(marker.generation if marker else 0) + 1,
            created_at=self._site.clock.now(),
            source=source,
        )

    def _way_back(self, journal: Journal, accept_loss: int | None) -> RollbackPlan:
        way = way_back(self._site, journal, running_version(self._site))
        if way is None:
            raise UpdaterError(NOTHING_TO_ROLL_BACK)
        enough = accept_loss is not None and accept_loss >= way.lost_total
        if way.keeps_but and not enough:
            raise UpdaterError(
                VALUES_WOULD_BE_LOST,
                way=way.words,
                current=way.origin,
                count=way.lost_total,
                objects=way.whole_words,
                days=way.days,
                lost=way.lost,
            )
        if way.mode is Mode.RESTORE and not enough:
            raise UpdaterError(
                RECORDS_WOULD_BE_LOST,
                way=way.words,
                version=way.target,
                current=way.origin,
                count=way.lost_total,
                tables=way.whole_words,
                reason=way.reason,
                lost=way.lost,
            )
        return dataclasses.replace(way, accepted=accept_loss or 0)

    def _take_back(
        self, journal: Journal, decision: Decision, *, by_person: bool, at_boot: bool
    ) -> Result:
        """Go back from a release that turned bad, where the rollback for that was torn.

        Not while the machine starts: the application has to run, and the system starts it after us.
        """
        owed = pending_rollback(journal)
        if owed is None or at_boot or not (by_person or owed.by_itself):
            return Result(decision=decision)
        way = way_back(self._site, journal, running_version(self._site))
        if way is None or not way.keeps_all:
            words = N_("release {version} turned bad, and there is no way back that keeps records")
            raise NeedsPerson(reason=Text(words, {"version": owed.change.to_version}))
        if pending_rollback(journal) is None:
            return Result(decision=decision)  # confirmed while the way back was looked for
        outcome = self._roll_back(journal, way, closes=None, soak_of=owed.change.id)
        return Result((outcome,), decision=Decision(RecoveryAction.GO_BACK, "owed", TAKEN_BACK))

    def _roll_back(
        self,
        journal: Journal,
        way: RollbackPlan,
        closes: str | None,
        soak_of: str | None = None,
        agreed: ChangeFacts = NO_FACTS,
    ) -> Outcome:
        if closes is not None:
            # What was to bring its migrations to their end may have been cut off in the middle.
            note_what_stays(self._site, journal, journal.change(closes))
        change = self._new_change(ChangeKind.ROLLBACK, way.origin, way.target, way.mode, way.source)
        facts = dataclasses.replace(
            taken_over(journal, closes),
            accepted_loss=way.accepted,
            undoes=way.undoes,
            by_code=way.by_code or None,
            as_is=way.as_is or None,
            soak_of=soak_of,
            binding=agreed.binding,
        )
        journal.begin(change, facts, closes=closes)
        self._finish(journal, change.id, lambda r, c: r.run(c))
        return outcome_of(journal, change.id)

    def _finish(
        self, journal: Journal, change_id: str, work: Callable[[Runner, str], None]
    ) -> None:
        try:
            work(self._runner(journal), change_id)
        except SoakFailed as error:
            self._after_bad_soak(journal, journal.change(change_id), error)
            raise

    def _after_bad_soak(self, journal: Journal, change: Change, error: SoakFailed) -> None:
        """Remember the release, and go back by itself only where that keeps every record."""
        if change.kind is not ChangeKind.UPGRADE:
            journal.keep(change.id, ChangeFacts(waits_for_person=True))
            return
        SiteHistory(journal).remember_bad(change.product, change.to_version, error.code, change.id)
        way = way_back(self._site, journal, running_version(self._site))
        keeps_all = way is not None and way.keeps_all
        if journal.facts(change.id).confirmed_by is not None:
            return  # while the way back was looked for
        if self._site.config.soak.on_failure == "rollback" and way is not None and keeps_all:
            outcome = self._roll_back(journal, way, closes=change.id, soak_of=change.id)
            error.values["rolled_back_to"] = outcome.change.to_version
        else:
            journal.keep(change.id, ChangeFacts(waits_for_person=True))

    def _stopped(self, journal: Journal, change: Change | None, decision: Decision) -> NeedsPerson:
        if change is not None and change.state is not ChangeState.STUCK:
            journal.state(change.id, ChangeState.STUCK, reason=str(decision.reason))
        return NeedsPerson(reason=decision.reason)
