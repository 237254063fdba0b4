"""The application: the maintenance page, stop and start, and whether it is healthy."""

from __future__ import annotations

import logging

from ncen_updater.agent.adapters.application.base import HealthExpectation
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.site import Step, StepContext
from ncen_updater.agent.engine.steps.start_verdict import (
    require_address_free,
    require_healthy,
    require_judgeable,
    start_remaining_parts,
    try_stop,
)
from ncen_updater.agent.model.change import ChangeKind, StepName
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts, DowntimeStart
from ncen_updater.agent.model.errors import ApplicationError, CommandError
from ncen_updater.agent.model.event_names import RECOVERY_STARTED
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import MAINTENANCE_PAGE_NOT_SHOWN

logger = logging.getLogger(__name__)


def _is_maintenance_restored(context: StepContext) -> bool:
    was_closed = bool(context.read_facts().maintenance_was_on)
    return was_closed or not context.site.application.is_in_maintenance()


def _measure_downtime(context: StepContext) -> float | None:
    """Measure the downtime by a clock that nobody sets; None after a reboot."""
    downtime_started = context.read_facts().downtime_started
    clock = context.site.clock
    if downtime_started is None or downtime_started.boot != clock.boot_id():
        return None
    return round(clock.monotonic() - downtime_started.monotonic_s, 3)


class MaintenanceOnStep(Step):
    """Keep users out."""

    name = StepName.MAINTENANCE_ON
    title = LazyText(N_("showing the maintenance page"))

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Record whether an operator had switched maintenance on, and when the downtime starts.

        Where the change supersedes one that left maintenance on, the fact of that change counts.
        """
        known = context.read_facts().maintenance_was_on
        closed = context.site.application.is_in_maintenance() if known is None else known
        clock = context.site.clock
        return ChangeFacts(
            maintenance_was_on=closed,
            downtime_started=DowntimeStart(clock.boot_id(), clock.monotonic()),
        )

    def do(self, context: StepContext) -> ChangeFacts:
        """Show the maintenance page. This uses up the approvals, whatever the outcome is.

        Raises:
            MAINTENANCE_PAGE_NOT_SHOWN: The web server in front lets users in all the same.
        """
        if context.change.kind is ChangeKind.UPGRADE:
            ApprovalStore(context.journal).consume_all(context.change.id)
        elif (binding := context.read_facts().binding) is not None:
            ApprovalStore(context.journal).consume(context.change.id, binding)
        application = context.site.application
        application.enable_maintenance()
        problem = application.check_maintenance_page(
            rolling_back=context.change.kind is ChangeKind.ROLLBACK
        )
        if problem is not None:
            raise ApplicationError(
                MAINTENANCE_PAGE_NOT_SHOWN,
                url=context.site.config.application.public_url,
                path=context.site.config.application.maintenance_file,
                reason=problem,
            )
        return NO_FACTS

    def is_done(self, context: StepContext) -> bool:
        """Return whether maintenance is on."""
        return context.site.application.is_in_maintenance()

    def describe_undo(self, context: StepContext) -> LazyText | None:
        """See :meth:`Step.describe_undo`."""
        return (
            LazyText(N_("removing the maintenance page"))
            if not context.read_facts().maintenance_was_on
            else None
        )

    def undo(self, context: StepContext) -> None:
        """Remove the maintenance page, unless it was on before."""
        if not context.read_facts().maintenance_was_on:
            context.site.application.disable_maintenance()
        context.journal.store_facts(
            context.change.id, ChangeFacts(downtime_s=_measure_downtime(context))
        )

    def is_undone(self, context: StepContext) -> bool:
        """Return whether maintenance is off, or was on before the change."""
        return _is_maintenance_restored(context)


class StopStep(Step):
    """Stop the application; a revert starts it again and waits until it is healthy."""

    name = StepName.STOP
    title = LazyText(N_("stopping the application"))

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Record whether the application was running: a revert starts it only then.

        Where the change supersedes one that was interrupted after its commit, it has to run.
        """
        known = context.read_facts().was_running
        running = context.site.application.is_running() if known is None else known
        return ChangeFacts(was_running=running)

    def do(self, context: StepContext) -> ChangeFacts:
        """Stop it."""
        context.site.application.stop()
        return NO_FACTS

    def is_done(self, context: StepContext) -> bool:
        """No process of it remains."""
        return not context.site.application.is_running()

    def describe_undo(self, context: StepContext) -> LazyText | None:
        """See :meth:`Step.describe_undo`."""
        return (
            LazyText(N_("starting the application"))
            if context.read_facts().was_running and not context.at_boot
            else None
        )

    def undo(self, context: StepContext) -> None:
        """Start the old release and see it healthy before the maintenance page is removed.

        What runs by now is stopped first: it may be stopping since :meth:`do`, or somebody started
        it while the databases were closed to it.
        """
        if context.read_facts().was_running and not context.at_boot:
            application = context.site.application
            try_stop(context.site)
            application.start()
            require_healthy(
                context.site,
                context.read_origin(),
                distinguishable=context.are_releases_distinguishable,
                strict=False,
            )
            context.journal.store_facts(
                context.change.id,
                ChangeFacts(remaining_parts_error=start_remaining_parts(context.site)),
            )

    def is_undone(self, context: StepContext) -> bool:
        """Return whether the application runs, if it did before; at boot the system starts it."""
        was_running = context.read_facts().was_running and not context.at_boot
        return not was_running or context.site.application.is_running()


