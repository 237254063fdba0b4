"""After the commit: watch, then collect what is no longer needed. These steps only go forward."""

from __future__ import annotations

from dataclasses import replace

from ncen_updater.agent.adapters.application.base import Expectation, Health, ProbeResult
from ncen_updater.agent.adapters.application.soak import SoakState, soak
from ncen_updater.agent.adapters.databases.base import CopyPlan, DatabaseRole
from ncen_updater.agent.engine.elapsed import witness
from ncen_updater.agent.engine.expand_contract import contract, contracts, note_what_stays
from ncen_updater.agent.engine.full_words import forget_old
from ncen_updater.agent.engine.retention import drop_sets, interrupted_sets, may_go
from ncen_updater.agent.engine.site import StepContext, reference
from ncen_updater.agent.engine.statistics import refreshing
from ncen_updater.agent.engine.steps.base import Step
from ncen_updater.agent.engine.steps.outage import Outage, Refusals, own_places, room_of_databases
from ncen_updater.agent.engine.steps.starting import start_rest
from ncen_updater.agent.model.change import StepName
from ncen_updater.agent.model.errors import SoakFailed
from ncen_updater.agent.model.facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.policy.collection import NamedByJournal
from ncen_updater.common.disk_space import find_full
from ncen_updater.common.i18n import N_, Text


class Commit(Step):
    """The record itself is the effect; it is written with the state of the change."""

    name = StepName.COMMIT
    title = Text(N_("committing"))

    def do(self, context: StepContext) -> ChangeFacts:
        """Write the commit, unless the databases see a reason to go back at this last moment."""
        context.site.engine.before_commit(context.ref)
        context.journal.commit(context.change.id)
        return NO_FACTS


class Soak(Step):
    """Watch the health of the release while officers use it."""

    name = StepName.SOAK
    title = Text(N_("watching the release"))

    def prepare(self, context: StepContext) -> ChangeFacts:
        """The first beginning counts: a restart of the agent does not make the soak longer."""
        began = context.facts().soak_began or context.site.clock.now()
        return ChangeFacts(soak_began=began)

    def do(self, context: StepContext) -> ChangeFacts:
        """Watch for what is left of the time, unless a person confirmed the release.

        What the planner knows is brought up to date meanwhile. The release is not judged while the
        databases are away.

        What brings the migrations to their end comes last: on a release that has proved good. It
        is watched once more after that.

        Raises:
            SoakFailed: If the release turned bad.
            WatchedWithoutDatabases: If the databases stay away.
            HealthRefused: If it is not to be found out how it is.
            ContractFailed: If the migrations were not brought to their end.
        """
        site, settings = context.site, context.site.config.soak
        manifest = context.target().manifest
        facts = context.facts()
        if facts.soak_failed is not None and facts.confirmed_by is None:
            raise self._failed(context, facts.soak_failed)
        outage = Outage(context, self.title)
        if facts.rest_failed is not None and facts.confirmed_by is None:
            # Also where the soak has no time; but whoever started it by hand meanwhile is heard.
            self._start_rest(context, outage, facts.rest_failed)
        expectation = Expectation(manifest.reported, manifest.health)

        refusals = Refusals(settings.failures)
        # Asked once: a server whose disk is full says nothing any more.
        places = (*own_places(site), *room_of_databases(site))

        def look() -> Health:
            health = site.application.health(expectation, opened=True)
            full = find_full(places) if health else None
            if full is not None:
                problem = ProbeResult("disk", f"{full[0]} is full")
                health = replace(health, results=(*health.results, problem))
            refusals.seen(health)
            if health:
                outage.over()
            return health

        def watch(seconds: float, elapsed_s: float) -> SoakState:
            result = soak(
                look,
                seconds=seconds,
                interval_s=settings.interval_s,
                failures=settings.failures,
                clock=site.clock.monotonic,
                wait=site.clock.wait,
                elapsed_s=elapsed_s,
                unknown=lambda: refusals.explain() or outage.explains(),
                confirmed=lambda: context.facts().confirmed_by is not None,
            )
            if not result:
                problems = "; ".join(result.last.problems) if result.last is not None else ""
                raise self._failed_now(context, problems)
            return result.state

        with refreshing(site, context.progress, self.title) as statistics:
            seen = watch(settings.seconds, self._elapsed(context, outage.lost_s))
        target = site.migrations(context.target_version)
        beside = site.engine.runs_beside
        if contracts(context.change, context.facts(), target, beside=beside):
            contract(context)
            context.progress.tell(self.title)
            more = watch(min(settings.seconds, settings.interval_s), 0.0)
            seen = SoakState(seen.looks + more.looks, seen.bad + more.bad)
        elif context.facts().contract_left:
            # Its last try may have been cut off before it was written down.
            note_what_stays(site, context.journal, context.change)
        return ChangeFacts(
            soak_looks=seen.looks, soak_bad_looks=seen.bad, statistics=statistics.found
        )

    def _start_rest(self, context: StepContext, outage: Outage, reason: str) -> None:
        """Start once more, with the databases there, what did not start when officers came in."""
        application = context.site.application
        if not application.missing(opened=True):
            return
        outage.wait(context.site.config.soak.interval_s)
        reason = start_rest(context.site) or reason
        missing = application.missing(opened=True)
        if missing:
            raise self._failed_now(context, f"{', '.join(missing)}: {reason}")

    def _failed_now(self, context: StepContext, problems: str) -> SoakFailed:
        # Kept before anything else happens: a crash from here on must not forgive it.
        context.journal.keep(context.change.id, ChangeFacts(soak_failed=problems))
        return self._failed(context, problems)

    def _failed(self, context: StepContext, problems: str) -> SoakFailed:
        return SoakFailed(
            product=context.change.product, version=context.change.to_version, problems=problems
        )

    def _elapsed(self, context: StepContext, lost_s: float) -> float:
        """Seconds of the soak before this beginning; leaves time enough for a verdict.

        Args:
            context: Of the step.
            lost_s: So many of them do not count.
        """
        settings = context.site.config.soak
        now = context.site.clock.now()
        passed = (now - (context.facts().soak_began or now)).total_seconds() - lost_s
        # A clock that was set, or a night without power, must not be taken for a good soak.
        at_most = max(settings.seconds - settings.failures * settings.interval_s, 0.0)
        return min(max(passed, 0.0), at_most)


