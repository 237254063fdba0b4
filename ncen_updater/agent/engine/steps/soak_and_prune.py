"""After the commit: watch, then collect what is no longer needed. These steps only go forward."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace

from ncen_updater.agent.adapters.application.base import (
    HealthExpectation,
    HealthResult,
    ProbeResult,
)
from ncen_updater.agent.adapters.application.health_watch import SoakState, run_soak
from ncen_updater.agent.adapters.databases.base import CopyPlan, DatabaseRole
from ncen_updater.agent.engine.elapsed_time import record_elapsed_time
from ncen_updater.agent.engine.expand_contract import (
    needs_contract,
    record_live_schemas,
    run_contract,
)
from ncen_updater.agent.engine.prune import (
    apply_retention,
    drop_previous_databases,
    find_interrupted_drops,
)
from ncen_updater.agent.engine.raw_errors import prune_raw_errors
from ncen_updater.agent.engine.site import Site, Step, StepContext, make_change_ref
from ncen_updater.agent.engine.steps.outage import (
    OutageTracker,
    RefusalTracker,
    own_places,
    room_of_databases,
)
from ncen_updater.agent.engine.steps.start_verdict import start_remaining_parts
from ncen_updater.agent.model.change import StepName
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.model.errors import SoakFailedError
from ncen_updater.agent.policy.retention import ProtectedItems
from ncen_updater.common.disk_space import find_full
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.progress import ProgressListener


class CommitStep(Step):
    """The record itself is the effect; it is written with the state of the change."""

    name = StepName.COMMIT
    title = LazyText(N_("committing the change"))

    def do(self, context: StepContext) -> ChangeFacts:
        """Write the commit, unless the databases see a reason to go back at this last moment."""
        context.site.database_engine.check_before_commit(context.change_ref)
        context.journal.commit_change(context.change.id)
        return NO_FACTS


class SoakStep(Step):
    """Watch the health of the release while users use it."""

    name = StepName.SOAK
    title = LazyText(N_("soak period"))

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Record the first start: a restart of the agent does not extend the soak period."""
        began = context.read_facts().soak_started_at or context.site.clock.now()
        return ChangeFacts(soak_started_at=began)

    def do(self, context: StepContext) -> ChangeFacts:
        """Watch for what is left of the time, unless a person confirmed the release.

        What the planner knows is brought up to date meanwhile. The release is not judged while the
        databases are away.

        What brings the migrations to their end comes last: on a release that has proved good. It
        is watched once more after that.

        Raises:
            SoakFailedError: If the release turned bad.
            SOAK_DATABASES_DOWN: If the databases stay away.
            HEALTH_ACCESS_DENIED: If it is not to be found out how it is.
            CONTRACT_FAILED: If the migrations were not brought to their end.
        """
        site, settings = context.site, context.site.config.soak
        manifest = context.read_target().manifest
        facts = context.read_facts()
        if facts.soak_error is not None and facts.confirmed_by is None:
            raise self._make_error(context, facts.soak_error)
        outage = OutageTracker(context, self.title)
        if facts.remaining_parts_error is not None and facts.confirmed_by is None:
            # Also with a soak period of zero; but a start by hand meanwhile is respected.
            self._retry_remaining_parts(context, outage, facts.remaining_parts_error)
        expectation = HealthExpectation(manifest.reported, manifest.health)

        refusals = RefusalTracker(settings.max_failures)
        # Asked once: a server whose disk is full says nothing any more.
        places = (*own_places(site), *room_of_databases(site))

        def look() -> HealthResult:
            health = site.application.check_health(expectation, include_deferred=True)
            full = find_full(places) if health else None
            if full is not None:
                words = LazyText(N_("disk full: {detail}"), {"detail": full[0]})
                problem = ProbeResult("disk", words)
                health = replace(health, results=(*health.results, problem))
            refusals.record(health)
            if health:
                outage.record_recovery()
            return health

        def watch(seconds: float, elapsed_s: float) -> SoakState:
            result = run_soak(
                look,
                seconds=seconds,
                interval_s=settings.interval_s,
                max_failures=settings.max_failures,
                clock=site.clock.monotonic,
                wait=site.clock.wait,
                elapsed_s=elapsed_s,
                is_inconclusive=lambda: (
                    refusals.is_last_check_excused() or outage.is_failure_excused()
                ),
                is_confirmed=lambda: context.read_facts().confirmed_by is not None,
            )
            if not result:
                health = result.last_health
                problem = None if health is None else health.problem
                raise self._record_failure(context, problem or LazyText(""))
            return result.state

        with refresh_in_background(site, context.progress, self.title) as statistics:
            seen = watch(settings.seconds, self._count_elapsed(context, outage.uncounted_s))
        target = site.load_migrations(context.target_version)
        beside = site.database_engine.supports_online_programs
        if needs_contract(context.change, context.read_facts(), target, runs_beside=beside):
            run_contract(context)
            context.progress.report(self.title)
            more = watch(min(settings.seconds, settings.interval_s), 0.0)
            seen = SoakState(seen.checks + more.checks, seen.failures + more.failures)
        elif context.read_facts().contract_abandoned:
            # Its last try may have been cut off before it was written down.
            record_live_schemas(site, context.journal, context.change)
        return ChangeFacts(
            soak_checks=seen.checks, soak_failed_checks=seen.failures, statistics=statistics.result
        )

    def _retry_remaining_parts(
        self, context: StepContext, outage: OutageTracker, reason: LazyText
    ) -> None:
        """Start once more, with the databases there, what did not start when users came in."""
        application = context.site.application
        if not application.find_missing_parts(include_deferred=True):
            return
        outage.wait_until_over(context.site.config.soak.interval_s)
        reason = start_remaining_parts(context.site) or reason
        missing = application.find_missing_parts(include_deferred=True)
        if missing:
            values = {"name": ", ".join(missing), "text": reason}
            raise self._record_failure(context, LazyText("{name}: {text}", values))

    def _record_failure(self, context: StepContext, problems: LazyText) -> SoakFailedError:
        # Kept before anything else happens: a crash from here on must not forgive it.
        context.journal.store_facts(context.change.id, ChangeFacts(soak_error=problems))
        return self._make_error(context, problems)

    def _make_error(self, context: StepContext, problems: LazyText) -> SoakFailedError:
        return SoakFailedError(
            product=context.change.product, version=context.change.to_version, problems=problems
        )

    def _count_elapsed(self, context: StepContext, lost_s: float) -> float:
        """Return the seconds of the soak before this beginning; leaves time enough for a verdict.

        Args:
            context: Of the step.
            lost_s: So many of them do not count.
        """
        settings = context.site.config.soak
        now = context.site.clock.now()
        passed = (now - (context.read_facts().soak_started_at or now)).total_seconds() - lost_s
        # A clock that was set, or a night without power, must not be taken for a good soak.
        at_most = max(settings.seconds - settings.max_failures * settings.interval_s, 0.0)
        return min(max(passed, 0.0), at_most)


