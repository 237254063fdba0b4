"""The application: the door, stop and start, and whether it is healthy."""

from __future__ import annotations

import logging

from ncen_updater.agent.adapters.application.base import Expectation
from ncen_updater.agent.engine.approvals.store import ApprovalStore
from ncen_updater.agent.engine.site import StepContext
from ncen_updater.agent.engine.steps.base import Step
from ncen_updater.agent.engine.steps.starting import (
    require_judgeable,
    require_nobody_answers,
    require_well,
    start_rest,
    stop_if_it_can,
)
from ncen_updater.agent.model.change import ChangeKind, StepName
from ncen_updater.agent.model.errors import ApplicationError, CommandFailed
from ncen_updater.agent.model.facts import NO_FACTS, ChangeFacts, ClosedAt
from ncen_updater.agent.model.names import RECOVERY
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import FRONT_LETS_IN

logger = logging.getLogger(__name__)


def _door_as_it_was(context: StepContext) -> bool:
    was_closed = bool(context.facts().door_was_closed)
    return was_closed or not context.site.application.door_closed()


def _stop_s(context: StepContext) -> float | None:
    """How long officers were kept out, by a clock that nobody sets; not known after a reboot."""
    closed_at = context.facts().closed_at
    clock = context.site.clock
    if closed_at is None or closed_at.boot != clock.boot():
        return None
    return round(clock.monotonic() - closed_at.s, 3)


class Close(Step):
    """Keep officers out."""

    name = StepName.CLOSE
    title = Text(N_("showing officers the maintenance page"))

    def prepare(self, context: StepContext) -> ChangeFacts:
        """An operator may have closed the door for reasons of their own.

        Where a change takes over from one that had not let officers in again, that one knew.
        """
        known = context.facts().door_was_closed
        closed = context.site.application.door_closed() if known is None else known
        clock = context.site.clock
        return ChangeFacts(
            door_was_closed=closed, closed_at=ClosedAt(clock.boot(), clock.monotonic())
        )

    def do(self, context: StepContext) -> ChangeFacts:
        """Close the door. What people approved is used up by that, whatever comes of it.

        Raises:
            FrontLetsIn: The web server in front lets officers in all the same.
        """
        if context.change.kind is ChangeKind.UPGRADE:
            ApprovalStore(context.journal).spend(context.change.id)
        elif (binding := context.facts().binding) is not None:
            ApprovalStore(context.journal).spend_one(context.change.id, binding)
        application = context.site.application
        application.close_door()
        problem = application.front_problem(going_back=context.change.kind is ChangeKind.ROLLBACK)
        if problem is not None:
            raise ApplicationError(
                FRONT_LETS_IN,
                url=context.site.config.application.front_url,
                path=context.site.config.application.door_file,
                reason=problem,
            )
        return NO_FACTS

    def check(self, context: StepContext) -> bool:
        """The door is closed."""
        return context.site.application.door_closed()

    def undoing(self, context: StepContext) -> Text | None:
        """See :meth:`Step.undoing`."""
        return Text(N_("letting officers in")) if not context.facts().door_was_closed else None

    def undo(self, context: StepContext) -> None:
        """Open the door, unless it was closed before."""
        if not context.facts().door_was_closed:
            context.site.application.open_door()
        context.journal.keep(context.change.id, ChangeFacts(stop_s=_stop_s(context)))

    def undone(self, context: StepContext) -> bool:
        """The door is not closed by us; an operator may have opened their own meanwhile."""
        return _door_as_it_was(context)


class Stop(Step):
    """Stop the application; going back starts it again and waits until it is healthy."""

    name = StepName.STOP
    title = Text(N_("stopping the application"))

    def prepare(self, context: StepContext) -> ChangeFacts:
        """An application that did not run is not started by going back.

        Where a change takes over from one that was torn after its commit, it had to run.
        """
        known = context.facts().was_running
        running = context.site.application.running() if known is None else known
        return ChangeFacts(was_running=running)

    def do(self, context: StepContext) -> ChangeFacts:
        """Stop it."""
        context.site.application.stop()
        return NO_FACTS

    def check(self, context: StepContext) -> bool:
        """No process of it remains."""
        return not context.site.application.running()

    def undoing(self, context: StepContext) -> Text | None:
        """See :meth:`Step.undoing`."""
        return (
            Text(N_("starting the application"))
            if context.facts().was_running and not context.at_boot
            else None
        )

    def undo(self, context: StepContext) -> None:
        """Start the old release and see it healthy before the door opens.

        What runs by now is stopped first: it may be on its way down since :meth:`do`, or somebody
        started it while the databases were closed to it.
        """
        if context.facts().was_running and not context.at_boot:
            application = context.site.application
            stop_if_it_can(context.site)
            application.start()
            require_well(
                context.site, context.origin(), told_apart=context.told_apart, judged=False
            )
            context.journal.keep(
                context.change.id, ChangeFacts(rest_failed=start_rest(context.site))
            )

    def undone(self, context: StepContext) -> bool:
        """The application runs, if it did before; at boot the system starts it."""
        was_running = context.facts().was_running and not context.at_boot
        return not was_running or context.site.application.running()