class Collect(Step):
    """Drop previous databases and old slots by policy; never what the journal names."""

    name = StepName.COLLECT
    title = Text(N_("collecting what is no longer needed"))

    def do(self, context: StepContext) -> ChangeFacts:
        """Drop, one thing after the other; what is gone already does not matter."""
        site = context.site
        witness(context.journal, site.clock)
        forget_old(context.journal.path.parent, site.clock.now().timestamp())
        decision = may_go(
            site,
            context.journal,
            came_from=context.origin_version,
            named=NamedByJournal(
                slots=frozenset({context.target_version}),
                changes=frozenset({context.change.id}),
            ),
        )
        # A crash in this step leaves sets that are marked as gone and of which a part is there.
        changes = sorted({*decision.changes, *interrupted_sets(site, context.journal)})
        drop_sets(site, context.journal, changes, context.progress)
        for version in decision.slots:
            site.slots.remove(version)
        if site.overlay is not None:
            site.overlay.collect()
        self._discard_leftovers(context)
        offer = context.offer()
        if offer is not None:
            site.source.discard(offer)
        return ChangeFacts(
            dropped_changes=tuple(changes),
            dropped_slots=tuple(str(version) for version in decision.slots),
        )

    def _discard_leftovers(self, context: StepContext) -> None:
        """Remove candidates of closed changes; the journal has the plans of their copies."""
        journal, engine = context.journal, context.site.engine
        closed = {change.id: change for change in journal.changes() if not change.state.open}
        for change_id in {c for c, role, _ in engine.leftovers() if role is DatabaseRole.CANDIDATE}:
            plan = journal.facts(change_id).copy if change_id in closed else None
            if plan is not None:
                engine.discard(reference(closed[change_id]), CopyPlan(plan))
