"""What becomes of the watching of a release while its databases are away.

A lost server is nobody's release. So a bad look that finds the databases away says nothing: it does
not count, and neither does the time until they are back. What fell with them and was not started
again by anybody is started once they are. They are waited for as long as an upgrade may be kept
waiting; then the command ends, the change stays open, and the service (or a person's ``resume``)
watches on once they are back.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from ncen_updater.agent.application.errors import ApplicationError
from ncen_updater.agent.journal.facts import ChangeFacts
from ncen_updater.agent.journal.names import DATABASES_AWAY, DATABASES_BACK
from ncen_updater.agent.site import StepContext
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import WATCHED_WITHOUT_DATABASES

__all__ = ["AWAY_LIMIT_S", "Outage"]

logger = logging.getLogger(__name__)

#: So long databases are waited for by one command that watches.
AWAY_LIMIT_S = 600.0


class Outage:
    """The times in which the databases are away while one release is watched.

    What an agent that was killed in such a time wrote of it is taken up.

    Args:
        context: Of the step that watches.
        watching: What is told when it goes on.
    """

    def __init__(self, context: StepContext, watching: Text) -> None:
        self._context, self._watching = context, watching
        self._total_s = 0.0
        kinds = [event.kind for event in context.journal.events(change=context.change.id)]
        told = [kind for kind in kinds if kind in (DATABASES_AWAY, DATABASES_BACK)]
        self._since = self._now() if told[-1:] == [DATABASES_AWAY] else None

    def explains(self) -> bool:
        """Whether a look that was bad just now says nothing about the release.

        Raises:
            WatchedWithoutDatabases: If they are away for too long.
        """
        if self._away():
            self._lasts()
            return True
        # One made while they were on their way back does not either.
        return self.over()

    def over(self) -> bool:
        """Take note that they are there; returns whether they had been away.

        What does not run by then is started: every part of the application, as after a power cut.
        """
        if self._since is None:
            return False
        self._since = None
        context, application = self._context, self._context.site.application
        context.journal.note(DATABASES_BACK, context.change.id)
        context.progress.tell(self._watching)
        try:
            application.start()
            application.start_rest()
        except ApplicationError as error:
            logger.warning("the application does not start, and is watched all the same: %s", error)
        return True

    def wait(self, interval_s: float) -> None:
        """Wait until they are there.

        Raises:
            WatchedWithoutDatabases: If that takes too long.
        """
        while self.explains():
            self._context.site.clock.wait(interval_s)

    def _away(self) -> bool:
        """Whether the server takes no sessions, or one of the databases is not there at all."""
        engine = self._context.site.engine
        if not engine.answers():
            return True
        try:
            return bool(engine.evidence(None).missing)
        except UpdaterError as error:
            # It takes sessions: that it refuses ours may be the doing of the release.
            logger.warning("what is there of the databases was not found out: %s", error)
            return False

    def _lasts(self) -> None:
        context, now = self._context, self._now()
        if self._since is None:
            context.journal.note(DATABASES_AWAY, context.change.id)
            logger.warning("the databases are away, and the release is not judged by that")
        else:
            self._leave_out(now - self._since)
        self._since = now
        context.progress.tell(Text(N_("waiting for the databases; the release is not judged")))
        if self._total_s >= AWAY_LIMIT_S:
            raise UpdaterError(
                WATCHED_WITHOUT_DATABASES,
                product=context.change.product,
                version=context.change.to_version,
                minutes=round(self._total_s / 60),
            )

    def _leave_out(self, seconds: float) -> None:
        """Keep at each look by how much later the watched time ends: we may be killed."""
        self._total_s += seconds
        began = self._context.facts().soak_began
        if began is not None:
            later = ChangeFacts(soak_began=began + timedelta(seconds=seconds))
            self._context.journal.keep(self._context.change.id, later)

    def _now(self) -> float:
        return self._context.site.clock.monotonic()
