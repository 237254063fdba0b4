"""Steps on the application: maintenance page, stop, start, and health check."""

from __future__ import annotations

import logging

from ncen_updater.agent.adapters.application.health_result import HealthExpectation
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
    was_on = bool(context.read_facts().maintenance_was_on)
    return was_on or not context.site.application.is_in_maintenance()


def _measure_downtime(context: StepContext) -> float | None:
    """Measure the downtime by the monotonic clock; None after a reboot."""
    downtime_started = context.read_facts().downtime_started
    clock = context.site.clock
    if downtime_started is None or downtime_started.boot != clock.boot_id():
        return None
    return round(clock.monotonic() - downtime_started.monotonic_s, 3)


class MaintenanceOnStep(Step):
    """Show the maintenance page to users."""

    name = StepName.MAINTENANCE_ON
    title = LazyText(N_("showing the maintenance page"))

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Record whether an operator had switched maintenance on, and when the downtime starts.

        If the change replaces an open one that left maintenance on, the fact of that change counts.
        """
        recorded = context.read_facts().maintenance_was_on
        was_on = context.site.application.is_in_maintenance() if recorded is None else recorded
        clock = context.site.clock
        return ChangeFacts(
            maintenance_was_on=was_on,
            downtime_started=DowntimeStart(clock.boot_id(), clock.monotonic()),
        )

    def record_intent(self, context: StepContext) -> None:
        """Consume the approvals, whatever the outcome is."""
        if context.change.kind is ChangeKind.UPGRADE:
            ApprovalStore(context.journal).consume_all(context.change.id)
        elif (binding := context.read_facts().binding) is not None:
            ApprovalStore(context.journal).consume(context.change.id, binding)

    def do(self, context: StepContext) -> ChangeFacts:
        """Show the maintenance page.

        Raises:
            MAINTENANCE_PAGE_NOT_SHOWN: The web server does not show the page to users.
        """
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

        If the change replaces one that was interrupted after its commit, the application must run.
        """
        recorded = context.read_facts().was_running
        running = context.site.application.is_running() if recorded is None else recorded
        return ChangeFacts(was_running=running)

    def do(self, context: StepContext) -> ChangeFacts:
        """Stop the application."""
        context.site.application.stop()
        return NO_FACTS

    def is_done(self, context: StepContext) -> bool:
        """Tell whether no process of the application is left."""
        return not context.site.application.is_running()

    def describe_undo(self, context: StepContext) -> LazyText | None:
        """See :meth:`Step.describe_undo`."""
        return (
            LazyText(N_("starting the application"))
            if context.read_facts().was_running and not context.at_boot
            else None
        )

    def undo(self, context: StepContext) -> None:
        """Start the old release and wait until it is healthy; then the maintenance page is removed.

        A running application is stopped first: it may still be stopping since :meth:`do`, or
        somebody may have started it while the databases were closed.
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
    """Start the new release behind the maintenance page."""

    name = StepName.START
    title = LazyText(N_("starting the application"))

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Record that maintenance ends with the change if an operator switched it off meanwhile."""
        page_on = context.site.application.is_in_maintenance()
        return NO_FACTS if page_on else ChangeFacts(maintenance_was_on=False)

    def do(self, context: StepContext) -> ChangeFacts:
        """Start the release of ``current``; the maintenance page must be on until the commit.

        An application that is already running was not started by this step and is stopped. A failed
        start is retried once, since its command may have been killed.
        """
        application = context.site.application
        application.enable_maintenance()
        application.stop()
        require_address_free(context.site, context.read_target())
        try:
            application.start()
        except CommandError as error:
            logger.warning("the start failed; trying once more: %s", error)
            application.stop()
            try:
                application.start()
            except CommandError as second_error:
                require_judgeable(context.site, str(second_error))
                raise
        return NO_FACTS

    def describe_undo(self, context: StepContext) -> LazyText | None:
        """See :meth:`Step.describe_undo`."""
        return LazyText(N_("stopping the application"))

    def undo(self, context: StepContext) -> None:
        """Stop the application and cancel a queued start, except a start that the system queued.

        At boot a queued start is the system's.
        """
        if not context.at_boot or context.site.application.is_running():
            context.site.application.stop()

    def is_undone(self, context: StepContext) -> bool:
        """Tell whether no process of the application is left."""
        return not context.site.application.is_running()


class HealthStep(Step):
    """Check the health behind the maintenance page, with the final database names."""

    name = StepName.HEALTH
    title = LazyText(N_("waiting for the health check"))

    def do(self, context: StepContext) -> ChangeFacts:
        """Wait for health, and raise if the application is not healthy in time.

        A rollback continues even if the application refuses the credentials of the health check:
        the release that is rolled back may be the cause.
        """
        require_healthy(
            context.site,
            context.read_target(),
            distinguishable=context.are_releases_distinguishable,
            strict=context.change.kind is ChangeKind.UPGRADE,
        )
        return NO_FACTS


class MaintenanceOffStep(Step):
    """End the downtime. Once users are in, a revert is impossible, only a rollback."""

    name = StepName.MAINTENANCE_OFF
    title = LazyText(N_("removing the maintenance page"))

    def do(self, context: StepContext) -> ChangeFacts:
        """Remove the maintenance page, unless an operator had switched it on before the change.

        First the commit is written into the databases: once users work, nothing may revert the
        databases, not even a recovery with a journal restored from before the commit. After a power
        cut the application may have to be started again; after a kill, another release may be
        running and is stopped.

        Then the deferred parts are started. If one fails to start, users still get access; the soak
        period judges it.
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
            return False  # The previous release may be the one that answers.
        manifest = context.read_target().manifest
        expectation = HealthExpectation(manifest.reported, manifest.health)
        return bool(context.site.application.check_health(expectation))

    def is_done(self, context: StepContext) -> bool:
        """Return whether maintenance is off, or was on before the change."""
        return _is_maintenance_restored(context)
