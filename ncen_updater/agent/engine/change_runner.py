"""Runs the steps of a change, forwards and back, with every intent journaled before its effect."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from ncen_updater.agent.engine.prune import add_quarantine_remedy
from ncen_updater.agent.engine.raw_errors import add_raw_error_path, store_raw_error
from ncen_updater.agent.engine.signal_handling import SignalHandler
from ncen_updater.agent.engine.site import Site, StepContext
from ncen_updater.agent.engine.steps import Step, make_steps
from ncen_updater.agent.model.change import (
    DOWNTIME_STEPS,
    STEPS_AFTER_COMMIT,
    STEPS_BEFORE_COMMIT,
    UNINTERRUPTIBLE_STEPS,
    ChangeKind,
    ChangeState,
    StepName,
    StepPhase,
    StepState,
)
from ncen_updater.agent.model.errors import (
    ApplicationError,
    ApplicationUnhealthyError,
    ChangeFailedError,
    CommandError,
    DomainChecksError,
    JournalUnwritableError,
    MigrationFailedError,
    SoakFailedError,
    UndeclaredLossError,
    find_away,
    is_refused,
)
from ncen_updater.agent.model.event_names import RECOVERY_STARTED
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.journal_file import (
    create_reserve,
    make_unwritable_error,
    release_reserve,
    retry_with_reserve,
)
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.error_sanitizer import describe_error, sanitize_error
from ncen_updater.common.errors import UpdaterError, causes
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.labels import get_step_label
from ncen_updater.common.messages import INTERRUPTED, REVERT_FAILED, STEP_NOT_EFFECTIVE
from ncen_updater.common.progress import REVERTING, REVERTING_ROLLBACK, ProgressListener

logger = logging.getLogger(__name__)

#: How long a revert waits for unreachable databases, and how often it checks.
AWAY_LIMIT_S, AWAY_LOOK_S = 120.0, 1.0
#: Undone again by each resume where it no longer holds: databases may have been closed by hand, and
#: the system, to which a recovery at boot left the application, may never have started it.
LOOKED_AT = (StepName.FENCE, StepName.STOP)
#: Verdicts on a release by how it starts and runs.
OF_HEALTH = (ApplicationUnhealthyError.message.code, CommandError.message.code)
#: A rollback that is undone goes nowhere back: the newer release stays.
UNDO_TITLES: Mapping[ChangeKind, str] = {
    ChangeKind.UPGRADE: REVERTING,
    ChangeKind.ROLLBACK: REVERTING_ROLLBACK,
}

Checkpoint = Callable[[StepName, StepPhase], None]


def ignore_checkpoint(_step: StepName, _phase: StepPhase) -> None:
    """Let every instant pass. Trials give a function that dies or fails here."""


def is_release_at_fault(error: BaseException, step: StepName | None = None) -> bool:
    """Tell whether a failure is the release's own fault, so that it is not tried again by itself.

    Power cuts, full disks, unreachable servers and interruptions are nobody's release. A start that
    failed is: the same command has just stopped the release before.
    """
    if step is StepName.START and isinstance(error, CommandError):
        return True
    return isinstance(
        error,
        MigrationFailedError
        | DomainChecksError
        | UndeclaredLossError
        | ApplicationUnhealthyError
        | SoakFailedError,
    )


class ChangeRunner:
    """Runs one change after the other on one site.

    Args:
        site: What is acted on.
        journal: Open for writing.
        progress: Told what is being done.
        interruption: Where signals may end a step.
        checkpoint: Called at every instant of :class:`StepPhase`; for trials.
        steps: The steps by name.
        at_boot: The system starts the application when we have ended; we must not.
    """

    def __init__(
        self,
        site: Site,
        journal: Journal,
        progress: ProgressListener,
        *,
        interruption: SignalHandler | None = None,
        checkpoint: Checkpoint = ignore_checkpoint,
        steps: Mapping[StepName, Step] | None = None,
        at_boot: bool = False,
    ) -> None:
        self._site = site
        self._journal = journal
        self._progress = progress
        self._interruption = interruption or SignalHandler()
        self._checkpoint = checkpoint
        self._steps = steps or make_steps()
        self._at_boot = at_boot
        self._intended: StepName | None = None  # with the record of the step before it

    def make_context(self, change_id: str) -> StepContext:
        """Make the context that the steps of a change get."""
        change = self._journal.read_change(change_id)
        return StepContext(self._site, self._journal, change, self._progress, at_boot=self._at_boot)

    def run_change(self, change_id: str) -> None:
        """Run a change from its beginning to its end.

        Raises:
            UpdaterError: Its cause, where it failed before users were kept out.
            ChangeFailedError: Where it failed later and was undone.
            REVERT_FAILED: Where undoing it failed too.
            JournalUnwritableError: At once and with nothing undone, since nothing could be
                recorded, not even in the room that is kept for the journal.
        """
        try:
            create_reserve(self._journal.path)
        except OSError as error:
            full = make_unwritable_error(self._journal.path, error)
            self._revert_and_raise(change_id, STEPS_BEFORE_COMMIT[0], full)
        with self._site.database_engine.reuse_control_sessions():
            names = (*STEPS_BEFORE_COMMIT, StepName.COMMIT)
            for name, following in zip(names, (*names[1:], StepName.MAINTENANCE_OFF), strict=True):
                try:
                    self._do_step(name, change_id, following)
                except JournalUnwritableError as error:
                    # With the room that was kept for it the change can go back as from any failure.
                    if not release_reserve(self._journal.path):
                        raise
                    self._revert_and_raise(change_id, name, error)
                    break
                except Exception as error:  # noqa: BLE001 - whatever it is, the site goes back
                    code = (
                        error.code if isinstance(error, UpdaterError) else UpdaterError.message.code
                    )
                    extra = {"step": name, "change": change_id, "code": code}
                    logger.warning("step %s failed: %s", name, code, extra=extra)
                    self._revert_and_raise(change_id, name, error)
                    break
            self.end_downtime_only(change_id)
        self.finish(change_id)

    def record_recovery(self, change_id: str) -> None:
        """Note that a recovery begins; whether it fails is counted at its end."""
        retry_with_reserve(
            self._journal.path, lambda: self._journal.record_event(RECOVERY_STARTED, change_id)
        )

    def count_failed_recovery(self, change_id: str, error: BaseException) -> None:
        """Count a recovery that ended by an error of its own.

        Not counted is one that somebody cut off, one in the soak (nothing had failed), and one that
        a database server was not there for: it goes on when that is back.
        """
        change = self._journal.read_change(change_id)
        if change.get_step_state(StepName.MAINTENANCE_OFF) is StepState.DONE or _was_interrupted(
            error
        ):
            return
        if find_away(error) or not self._site.database_engine.is_accepting_connections():
            return
        code = error.code if isinstance(error, UpdaterError) else UpdaterError.message.code
        retry_with_reserve(
            self._journal.path, lambda: self._journal.count_failed_recovery(change_id, code)
        )

    def finish(self, change_id: str) -> None:
        """Bring a committed change to its end.

        Raises:
            SoakFailedError: If the release turned bad; the change stays open for what comes next.
            UpdaterError: If a step fails; the change stays open and is resumed later.
        """
        retry_with_reserve(self._journal.path, lambda: self._run_steps_after_commit(change_id))

    def _run_steps_after_commit(self, change_id: str) -> None:
        for name in STEPS_AFTER_COMMIT:
            if self._journal.read_change(change_id).get_step_state(name) is not StepState.DONE:
                self._do_step(name, change_id)
        self._journal.set_change_state(change_id, ChangeState.FINISHED)

    def end_downtime_only(self, change_id: str) -> None:
        """Let users in after a committed change and leave the watching to a later resume."""
        if (
            self._journal.read_change(change_id).get_step_state(StepName.MAINTENANCE_OFF)
            is not StepState.DONE
        ):
            retry_with_reserve(
                self._journal.path, lambda: self._do_step(StepName.MAINTENANCE_OFF, change_id)
            )

    def revert(self, change_id: str, *, error_code: str | None = None) -> None:
        """Undo everything that was intended, last first.

        Raises:
            REVERT_FAILED: If an undo fails; calling again goes on where it stopped.
        """
        with self._site.database_engine.reuse_control_sessions():
            retry_with_reserve(self._journal.path, lambda: self._undo_steps(change_id, error_code))

    def _undo_steps(self, change_id: str, error_code: str | None) -> None:
        self._journal.set_change_state(change_id, ChangeState.REVERTING, error_code=error_code)
        failed_soak_upgrade = self._journal.read_facts(change_id).failed_soak_upgrade
        if failed_soak_upgrade is not None and error_code in OF_HEALTH:
            SiteHistory(self._journal).withdraw_bad(
                failed_soak_upgrade
            )  # the one before it is not well either
        for name in reversed(STEPS_BEFORE_COMMIT):
            state = self._journal.read_change(change_id).get_step_state(name)
            # Of some what is there counts, and not that it was recorded.
            again = state is StepState.UNDONE and name in LOOKED_AT
            if again and self._steps[name].is_undone(self.make_context(change_id)):
                continue
            if again or state not in (None, StepState.UNDONE):
                self._undo_step(name, change_id)
        self._journal.set_change_state(change_id, ChangeState.REVERTED)

    def _do_step(self, name: StepName, change_id: str, following: StepName | None = None) -> None:
        """Do a step; with its record intend the following one, where that has nothing to prepare.

        Between the two nothing happens: it is as if we died before the effect of the second.
        """
        step = self._steps[name]
        context = self.make_context(change_id)
        reported = step.describe_do(context)
        if reported is not None:
            self._progress.report(reported)
        if self._intended != name:
            self._journal.record_step(change_id, name, StepState.INTENDED, step.prepare(context))
        self._intended = None
        self._checkpoint(name, StepPhase.BEFORE_EFFECT)
        with step.hold(context):
            with (
                nullcontext()
                if name in UNINTERRUPTIBLE_STEPS
                else self._interruption.allow_interruption()
            ):
                facts = step.do(context)
            if not step.is_done(context):
                raise _make_not_effective_error(name, context.change.kind)
        self._checkpoint(name, StepPhase.AFTER_EFFECT)
        if following is not None and type(self._steps[following]).prepare is not Step.prepare:
            following = None
        self._journal.record_step(change_id, name, StepState.DONE, facts, following=following)
        self._intended = following
        self._checkpoint(name, StepPhase.AFTER_RECORD)

    def _undo_step(self, name: StepName, change_id: str) -> None:
        step = self._steps[name]
        context = self.make_context(change_id)
        reported = step.describe_undo(context)
        if reported is not None:
            self._progress.report(LazyText(UNDO_TITLES[context.change.kind], {"step": reported}))
        self._journal.record_step(change_id, name, StepState.UNDOING)
        try:
            self._checkpoint(name, StepPhase.BEFORE_UNDO)
            self.when_there(partial(step.undo, context), AWAY_LIMIT_S)
            if not self.when_there(partial(step.is_undone, context), AWAY_LIMIT_S):
                raise _make_not_effective_error(name, context.change.kind)
            self._checkpoint(name, StepPhase.AFTER_UNDO)
            self._journal.record_step(change_id, name, StepState.UNDONE)
            self._checkpoint(name, StepPhase.AFTER_UNDO_RECORD)
        except JournalUnwritableError:
            raise
        except Exception as error:
            judged = name is StepName.STOP and context.change.error_code in OF_HEALTH
            if judged and isinstance(error, ApplicationUnhealthyError | ApplicationError):
                context.site_history.withdraw_bad(change_id)  # the one before it is not well either
            full = store_raw_error(self._journal.path.parent, f"{change_id}-back", error)
            raise UpdaterError(
                REVERT_FAILED,
                step=name,
                step_label=LazyText(get_step_label(name, context.change.kind)),
                cause=_describe_cause(error),
                cause_remedy=add_raw_error_path(_get_remedy(error), full),
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
                self._progress.report(LazyText(words, {"reason": error.title_text}))
            with self._interruption.allow_interruption():
                self._site.clock.wait(AWAY_LOOK_S)

    def _record_failure(
        self, change_id: str, name: StepName, code: str, error: Exception, full: Path | None
    ) -> None:
        """Write a failure down: it may be that of a step that filled the disk."""
        text = describe_error(error)
        values: dict[str, object] = {"step": name, "code": code, "error": text}
        if full is not None:
            values["full"] = str(full)
        retry_with_reserve(
            self._journal.path,
            lambda: self._journal.record_event("step-failed", change_id, **values),
        )

    def _revert_and_raise(self, change_id: str, name: StepName, error: Exception) -> None:
        """Go back and raise; return only where the commit is in the journal all the same."""
        change = self._journal.read_change(change_id)
        code = error.code if isinstance(error, UpdaterError) else UpdaterError.message.code
        full = store_raw_error(self._journal.path.parent, change_id, error)
        self._record_failure(change_id, name, code, error, full)
        if change.is_committed:
            return
        if change.kind is ChangeKind.UPGRADE and is_release_at_fault(error, name):
            # Before the revert: that may be interrupted, and the reason would be lost.
            memory = self.make_context(change_id).site_history
            retry_with_reserve(
                self._journal.path,
                lambda: memory.mark_bad(change.product, change.to_version, code, change_id),
            )
        self.revert(change_id, error_code=code)
        if name not in DOWNTIME_STEPS and isinstance(error, UpdaterError):
            raise error
        raise ChangeFailedError(
            kind=change.kind,
            version=change.to_version,
            step=name,
            step_label=LazyText(get_step_label(name, change.kind)),
            cause=_describe_cause(error),
            cause_code=code,
            cause_remedy=add_raw_error_path(
                add_quarantine_remedy(self._journal, change_id, _get_remedy(error)), full
            ),
            detail=getattr(error, "detail", None),
        ) from error


def _make_not_effective_error(name: StepName, kind: ChangeKind) -> UpdaterError:
    label = LazyText(get_step_label(name, kind))
    return UpdaterError(STEP_NOT_EFFECTIVE, step=name, step_label=label)


def _was_interrupted(error: BaseException) -> bool:
    """Tell whether somebody ended it: that is so for what it led to as well."""
    ended = (one for one in causes(error) if isinstance(one, UpdaterError))
    return any(one.code == INTERRUPTED.code for one in ended) or not isinstance(error, Exception)


def _describe_cause(error: Exception) -> LazyText:
    return (
        error.title_text
        if isinstance(error, UpdaterError)
        else LazyText("{e}", {"e": _format_exception(error)})
    )


def _format_exception(error: Exception) -> str:
    return f"{type(error).__name__}: {sanitize_error(error)}"


def _get_remedy(error: Exception) -> LazyText:
    remedied = error if isinstance(error, UpdaterError) else UpdaterError()
    return remedied.remedy_text
