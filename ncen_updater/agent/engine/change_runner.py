"""Runner of a change: runs and undoes its steps, and journals every intent before its effect."""

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
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
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
    find_unreachable_error,
    is_login_refused,
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

#: How long a revert waits for unreachable databases, and the interval between checks, in seconds.
UNREACHABLE_LIMIT_S, UNREACHABLE_POLL_S = 120.0, 1.0
#: Steps whose undo each resume verifies again, even if it is recorded: somebody may have closed the
#: databases since, and the system, which was to start the application after a recovery at boot, may
#: not have started it.
REVERIFIED_STEPS = (StepName.FENCE, StepName.STOP)
#: Error codes that mean that the release does not start or is unhealthy.
HEALTH_CODES = (ApplicationUnhealthyError.message.code, CommandError.message.code)
#: The revert of a rollback leaves the newer release installed, so it needs its own title.
UNDO_TITLES: Mapping[ChangeKind, str] = {
    ChangeKind.UPGRADE: REVERTING,
    ChangeKind.ROLLBACK: REVERTING_ROLLBACK,
}

Checkpoint = Callable[[StepName, StepPhase], None]


def ignore_checkpoint(_step: StepName, _phase: StepPhase) -> None:
    """Do nothing. Fault tests pass a function that raises or exits here."""