class StartStep(Step):
    """Start the new release; the maintenance page is still on."""

    name = StepName.START
    title = LazyText(N_("starting the application"))

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Record that maintenance ends with the change where an operator ended it meanwhile."""
        closed = context.site.application.is_in_maintenance()
        return NO_FACTS if closed else ChangeFacts(maintenance_was_on=False)

    def do(self, context: StepContext) -> ChangeFacts:
        """Start what ``current`` points at; the maintenance page must be on until the commit.

        What runs already is not what we started, and is stopped. A start that fails is tried once
        more: its command may have been killed.
        """
        application = context.site.application
        application.enable_maintenance()
        application.stop()
        require_address_free(context.site, context.read_target())
        try:
            application.start()
        except CommandError as error:
            logger.warning("the start failed and is tried once more: %s", error)
            application.stop()
            try:
                application.start()
            except CommandError as again:
                require_judgeable(context.site, str(again))
                raise
        return NO_FACTS

    def describe_undo(self, context: StepContext) -> LazyText | None:
        """See :meth:`Step.describe_undo`."""
        return LazyText(N_("stopping the application"))

    def undo(self, context: StepContext) -> None:
        """Stop it, and withdraw a start that was ordered; at boot that would be the system's."""
        if not context.at_boot or context.site.application.is_running():
            context.site.application.stop()

    def is_undone(self, context: StepContext) -> bool:
        """No process of it remains."""
        return not context.site.application.is_running()


class HealthStep(Step):
    """Health from outside, under the real names, before anyone is let in."""

    name = StepName.HEALTH
    title = LazyText(N_("waiting for the health check"))

    def do(self, context: StepContext) -> ChangeFacts:
        """Wait, and refuse what is not healthy in time.

        A rollback is not blocked by what the site sends along: the release that is left may be the
        reason why nobody can ask.
        """
        seconds = require_healthy(
            context.site,
            context.read_target(),
            distinguishable=context.are_releases_distinguishable,
            strict=context.change.kind is ChangeKind.UPGRADE,
        )
        return ChangeFacts(startup_s=round(seconds, 3))


class MaintenanceOffStep(Step):
    """Let users in. From the first user on there is no revert, only a rollback."""

    name = StepName.MAINTENANCE_OFF
    title = LazyText(N_("removing the maintenance page"))

    def do(self, context: StepContext) -> ChangeFacts:
        """Remove the maintenance page, unless an operator had turned it on before the change.

        The databases get to know of the commit first: once a user is in, nothing may cut them
        back, not even a recovery by a journal that was restored from before the commit. After a
        power cut the application that was healthy may have to be started again, and after a kill
        it may be another one that runs.

        Parts that wait until users are in follow. One that cannot be started keeps nobody out;
        it is for the soak to judge.
        """
        site, application = context.site, context.site.application
        site.database_engine.record_commit(context.change_ref)
        if not context.at_boot:
            if (
                application.is_running()
                and self._is_recovery(context)
                and not self._is_healthy(context)
            ):
                try_stop(site)
            if not application.is_running():
                application.start()
                require_healthy(
                    site,
                    context.read_target(),
                    distinguishable=context.are_releases_distinguishable,
                    strict=False,
                )
        if not context.read_facts().maintenance_was_on:
            application.disable_maintenance()
        downtime_s = _measure_downtime(context)
        remaining_parts_error = None if context.at_boot else start_remaining_parts(context.site)
        return ChangeFacts(downtime_s=downtime_s, remaining_parts_error=remaining_parts_error)

    def _is_recovery(self, context: StepContext) -> bool:
        events = context.journal.list_events(change=context.change.id)
        return any(event.kind == RECOVERY_STARTED for event in events)

    def _is_healthy(self, context: StepContext) -> bool:
        if not context.are_releases_distinguishable:
            return False  # what answers well may be the release before
        manifest = context.read_target().manifest
        expectation = HealthExpectation(manifest.reported, manifest.health)
        return bool(context.site.application.check_health(expectation))

    def is_done(self, context: StepContext) -> bool:
        """Return whether maintenance is off, or was on before the change."""
        return _is_maintenance_restored(context)
