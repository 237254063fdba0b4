"""The application: the door, stop and start, and whether it is healthy."""

from __future__ import annotations

from ncen_updater.application.base import Expectation
from ncen_updater.application.waiting import wait_until_healthy
from ncen_updater.i18n import N_, Text
from ncen_updater.release.document import ReleaseDocument
from ncen_updater.upgrade.consent import Consent
from ncen_updater.upgrade.context import Site, StepContext
from ncen_updater.upgrade.errors import Unhealthy
from ncen_updater.upgrade.journal_rows import reading
from ncen_updater.upgrade.model import ChangeKind, StepName
from ncen_updater.upgrade.steps.base import Facts, Step

__all__ = ["Close", "HealthCheck", "Open", "Start", "Stop", "require_health"]


def require_health(site: Site, document: ReleaseDocument) -> float:
    """Wait until the application is healthy as this release; return the seconds it took.

    Raises:
        Unhealthy: If it is not within the configured time.
    """
    expectation = Expectation(document.manifest.version, document.manifest.health)
    timeout = site.config.application.health_timeout_s
    waited = wait_until_healthy(
        lambda: site.application.health(expectation),
        timeout_s=timeout,
        clock=site.clock.monotonic,
        wait=site.clock.wait,
    )
    if not waited:
        raise Unhealthy(
            product=document.manifest.product,
            version=document.manifest.version,
            seconds=round(timeout),
            problems="; ".join(waited.health.problems),
        )
    return waited.seconds


def _door_as_it_was(context: StepContext) -> bool:
    was_closed = bool(context.facts().get("door_was_closed"))
    return was_closed or not context.site.application.door_closed()


def _stop(context: StepContext) -> Facts:
    """How long officers were kept out, by a clock that nobody sets; not known after a reboot."""
    closed_at = context.facts().get("closed_at")
    clock = context.site.clock
    if not isinstance(closed_at, dict) or closed_at.get("boot") != clock.boot():
        return {}
    with reading(context.journal.path):
        return {"stop_s": round(clock.monotonic() - float(closed_at["s"]), 3)}


class Close(Step):
    """Keep officers out."""

    name = StepName.CLOSE
    title = Text(N_("showing officers the maintenance page"))

    def prepare(self, context: StepContext) -> Facts:
        """An operator may have closed the door for reasons of their own.

        Where a change takes over from one that had not let officers in again, that one knew.
        """
        known = context.facts().get("door_was_closed")
        closed = context.site.application.door_closed() if known is None else known
        clock = context.site.clock
        return {
            "door_was_closed": closed,
            "closed_at": {"boot": clock.boot(), "s": clock.monotonic()},
        }

    def do(self, context: StepContext) -> Facts:
        """Close the door. What people approved is used up by that, whatever comes of it."""
        if context.change.kind is ChangeKind.UPGRADE:
            Consent(context.journal).spend(context.change.id)
        context.site.application.close_door()
        return {}

    def check(self, context: StepContext) -> bool:
        """The door is closed."""
        return context.site.application.door_closed()

    def undo(self, context: StepContext) -> None:
        """Open the door, unless it was closed before."""
        if not context.facts().get("door_was_closed"):
            context.site.application.open_door()
        for name, seconds in _stop(context).items():
            context.journal.fact(context.change.id, name, seconds)

    def undone(self, context: StepContext) -> bool:
        """The door is not closed by us; an operator may have opened their own meanwhile."""
        return _door_as_it_was(context)


class Stop(Step):
    """Stop the application; going back starts it again and waits until it is healthy."""

    name = StepName.STOP
    title = Text(N_("stopping the application"))

    def prepare(self, context: StepContext) -> Facts:
        """An application that did not run is not started by going back.

        Where a change takes over from one that was torn after its commit, it had to run.
        """
        known = context.facts().get("was_running")
        return {"was_running": context.site.application.running() if known is None else known}

    def do(self, context: StepContext) -> Facts:
        """Stop it."""
        context.site.application.stop()
        return {}

    def check(self, context: StepContext) -> bool:
        """No process of it remains."""
        return not context.site.application.running()

    def undo(self, context: StepContext) -> None:
        """Start the old release and see it healthy before the door opens."""
        if context.facts().get("was_running") and not context.at_boot:
            context.site.application.start()
            require_health(context.site, context.origin())


class Start(Step):
    """Start the new release; the door is still closed."""

    name = StepName.START
    title = Text(N_("starting the application"))

    def prepare(self, context: StepContext) -> Facts:
        """An operator who opened their own door meanwhile wants it open at the end."""
        return {} if context.site.application.door_closed() else {"door_was_closed": False}

    def do(self, context: StepContext) -> Facts:
        """Start what ``current`` points at; the door must be closed until the commit."""
        context.site.application.close_door()
        context.site.application.start()
        return {}

    def undo(self, context: StepContext) -> None:
        """Stop it."""
        context.site.application.stop()

    def undone(self, context: StepContext) -> bool:
        """No process of it remains."""
        return not context.site.application.running()


class HealthCheck(Step):
    """Health from outside, under the real names, before anyone is let in."""

    name = StepName.HEALTH
    title = Text(N_("waiting until the application is healthy"))

    def do(self, context: StepContext) -> Facts:
        """Wait, and refuse what is not healthy in time."""
        return {"healthy_after_s": round(require_health(context.site, context.target()), 3)}


class Open(Step):
    """Let officers in. From the first officer on there is no exact way back, only a rollback."""

    name = StepName.OPEN
    title = Text(N_("letting officers in"))

    def do(self, context: StepContext) -> Facts:
        """Open the door, unless an operator had closed it before the change.

        The databases get to know of the commit first: once an officer is in, nothing may cut them
        back, not even a recovery by a journal that was restored from before the commit. After a
        power cut the application that was healthy may have to be started again.
        """
        context.site.engine.record_commit(context.ref)
        if not context.at_boot and not context.site.application.running():
            context.site.application.start()
            require_health(context.site, context.target())
        if not context.facts().get("door_was_closed"):
            context.site.application.open_door()
        return _stop(context)

    def check(self, context: StepContext) -> bool:
        """The door is not closed by us."""
        return _door_as_it_was(context)
