"""Runs the steps of a change, forwards and back, with every intent journaled before its effect."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from ncen_updater.agent.engine.aside import kept_remedy
from ncen_updater.agent.engine.full_words import full_remedy, keep_full
from ncen_updater.agent.engine.interruption import Interruption
from ncen_updater.agent.engine.site import Site, StepContext
from ncen_updater.agent.engine.steps import Step, all_steps
from ncen_updater.agent.model.change import (
    BEFORE_COMMIT,
    DOWNTIME,
    FORWARD,
    UNINTERRUPTED,
    ChangeKind,
    ChangeState,
    Phase,
    StepName,
    StepState,
)
from ncen_updater.agent.model.errors import (
    ApplicationError,
    ChangeFailed,
    ChecksFailed,
    CommandFailed,
    JournalUnwritable,
    MigrationFailed,
    SoakFailed,
    Unhealthy,
    UntoldLoss,
    find_away,
    is_refused,
)
from ncen_updater.agent.model.names import RECOVERY
from ncen_updater.agent.storage.journal import reserve
from ncen_updater.agent.storage.journal.file import unwritable
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.database_words import said
from ncen_updater.common.errors import UpdaterError, causes
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import GOING_BACK_FAILED, INTERRUPTED, STEP_DID_NOT_HOLD
from ncen_updater.common.progress import Progress

logger = logging.getLogger(__name__)

#: So long going back waits for databases that are away, and so often it looks.
AWAY_LIMIT_S, AWAY_LOOK_S = 120.0, 1.0
#: Undone again by each resume where it no longer holds: databases may have been closed by hand, and
#: the system, to which a recovery at boot left the application, may never have started it.
LOOKED_AT = (StepName.FENCE, StepName.STOP)
#: Verdicts on a release by how it starts and runs.
OF_HEALTH = (Unhealthy.message.code, CommandFailed.message.code)
#: A rollback that is undone goes nowhere back: the newer release stays.
UNDOING: Mapping[ChangeKind, str] = {
    ChangeKind.UPGRADE: N_("going back: {step}"),
    ChangeKind.ROLLBACK: N_("the rollback is undone: {step}"),
}

Checkpoint = Callable[[StepName, Phase], None]


def no_checkpoint(_step: StepName, _phase: Phase) -> None:
    """Let every instant pass. Trials give a function that dies or fails here."""


def blames_release(error: BaseException, step: StepName | None = None) -> bool:
    """Whether a failure is the release's own fault, so that it is not tried again by itself.

    Power cuts, full disks, unreachable servers and interruptions are nobody's release. A start that
    failed is: the same command has just stopped the release before.
    """
    if step is StepName.START and isinstance(error, CommandFailed):
        return True
    return isinstance(error, MigrationFailed | ChecksFailed | UntoldLoss | Unhealthy | SoakFailed)


class Runner:
    """Runs one change after the other on one site.

    Args:
        site: What is acted on.
        journal: Open for writing.
        progress: Told what is being done.
        interruption: Where signals may end a step.
        checkpoint: Called at every instant of :class:`Phase`; for trials.
        steps: The steps by name.
        at_boot: The system starts the application when we have ended; we must not.
    """

    def __init__(
        self,
        site: Site,
        journal: Journal,
        progress: Progress,
        *,
        interruption: Interruption | None = None,
        checkpoint: Checkpoint = no_checkpoint,
        steps: Mapping[StepName, Step] | None = None,
        at_boot: bool = False,
    ) -> None:
        self._site = site
        self._journal = journal
        self._progress = progress
        self._interruption = interruption or Interruption()
        self._checkpoint = checkpoint
        self._steps = steps or all_steps()
        self._at_boot = at_boot

    def context(self, change_id: str) -> StepContext:
        """What the steps of a change are given."""
        change = self._journal.change(change_id)
        return StepContext(self._site, self._journal, change, self._progress, at_boot=self._at_boot)

    def run(self, change_id: str) -> None:
        """Run a change from its beginning to its end.

        Raises:
            UpdaterError: Its cause, where it failed before officers were kept out.
            ChangeFailed: Where it failed later and was undone.
            GoingBackFailed: Where undoing it failed too.
            JournalUnwritable: At once and with nothing undone, since nothing could be recorded, not
                even in the room that is kept for the journal.
        """
        try:
            reserve.keep(self._journal.path)
        except OSError as error:
            full = unwritable(self._journal.path, error)
            self._fail(change_id, BEFORE_COMMIT[0], full)
        for name in (*BEFORE_COMMIT, StepName.COMMIT):
            try:
                self._do(name, change_id)
            except JournalUnwritable as error:
                # With the room that was kept for it the change can go back as from any failure.
                if not reserve.give_up(self._journal.path):
                    raise
                self._fail(change_id, name, error)
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, the site goes back
                code = error.code if isinstance(error, UpdaterError) else UpdaterError.message.code
                extra = {"step": name, "change": change_id, "code": code}
                logger.warning("step %s failed: %s", name, code, extra=extra)
                self._fail(change_id, name, error)
                break
        self.forward(change_id)

    def resumed(self, change_id: str) -> None:
        """Note that a recovery begins; whether it fails is counted at its end."""
        reserve.with_room(self._journal.path, lambda: self._journal.note(RECOVERY, change_id))

    def recovery_failed(self, change_id: str, error: BaseException) -> None:
        """Count a recovery that ended by an error of its own.

        Not counted is one that somebody cut off, one in the soak (nothing had failed), and one that
        a database server was not there for: it goes on when that is back.
        """
        change = self._journal.change(change_id)
        if change.step_state(StepName.OPEN) is StepState.DONE or _cut_off(error):
            return
        if find_away(error) or not self._site.engine.answers():
            return
        code = error.code if isinstance(error, UpdaterError) else UpdaterError.message.code
        reserve.with_room(
            self._journal.path, lambda: self._journal.recovery_failed(change_id, code)
        )

    def forward(self, change_id: str) -> None:
        """Bring a committed change to its end.

        Raises:
            SoakFailed: If the release turned bad; the change stays open for what comes next.
            UpdaterError: If a step fails; the change stays open and is resumed later.
        """
        reserve.with_room(self._journal.path, lambda: self._forward(change_id))

    def _forward(self, change_id: str) -> None:
        for name in FORWARD:
            if self._journal.change(change_id).step_state(name) is not StepState.DONE:
                self._do(name, change_id)
        self._journal.state(change_id, ChangeState.FINISHED)

    def open_only(self, change_id: str) -> None:
        """Let officers in after a committed change and leave the watching to a later resume."""
        if self._journal.change(change_id).step_state(StepName.OPEN) is not StepState.DONE:
            reserve.with_room(self._journal.path, lambda: self._do(StepName.OPEN, change_id))

    def back(self, change_id: str, *, error_code: str | None = None) -> None:
        """Undo everything that was intended, last first.

        Raises:
            GoingBackFailed: If an undo fails; calling again goes on where it stopped.
        """
        reserve.with_room(self._journal.path, lambda: self._back(change_id, error_code))

    def _back(self, change_id: str, error_code: str | None) -> None:
        self._journal.state(change_id, ChangeState.UNDOING, error_code=error_code)
        soak_of = self._journal.facts(change_id).soak_of
        if soak_of is not None and error_code in OF_HEALTH:
            SiteHistory(self._journal).withdraw_bad(soak_of)  # the one before it is not well either
        for name in reversed(BEFORE_COMMIT):
            state = self._journal.change(change_id).step_state(name)
            # Of some what is there counts, and not that it was recorded.
            again = state is StepState.UNDONE and name in LOOKED_AT
            if again and self._steps[name].undone(self.context(change_id)):
                continue
            if again or state not in (None, StepState.UNDONE):
                self._undo(name, change_id)
        self._journal.state(change_id, ChangeState.UNDONE)

    def _do(self, name: StepName, change_id: str) -> None:
        step = self._steps[name]
        context = self.context(change_id)
        told = step.doing(context)
        if told is not None:
            self._progress.tell(told)
        self._journal.step(change_id, name, StepState.INTENDED, step.prepare(context))
        self._checkpoint(name, Phase.BEFORE_EFFECT)
        with nullcontext() if name in UNINTERRUPTED else self._interruption.allowed():
            facts = step.do(context)
        if not step.check(context):
            raise UpdaterError(STEP_DID_NOT_HOLD, step=name)
        self._checkpoint(name, Phase.AFTER_EFFECT)
        self._journal.step(change_id, name, StepState.DONE, facts)
        self._checkpoint(name, Phase.AFTER_RECORD)

    def _undo(self, name: StepName, change_id: str) -> None:
        step = self._steps[name]
        context = self.context(change_id)
        told = step.undoing(context)
        if told is not None:
            self._progress.tell(Text(UNDOING[context.change.kind], {"step": told}))
        self._journal.step(change_id, name, StepState.UNDOING)
        try:
            self._checkpoint(name, Phase.BEFORE_UNDO)
            self.when_there(partial(step.undo, context), AWAY_LIMIT_S)
            if not self.when_there(partial(step.undone, context), AWAY_LIMIT_S):
                raise UpdaterError(STEP_DID_NOT_HOLD, step=name)
            self._checkpoint(name, Phase.AFTER_UNDO)
            self._journal.step(change_id, name, StepState.UNDONE)
            self._checkpoint(name, Phase.AFTER_UNDO_RECORD)
        except JournalUnwritable:
            raise
        except Exception as error:
            judged = name is StepName.STOP and context.change.error_code in OF_HEALTH
            if judged and isinstance(error, Unhealthy | ApplicationError):
                context.memory.withdraw_bad(change_id)  # the one before it is not well either
            full = keep_full(self._journal.path.parent, f"{change_id}-back", error)
            raise UpdaterError(
                GOING_BACK_FAILED,
                step=name,
                cause=_what(error),
                cause_remedy=full_remedy(_remedy(error), full),
                detail=getattr(error, "detail", None),
            ) from error

    def when_there(self, act: Callable[[], bool | None], limit_s: float = math.inf) -> bool | None:
        """Do what may be repeated, and again while it fails since the databases are away.

        Raises:
            UpdaterError: Of the act; where they are away, only after the limit. A login that is
                refused so long is waited for no longer: it needs a person.
        """
        since: float | None = None
        while True:
            try:
                return act()
            except UpdaterError as error:
                if not find_away(error):
                    raise
                now = self._site.clock.monotonic()
                if since is None:
                    logger.warning("the databases are away and waited for: %s", error)
                    since = away = now
                away = away if is_refused(error) else now
                if now >= since + limit_s or now > away + AWAY_LIMIT_S:
                    raise
                words = N_("waiting for the databases: {reason}")
                self._progress.tell(Text(words, {"reason": error.what_text}))
            with self._interruption.allowed():
                self._site.clock.wait(AWAY_LOOK_S)

    def _noted(
        self, change_id: str, name: StepName, code: str, error: Exception, full: Path | None
    ) -> None:
        """Write a failure down: it may be that of a step that filled the disk."""
        words = str(error) if isinstance(error, UpdaterError) else said(error)
        values: dict[str, object] = {"step": name, "code": code, "error": words[:2000]}
        if full is not None:
            values["full"] = str(full)
        reserve.with_room(
            self._journal.path,
            lambda: self._journal.note("step-failed", change_id, **values),
        )

    def _fail(self, change_id: str, name: StepName, error: Exception) -> None:
        """Go back and raise; return only where the commit is in the journal all the same."""
        change = self._journal.change(change_id)
        code = error.code if isinstance(error, UpdaterError) else UpdaterError.message.code
        full = keep_full(self._journal.path.parent, change_id, error)
        self._noted(change_id, name, code, error, full)
        if change.commit_written:
            return
        if change.kind is ChangeKind.UPGRADE and blames_release(error, name):
            # Before going back: that may be torn, and nobody would know any more.
            memory = self.context(change_id).memory
            reserve.with_room(
                self._journal.path,
                lambda: memory.remember_bad(change.product, change.to_version, code, change_id),
            )
        self.back(change_id, error_code=code)
        if name not in DOWNTIME and isinstance(error, UpdaterError):
            raise error
        raise ChangeFailed(
            kind=change.kind,
            version=change.to_version,
            step=name,
            cause=_what(error),
            cause_code=code,
            cause_remedy=full_remedy(kept_remedy(self._journal, change_id, _remedy(error)), full),
            detail=getattr(error, "detail", None),
        ) from error


def _cut_off(error: BaseException) -> bool:
    """Whether somebody ended it: that is so for what it led to as well."""
    ended = (one for one in causes(error) if isinstance(one, UpdaterError))
    return any(one.code == INTERRUPTED.code for one in ended) or not isinstance(error, Exception)


def _what(error: Exception) -> Text:
    return error.what_text if isinstance(error, UpdaterError) else Text("{e}", {"e": _words(error)})


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {said(error)}"


def _remedy(error: Exception) -> Text:
    remedied = error if isinstance(error, UpdaterError) else UpdaterError()
    return remedied.remedy_text