class PruneStep(Step):
    """Drop previous databases and old slots by policy; never what the journal names."""

    name = StepName.PRUNE
    title = LazyText(N_("pruning"))

    def do(self, context: StepContext) -> ChangeFacts:
        """Drop, one thing after the other; what is gone already does not matter."""
        site = context.site
        record_elapsed_time(context.journal, site.clock)
        prune_raw_errors(context.journal.path.parent, site.clock.now().timestamp())
        decision = apply_retention(
            site,
            context.journal,
            origin=context.origin_version,
            named=ProtectedItems(
                slots=frozenset({context.target_version}),
                changes=frozenset({context.change.id}),
            ),
        )
        # A crash in this step leaves sets that are marked as gone and of which a part is there.
        changes = sorted({*decision.changes, *find_interrupted_drops(site, context.journal)})
        drop_previous_databases(site, context.journal, changes, context.progress)
        for version in decision.slots:
            site.slots.remove_slot(version)
        if site.overlay is not None:
            site.overlay.prune()
        self._discard_leftovers(context)
        offer = context.read_offer()
        if offer is not None:
            site.release_source.discard_release(offer)
        return ChangeFacts(
            dropped_changes=tuple(changes),
            dropped_slots=tuple(str(version) for version in decision.slots),
        )

    def _discard_leftovers(self, context: StepContext) -> None:
        """Remove candidates of closed changes; the journal has the plans of their copies."""
        journal, engine = context.journal, context.site.database_engine
        closed = {
            change.id: change for change in journal.list_changes() if not change.state.is_open
        }
        for change_id in {
            c for c, role, _ in engine.list_leftovers() if role is DatabaseRole.CANDIDATE
        }:
            plan = journal.read_facts(change_id).copy_plan if change_id in closed else None
            if plan is not None:
                engine.discard_candidates(make_change_ref(closed[change_id]), CopyPlan(plan))


logger = logging.getLogger(__name__)


#: What is not analyzed by then is left to the server's own upkeep.
STATISTICS_LIMIT_S = 600.0


class StatisticsRefresh:
    """What is being done.

    Args:
        site: Its databases.
        progress: Told that it begins.
        limit_s: How long it may take.
        watching: What is said where they are brought up to date while the release is watched, which
            goes on afterwards.
    """

    def __init__(
        self,
        site: Site,
        progress: ProgressListener,
        limit_s: float = STATISTICS_LIMIT_S,
        watching: LazyText | None = None,
    ) -> None:
        self._site, self._progress, self._limit_s = site, progress, limit_s
        self._watching = watching
        self._found: dict[str, object] = {}

    def run(self) -> None:
        """Renew the statistics; a failure is only reported."""
        clock = self._site.clock.monotonic
        begin = clock()
        alone = N_("updating database statistics")
        beside = N_("soak period, updating database statistics")
        self._progress.report(LazyText(alone if self._watching is None else beside))
        try:
            done = self._site.database_engine.refresh_statistics(self._limit_s)
        except UpdaterError as error:
            logger.warning("statistics: %s", error)
            self._found["failed"] = error.code
        else:
            self._found["tables"] = {name: list(tables) for name, tables in done.items()}
        self._found["seconds"] = round(clock() - begin, 3)
        if self._watching is not None:
            self._progress.report(self._watching)

    @property
    def result(self) -> dict[str, object]:
        """For the journal: the tables, or the code of what stood in the way; and the seconds."""
        return dict(self._found)


@contextlib.contextmanager
def refresh_in_background(
    site: Site, progress: ProgressListener, title: LazyText
) -> Iterator[StatisticsRefresh]:
    """Bring them up to date beside a block that watches; where that fails, it is ended."""
    beside = StatisticsRefresh(site, progress, watching=title)
    thread = threading.Thread(target=beside.run, name="statistics", daemon=True)
    thread.start()
    try:
        yield beside
        thread.join()
    except BaseException:
        while thread.is_alive():
            site.database_engine.cancel_sessions()
            thread.join(0.1)
        raise