def is_release_at_fault(error: BaseException, step: StepName | None = None) -> bool:
    """Tell whether a failure is the release's own fault, so that it is not retried automatically.

    Power cuts, full disks, unreachable servers and interruptions are not attributed to the release.
    A failed start command is: the same command has just stopped the previous release.
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
    """Runner of the changes of one site, one after the other.

    Args:
        site: The site.
        journal: The journal, open for writing.
        progress: Receives progress reports.
        interruption: Decides when a signal may interrupt a step.
        checkpoint: Called at every instant of :class:`StepPhase`; for fault tests.
        steps: The steps by name.
        at_boot: Whether the system starts the application after the agent has ended; then the agent
            must not start it.
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
        # Recorded together with the end of the previous step.
        self._intended: StepName | None = None

    def make_context(self, change_id: str) -> StepContext:
        """Return the context for the steps of a change."""
        change = self._journal.read_change(change_id)
        return StepContext(self._site, self._journal, change, self._progress, at_boot=self._at_boot)

    def run_change(self, change_id: str) -> None:
        """Run a change from beginning to end.

        Raises:
            UpdaterError: The cause, if the change failed before the downtime.
            ChangeFailedError: If it failed in the downtime or unexpectedly, and was reverted.
            REVERT_FAILED: If the revert failed too.
            JournalUnwritableError: If not even the journal's reserve allows a record; raised at
                once, and nothing is reverted.
        """
        try:
            create_reserve(self._journal.path)
        except OSError as error:
            no_space = make_unwritable_error(self._journal.path, error)
            self._revert_and_raise(change_id, STEPS_BEFORE_COMMIT[0], no_space)
        with self._site.database_engine.reuse_control_sessions():
            names = (*STEPS_BEFORE_COMMIT, StepName.COMMIT)
            for name, following in zip(names, (*names[1:], StepName.MAINTENANCE_OFF), strict=True):
                try:
                    self._do_step(name, change_id, following)
                except JournalUnwritableError as error:
                    # The released reserve gives the journal space, so the change is reverted as
                    # usual.
                    if not release_reserve(self._journal.path):
                        raise
                    self._revert_and_raise(change_id, name, error)
                    break
                except Exception as error:  # noqa: BLE001 - any error reverts the change
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
        """Record that a recovery begins; its failure is counted at its end."""
        retry_with_reserve(
            self._journal.path, lambda: self._journal.record_event(RECOVERY_STARTED, change_id)
        )

    def count_failed_recovery(self, change_id: str, error: BaseException) -> None:
        """Count a recovery that failed by an error of its own.

        Not counted are: an interrupted recovery, one in the soak period (nothing had failed), and
        one without a reachable database server: the next resume continues when the server is back.
        """
        change = self._journal.read_change(change_id)
        if change.get_step_state(StepName.MAINTENANCE_OFF) is StepState.DONE or _was_interrupted(
            error
        ):
            return
        if (
            find_unreachable_error(error)
            or not self._site.database_engine.is_accepting_connections()
        ):
            return
        code = error.code if isinstance(error, UpdaterError) else UpdaterError.message.code
        retry_with_reserve(
            self._journal.path, lambda: self._journal.count_failed_recovery(change_id, code)
        )

    def finish(self, change_id: str) -> None:
        """Complete a committed change.

        Raises:
            SoakFailedError: If the release failed in its soak period; the change stays open for the
                caller.
            UpdaterError: If a step fails; the change stays open and is resumed later.
        """
        retry_with_reserve(self._journal.path, lambda: self._run_steps_after_commit(change_id))

    def _run_steps_after_commit(self, change_id: str) -> None:
        for name in STEPS_AFTER_COMMIT:
            if self._journal.read_change(change_id).get_step_state(name) is not StepState.DONE:
                self._do_step(name, change_id)
        self._journal.set_change_state(change_id, ChangeState.FINISHED)

    def end_downtime_only(self, change_id: str) -> None:
        """End the downtime of a committed change and leave the soak period to a later resume."""
        if (
            self._journal.read_change(change_id).get_step_state(StepName.MAINTENANCE_OFF)
            is not StepState.DONE
        ):
            retry_with_reserve(
                self._journal.path, lambda: self._do_step(StepName.MAINTENANCE_OFF, change_id)
            )

    def revert(self, change_id: str, *, error_code: str | None = None) -> None:
        """Undo every intended step, the last one first.

        Raises:
            REVERT_FAILED: If an undo fails; the next call continues from there.
        """
        with self._site.database_engine.reuse_control_sessions():
            retry_with_reserve(self._journal.path, lambda: self._undo_steps(change_id, error_code))

    def _undo_steps(self, change_id: str, error_code: str | None) -> None:
        self._journal.set_change_state(change_id, ChangeState.REVERTING, error_code=error_code)
        failed_soak_upgrade = self._journal.read_facts(change_id).failed_soak_upgrade
        if failed_soak_upgrade is not None and error_code in HEALTH_CODES:
            # The previous release is unhealthy, too.
            SiteHistory(self._journal).withdraw_bad(failed_soak_upgrade)
        for name in reversed(STEPS_BEFORE_COMMIT):
            state = self._journal.read_change(change_id).get_step_state(name)
            # For some steps the real state decides, not the record of their undo.
            recorded_undone = state is StepState.UNDONE and name in REVERIFIED_STEPS
            if recorded_undone and self._steps[name].is_undone(self.make_context(change_id)):
                continue
            if recorded_undone or state not in (None, StepState.UNDONE):
                self._undo_step(name, change_id)
        self._journal.set_change_state(change_id, ChangeState.REVERTED)

    def _do_step(self, name: StepName, change_id: str, following: StepName | None = None) -> None:
        """Do a step, and record its end together with the intent of the next one.

        The next step is prepared before this record. A crash meanwhile equals one after the effect
        of this step; a crash after the record equals one before the effect of the next step.
        """
        step = self._steps[name]
        context = self.make_context(change_id)
        title = step.describe_do(context)
        if title is not None:
            self._progress.report(title)
        if self._intended != name:
            intent_facts = step.prepare(context)
            with self._journal.transaction():
                self._journal.record_step(change_id, name, StepState.INTENDED, intent_facts)
                step.record_intent(context)
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
        following, intent_facts = self._prepare_following(following, context)
        if name is not StepName.COMMIT:  # its effect is the record, with the next intent
            with self._journal.transaction():
                self._journal.record_step(
                    change_id,
                    name,
                    StepState.DONE,
                    facts,
                    following=following,
                    following_facts=intent_facts,
                )
                if following is not None:
                    self._steps[following].record_intent(context)
        self._intended = following
        self._checkpoint(name, StepPhase.AFTER_RECORD)

    def _prepare_following(
        self, following: StepName | None, context: StepContext
    ) -> tuple[StepName | None, ChangeFacts]:
        """Return a step whose intent is recorded now, and its facts; None if its preparation fails.

        Then this step is recorded as done, and the next one prepares again and reports the failure.
        """
        if following is None or following not in DOWNTIME_STEPS:
            return None, NO_FACTS
        try:
            return following, self._steps[following].prepare(context)
        except Exception as error:  # noqa: BLE001 - raised again by the next step
            logger.info("step %s cannot be prepared yet: %s", following, sanitize_error(error))
            return None, NO_FACTS

    def _undo_step(self, name: StepName, change_id: str) -> None:
        step = self._steps[name]
        context = self.make_context(change_id)
        title = step.describe_undo(context)
        if title is not None:
            self._progress.report(LazyText(UNDO_TITLES[context.change.kind], {"step": title}))
        self._journal.record_step(change_id, name, StepState.UNDOING)
        try:
            self._checkpoint(name, StepPhase.BEFORE_UNDO)
            self.retry_while_unreachable(partial(step.undo, context), UNREACHABLE_LIMIT_S)
            if not self.retry_while_unreachable(
                partial(step.is_undone, context), UNREACHABLE_LIMIT_S
            ):
                raise _make_not_effective_error(name, context.change.kind)
            self._checkpoint(name, StepPhase.AFTER_UNDO)
            self._journal.record_step(change_id, name, StepState.UNDONE)
            self._checkpoint(name, StepPhase.AFTER_UNDO_RECORD)
        except JournalUnwritableError:
            raise
        except Exception as error:
            starts_old_release = name is StepName.STOP and context.change.error_code in HEALTH_CODES
            if starts_old_release and isinstance(
                error, ApplicationUnhealthyError | ApplicationError
            ):
                # The previous release is unhealthy, too.
                context.site_history.withdraw_bad(change_id)
            raw_error_path = store_raw_error(
                self._journal.path.parent, f"{change_id}-revert", error
            )
            raise UpdaterError(
                REVERT_FAILED,
                step=name,
                step_label=LazyText(get_step_label(name, context.change.kind)),
                cause=_describe_cause(error),
                cause_remedy=add_raw_error_path(_get_remedy(error), raw_error_path),
                detail=getattr(error, "original_detail", None),
            ) from error

    def retry_while_unreachable(
        self, action: Callable[[], bool | None], limit_s: float = math.inf
    ) -> bool | None:
        """Call a repeatable function again while it fails because databases are unreachable.

        Raises:
            UpdaterError: The error of the function. If databases are unreachable, it is raised only
                after the limit, or after two minutes in which the server refused the login: only an
                operator can correct that.
        """
        since: float | None = None
        while True:
            try:
                return action()
            except UpdaterError as error:
                if not find_unreachable_error(error):
                    raise
                now = self._site.clock.monotonic()
                if since is None:
                    logger.warning("waiting for the databases: %s", error)
                    since = reachable_at = now
                reachable_at = reachable_at if is_login_refused(error) else now
                if now >= since + limit_s or now > reachable_at + UNREACHABLE_LIMIT_S:
                    raise
                template = N_("waiting for the databases: {reason}")
                self._progress.report(LazyText(template, {"reason": error.title_text}))
            with self._interruption.allow_interruption():
                self._site.clock.wait(UNREACHABLE_POLL_S)

    def _record_failure(
        self,
        change_id: str,
        name: StepName,
        code: str,
        error: Exception,
        raw_error_path: Path | None,
    ) -> None:
        """Record a failure, with the journal's reserve if the step filled the disk."""
        text = describe_error(error)
        values: dict[str, object] = {"step": name, "code": code, "error": text}
        if raw_error_path is not None:
            values["raw_error"] = str(raw_error_path)
        retry_with_reserve(
            self._journal.path,
            lambda: self._journal.record_event("step-failed", change_id, **values),
        )

    def _revert_and_raise(self, change_id: str, name: StepName, error: Exception) -> None:
        """Revert the change and raise; return only if the journal holds the commit after all."""
        change = self._journal.read_change(change_id)
        code = error.code if isinstance(error, UpdaterError) else UpdaterError.message.code
        raw_error_path = store_raw_error(self._journal.path.parent, change_id, error)
        self._record_failure(change_id, name, code, error, raw_error_path)
        if change.is_committed:
            return
        if change.kind is ChangeKind.UPGRADE and is_release_at_fault(error, name):
            # Before the revert: if that were interrupted, the reason would be lost.
            history = self.make_context(change_id).site_history
            retry_with_reserve(
                self._journal.path,
                lambda: history.mark_bad(change.product, change.to_version, code, change_id),
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
                add_quarantine_remedy(self._journal, change_id, _get_remedy(error)), raw_error_path
            ),
            detail=getattr(error, "original_detail", None),
        ) from error


def _make_not_effective_error(name: StepName, kind: ChangeKind) -> UpdaterError:
    label = LazyText(get_step_label(name, kind))
    return UpdaterError(STEP_NOT_EFFECTIVE, step=name, step_label=label)


def _was_interrupted(error: BaseException) -> bool:
    """Tell whether a signal or an exit ended the work, also if it is only a cause of the error."""
    errors = (one for one in causes(error) if isinstance(one, UpdaterError))
    return any(one.code == INTERRUPTED.code for one in errors) or not isinstance(error, Exception)


def _describe_cause(error: Exception) -> LazyText:
    return (
        error.title_text
        if isinstance(error, UpdaterError)
        else LazyText("{e}", {"e": _format_exception(error)})
    )


def _format_exception(error: Exception) -> str:
    return f"{type(error).__name__}: {sanitize_error(error)}"


def _get_remedy(error: Exception) -> LazyText:
    updater_error = error if isinstance(error, UpdaterError) else UpdaterError()
    return updater_error.remedy_text
