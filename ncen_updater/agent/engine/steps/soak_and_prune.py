"""Steps from the commit on: commit, soak period and prune. They are completed, never undone."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace

from ncen_updater.agent.adapters.application.health_result import (
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
    list_written_directories,
    measure_database_space,
)
from ncen_updater.agent.engine.steps.start_verdict import start_remaining_parts
from ncen_updater.agent.model.change import StepName
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.model.errors import SoakFailedError
from ncen_updater.agent.policy.retention import ProtectedItems
from ncen_updater.common.disk_space import find_full_path
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.progress import ProgressListener

logger = logging.getLogger(__name__)

#: Time limit of an update of statistics; remaining tables are left to autovacuum.
STATISTICS_LIMIT_S = 600.0


class CommitStep(Step):
    """Commit. The record is the effect; it is written together with the state of the change."""

    name = StepName.COMMIT
    title = LazyText(N_("committing the change"))

    def do(self, context: StepContext) -> ChangeFacts:
        """Write the commit, unless a last check of the databases finds a reason to revert."""
        context.site.database_engine.check_before_commit(context.change_ref)
        context.journal.commit_change(context.change.id, following=StepName.MAINTENANCE_OFF)
        return NO_FACTS


class SoakStep(Step):
    """Watch the health of the release while users work with it."""

    name = StepName.SOAK
    title = LazyText(N_("soak period"))

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Record the first start: a restart of the agent does not extend the soak period."""
        started_at = context.read_facts().soak_started_at or context.site.clock.now()
        return ChangeFacts(soak_started_at=started_at)

    def do(self, context: StepContext) -> ChangeFacts:
        """Watch the release for the rest of the soak period, unless an operator confirms it.

        The databases' statistics are updated meanwhile. Checks made while the databases are
        unavailable do not count. The contract program runs last, after the soak period has passed;
        then the release is watched once more.

        Raises:
            SoakFailedError: If the release fails.
            SOAK_DATABASES_DOWN, SOAK_DISK_FULL: If databases stay unavailable or a disk stays full.
            HEALTH_ACCESS_DENIED: If the application refuses the health checks' credentials.
            CONTRACT_FAILED: If the contract program fails.
        """
        site, settings = context.site, context.site.config.soak
        manifest = context.read_target().manifest
        facts = context.read_facts()
        if facts.soak_error is not None and facts.confirmed_by is None:
            raise self._make_error(context, facts.soak_error)
        outage = OutageTracker(context, self.title)
        if facts.remaining_parts_error is not None and facts.confirmed_by is None:
            # Even if the soak period is zero; but an operator's start in the meantime is respected.
            self._retry_remaining_parts(context, outage, facts.remaining_parts_error)
        expectation = HealthExpectation(manifest.reported, manifest.health)

        refusals = RefusalTracker(settings.max_failures)
        # Queried once: a server with a full disk no longer answers.
        directories = (*list_written_directories(site), *measure_database_space(site))

        def check_health() -> HealthResult:
            health = site.application.check_health(expectation, include_deferred=True)
            full = find_full_path(directories) if health else None
            if full is not None:
                text = LazyText(N_("disk full: {detail}"), {"detail": full[0]})
                problem = ProbeResult("disk", text)
                health = replace(health, results=(*health.results, problem))
            refusals.record(health)
            if health:
                outage.record_recovery()
            return health

        def watch(seconds: float, elapsed_s: float) -> SoakState:
            result = run_soak(
                check_health,
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
            soak = watch(settings.seconds, self._count_elapsed(context, outage.uncounted_s))
        target = site.load_migrations(context.target_version)
        online = site.database_engine.supports_online_programs
        if needs_contract(context.change, context.read_facts(), target, runs_online=online):
            run_contract(context)
            context.progress.report(self.title)
            after_contract = watch(min(settings.seconds, settings.interval_s), 0.0)
            soak = SoakState(
                soak.checks + after_contract.checks, soak.failures + after_contract.failures
            )
        elif context.read_facts().contract_abandoned:
            # Its last run may have been interrupted before its result was recorded.
            record_live_schemas(site, context.journal, context.change)
        return ChangeFacts(
            soak_checks=soak.checks, soak_failed_checks=soak.failures, statistics=statistics.result
        )

    def _retry_remaining_parts(
        self, context: StepContext, outage: OutageTracker, reason: LazyText
    ) -> None:
        """Start deferred parts that failed to start, once the databases are available."""
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
        # Recorded first: a crash from here on must not lose the verdict.
        context.journal.store_facts(context.change.id, ChangeFacts(soak_error=problems))
        return self._make_error(context, problems)

    def _make_error(self, context: StepContext, problems: LazyText) -> SoakFailedError:
        return SoakFailedError(
            product=context.change.product, version=context.change.to_version, problems=problems
        )

    def _count_elapsed(self, context: StepContext, uncounted_s: float) -> float:
        """Return the elapsed seconds of the soak period, but leave enough time for a verdict.

        Args:
            context: Context of the step.
            uncounted_s: Seconds of it that do not count.
        """
        settings = context.site.config.soak
        now = context.site.clock.now()
        passed = (now - (context.read_facts().soak_started_at or now)).total_seconds() - uncounted_s
        # A clock that was set, or a night without power, must not count as a passed soak period.
        at_most = max(settings.seconds - settings.max_failures * settings.interval_s, 0.0)
        return min(max(passed, 0.0), at_most)


class PruneStep(Step):
    """Prune previous databases and old slots; never those that the journal still needs."""

    name = StepName.PRUNE
    title = LazyText(N_("pruning"))

    def do(self, context: StepContext) -> ChangeFacts:
        """Drop item by item; items that are already gone are skipped."""
        site = context.site
        record_elapsed_time(context.journal, site.clock)
        prune_raw_errors(context.journal.path.parent, site.clock.now().timestamp())
        decision = apply_retention(
            site,
            context.journal,
            origin=context.origin_version,
            protected=ProtectedItems(
                slots=frozenset({context.target_version}),
                changes=frozenset({context.change.id}),
            ),
        )
        # A crash in this step leaves sets that are recorded as dropped but partly exist.
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
        """Remove candidates of closed changes; the journal has their copy plans."""
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


class StatisticsRefresh:
    """One update of the databases' statistics.

    Args:
        site: The site.
        progress: Receives progress reports.
        limit_s: Time limit in seconds.
        title: Title of the soak period, if the update runs during it; reported again afterwards.
    """

    def __init__(
        self,
        site: Site,
        progress: ProgressListener,
        limit_s: float = STATISTICS_LIMIT_S,
        title: LazyText | None = None,
    ) -> None:
        self._site, self._progress, self._limit_s = site, progress, limit_s
        self._title = title
        self._result: dict[str, object] = {}

    def run(self) -> None:
        """Update the statistics; a failure is only recorded."""
        clock = self._site.clock.monotonic
        begin = clock()
        title = N_("updating database statistics")
        soak_title = N_("soak period, updating database statistics")
        self._progress.report(LazyText(title if self._title is None else soak_title))
        try:
            tables_by_database = self._site.database_engine.refresh_statistics(self._limit_s)
        except UpdaterError as error:
            logger.warning("statistics: %s", error)
            self._result["failed"] = error.code
        else:
            self._result["tables"] = {
                name: list(tables) for name, tables in tables_by_database.items()
            }
        self._result["seconds"] = round(clock() - begin, 3)
        if self._title is not None:
            self._progress.report(self._title)

    @property
    def result(self) -> dict[str, object]:
        """Return for the journal: the tables, or the error code; and the seconds."""
        return dict(self._result)


@contextlib.contextmanager
def refresh_in_background(
    site: Site, progress: ProgressListener, title: LazyText
) -> Iterator[StatisticsRefresh]:
    """Update the statistics in the background of a block; cancel the update if the block fails."""
    refresh = StatisticsRefresh(site, progress, title=title)
    thread = threading.Thread(target=refresh.run, name="statistics", daemon=True)
    thread.start()
    try:
        yield refresh
        thread.join()
    except BaseException:
        while thread.is_alive():
            site.database_engine.cancel_sessions()
            thread.join(0.1)
        raise