class Start(Step):
    """Start the new release; the door is still closed."""

    name = StepName.START
    title = Text(N_("starting the application"))

    def prepare(self, context: StepContext) -> ChangeFacts:
        """An operator who opened their own door meanwhile wants it open at the end."""
        closed = context.site.application.door_closed()
        return NO_FACTS if closed else ChangeFacts(door_was_closed=False)

    def do(self, context: StepContext) -> ChangeFacts:
        """Start what ``current`` points at; the door must be closed until the commit.

        What runs already is not what we started, and is stopped. A start that fails is tried once
        more: its command may have been killed.
        """
        application = context.site.application
        application.close_door()
        application.stop()
        require_nobody_answers(context.site, context.target())
        try:
            application.start()
        except CommandFailed as error:
            logger.warning("the start failed and is tried once more: %s", error)
            application.stop()
            try:
                application.start()
            except CommandFailed as again:
                require_judgeable(context.site, str(again))
                raise
        return NO_FACTS

    def undoing(self, context: StepContext) -> Text | None:
        """See :meth:`Step.undoing`."""
        return Text(N_("stopping the application"))

    def undo(self, context: StepContext) -> None:
        """Stop it, and withdraw a start that was ordered; at boot that would be the system's."""
        if not context.at_boot or context.site.application.running():
            context.site.application.stop()

    def undone(self, context: StepContext) -> bool:
        """No process of it remains."""
        return not context.site.application.running()


class HealthCheck(Step):
    """Health from outside, under the real names, before anyone is let in."""

    name = StepName.HEALTH
    title = Text(N_("waiting until the application is healthy"))

    def do(self, context: StepContext) -> ChangeFacts:
        """Wait, and refuse what is not healthy in time.

        Going back is not barred by what the site sends along: the release that is left may be the
        reason why nobody can ask.
        """
        seconds = require_well(
            context.site,
            context.target(),
            told_apart=context.told_apart,
            judged=context.change.kind is ChangeKind.UPGRADE,
        )
        return ChangeFacts(healthy_after_s=round(seconds, 3))


class Open(Step):
    """Let officers in. From the first officer on there is no exact way back, only a rollback."""

    name = StepName.OPEN
    title = Text(N_("letting officers in"))

    def do(self, context: StepContext) -> ChangeFacts:
        """Open the door, unless an operator had closed it before the change.

        The databases get to know of the commit first: once an officer is in, nothing may cut them
        back, not even a recovery by a journal that was restored from before the commit. After a
        power cut the application that was healthy may have to be started again, and after a kill
        it may be another one that runs.

        Parts that wait until officers are in follow. One that cannot be started keeps nobody out;
        it is for the soak to judge.
        """
        site, application = context.site, context.site.application
        site.engine.record_commit(context.ref)
        if not context.at_boot:
            if application.running() and self._recovers(context) and not self._well(context):
                stop_if_it_can(site)
            if not application.running():
                application.start()
                require_well(site, context.target(), told_apart=context.told_apart, judged=False)
        if not context.facts().door_was_closed:
            application.open_door()
        stop_s = _stop_s(context)
        rest_failed = None if context.at_boot else start_rest(context.site)
        return ChangeFacts(stop_s=stop_s, rest_failed=rest_failed)

    def _recovers(self, context: StepContext) -> bool:
        events = context.journal.events(change=context.change.id)
        return any(event.kind == RECOVERY for event in events)

    def _well(self, context: StepContext) -> bool:
        if not context.told_apart:
            return False  # what answers well may be the release before
        manifest = context.target().manifest
        expectation = Expectation(manifest.reported, manifest.health)
        return bool(context.site.application.health(expectation))

    def check(self, context: StepContext) -> bool:
        """The door is not closed by us."""
        return _door_as_it_was(context)
