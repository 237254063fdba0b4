"""The loop: look, decide, do one thing, look again.

Nothing here is remembered that could not be found out again, so that the service may be killed at
any instant; and nothing is done here but starting a child.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.agent.policy.automation import (
    Action,
    ActionFailure,
    Inputs,
    ServiceDecision,
    decide,
)
from ncen_updater.agent.policy.ought_to_run import (
    RunningSeen,
    RunVerdict,
    ought_to_run,
    ran_in_after,
)
from ncen_updater.agent.reports.status import SiteStatus, need
from ncen_updater.agent.service.decision_inputs import inputs_for
from ncen_updater.agent.service.errors import UNCHANGED
from ncen_updater.agent.service.runner import Finished, WorkRunner
from ncen_updater.agent.service.snapshot import ServiceEvent
from ncen_updater.agent.storage.journal.orders import JournalOrders, Order, OrderKind
from ncen_updater.agent.storage.service_state import Assessment, ServiceState, ServiceStateFile
from ncen_updater.common.documents import error_document
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, Text, language_of
from ncen_updater.common.messages import ORDER_TOO_OLD, WATCHING_ENDED_BY_ORDER, ExitCode

logger = logging.getLogger(__name__)

#: How long to wait where the journal cannot be read: a person has to come.
UNREADABLE_S = 600.0
#: An order that waited for longer is not carried out: who gave it has gone home, and does not
#: expect it in the middle of another day.
ORDER_HOLDS = timedelta(hours=12)
#: Exit codes after which an action counts as done.
DONE: Mapping[Action, frozenset[int]] = {
    Action.PREPARE: frozenset({ExitCode.OK, ExitCode.BLOCKED}),
}


#: Parts of a site that the loop looks at each time: what may have changed while nobody told it.
LOOK = frozenset({"at_work", "journal", "rehearsals"})
#: Gives the next time to ask the feed, from now and the failure of the last question, if it failed.
Schedule = Callable[[datetime, ActionFailure | None], datetime]


class Service:
    """One site's service.

    Args:
        settings: The table ``[service]``; replaced by :meth:`reload`.
        look: Reads the parts :data:`LOOK` of the site.
        keeper: Keeps what is known.
        orders: Marks orders.
        runner: Runs children.
        schedule: Spreads the questions to the feed.
        now: The wall clock.
        tell: Called with what happens.
        on_trial: Whether this agent is new and has not confirmed itself.
        running: Looks whether the application runs; None where that cannot be told.
        boot: Which start of the machine this is.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        look: Callable[[], SiteStatus],
        keeper: ServiceStateFile,
        orders: JournalOrders,
        runner: WorkRunner,
        schedule: Schedule,
        now: Callable[[], datetime],
        tell: Callable[[ServiceEvent], None],
        on_trial: Callable[[], bool] = lambda: False,
        running: Callable[[], RunningSeen | None] = lambda: None,
        boot: Callable[[], str] = lambda: "",
    ) -> None:
        self._running, self._boot = running, boot
        self._settings, self._on_trial = settings, on_trial
        self._read, self._keeper, self._orders = look, keeper, orders
        self._runner, self._schedule, self._now, self._tell = runner, schedule, now, tell
        self._service_state = keeper.load()
        self._said: str | None = None

    def reload(self, settings: ServiceSettings) -> None:
        """Go on with other settings."""
        self._settings = settings
        self._keep(_outdated(self._service_state))

    @property
    def state(self) -> ServiceState:
        """What is known now."""
        return self._service_state

    def step(self) -> ServiceDecision:
        """Look, decide, and do it. Returns what was done; a wait is the caller's to keep."""
        try:
            status = self._look()
        except UpdaterError as error:
            return self._blind(error)
        if not (status.unfinished or need(status.at_work) or self._assessed(status)):
            status = self._assess(status)
        act = decide(self._facts(status))
        self._say(act)
        self._tell(ServiceEvent("looked", {"action": act.action.value, "at": status.now}))
        journal = need(status.journal)
        order = journal.back or journal.order
        if act.action is Action.ORDER and order is not None:
            self._order(order)
        elif act.action is not Action.WAIT:
            self._do(act)
        return act

    # ---- looking -------------------------------------------------------------------------------

    def _look(self) -> SiteStatus:
        """Look; what cannot be read is raised, for nothing may be decided without it."""
        status = self._read()
        for error in status.errors:
            raise error
        return status

    def _blind(self, error: UpdaterError) -> ServiceDecision:
        until = self._now() + timedelta(seconds=UNREADABLE_S)
        act = ServiceDecision(Action.WAIT, Text("{error}", {"error": error.what_text}), until)
        if self._said != error.code:
            self._said = error.code
            self._tell(ServiceEvent("needs-person", {"code": error.code, "what": str(error)}))
        return act

    def _assessed(self, status: SiteStatus) -> bool:
        assessment = self._service_state.assessment
        failure = self._service_state.failures.get(Action.ASSESS)
        if failure is not None and failure.waits(self._now(), Action.ASSESS):
            return True
        return assessment is not None and assessment.event == need(status.journal).event

    def _assess(self, status: SiteStatus) -> SiteStatus:
        """Let a child find out what is next; where it cannot, what was found last stays told."""
        before = self._service_state.assessment
        finished = self._runner.assess()
        try:
            found = Assessment.from_json(finished.document)
        except ValueError as error:
            logger.warning("what comes next was not found out (exit code %s)", finished.exit_code)
            logger.debug("its answer: %s", error)
            code = finished.error_code or ""
            self._keep(self._service_state.failed(Action.ASSESS, self._now(), code))
            return self._look()
        service_state = replace(self._service_state, assessment=found).succeeded(Action.ASSESS)
        if before is None or before.target != found.target:
            for action in (Action.PREPARE, Action.REHEARSE, Action.UPGRADE):
                # What failed before was another release.
                service_state = service_state.succeeded(action) if before else service_state
        self._keep(service_state)
        if found.target is not None and (before is None or before.target != found.target):
            self._tell(ServiceEvent("available", {"version": found.target}))
        if found.voids and (before is None or before.voids != found.voids):
            self._tell(ServiceEvent("approval-void", {"reasons": list(found.voids)}))
        return self._look()

    def _facts(self, status: SiteStatus) -> Inputs:
        return replace(
            inputs_for(status, self._service_state, self._settings, self._now()),
            busy=need(status.at_work) is not None,
            down=None if status.unfinished or need(status.at_work) else self._down(),
            on_trial=self._on_trial(),
        )

    def _down(self) -> bool | None:
        """Whether the application does not run although it ought to."""
        seen = self._running()
        if seen is None:
            return None
        boot = self._boot()
        ran_in = ran_in_after(seen, self._service_state.ran_in, boot)
        if ran_in != self._service_state.ran_in:
            self._keep(replace(self._service_state, ran_in=ran_in))
        return ought_to_run(seen, self._service_state.ran_in, boot) is RunVerdict.START

    # ---- doing ---------------------------------------------------------------------------------

    def _do(self, act: ServiceDecision) -> None:
        finished = self._runner.run(words_of(act, self._service_state.assessment))
        done = finished.exit_code in DONE.get(act.action, frozenset({ExitCode.OK}))
        self._after(act.action, finished, done=done or _gave_way(finished))

    def _order(self, order: Order) -> None:
        self._orders.take(order.id)
        if self._now() - order.at > ORDER_HOLDS:
            error = UpdaterError(
                ORDER_TOO_OLD, order=order.id, hours=ORDER_HOLDS // timedelta(hours=1)
            )
            language = language_of(str(order.data.get("language"))) or DEFAULT_LANGUAGE
            document = {"error": error_document(error, [UNCHANGED], language)}
            finished = Finished(error.exit_code, document)
        else:
            finished = self._runner.run(words_of_order(order))
        result = {"exit_code": finished.exit_code, "document": dict(finished.document)}
        self._orders.end(order.id, result)
        action = Action.CHECK if order.kind is OrderKind.CHECK else Action.ORDER
        done = finished.exit_code == ExitCode.OK or _gave_way(finished)
        self._after(action, finished, done=done)

    def _after(self, action: Action, finished: Finished, *, done: bool) -> None:
        now = self._now()
        before = self._service_state
        service_state = (
            before.succeeded(action)
            if done
            else before.failed(action, now, finished.error_code or "")
        )
        if action is Action.CHECK:
            service_state = replace(
                service_state,
                checked_at=now if done else service_state.checked_at,
                next_check=self._schedule(now, service_state.failures.get(Action.CHECK)),
            )
        self._said = None  # what comes next is told anew, also where it is the same again
        # A child may have changed anything: what was known before it is not known any more.
        self._keep(_outdated(service_state))
        values: dict[str, object] = {"action": action.value, "exit_code": finished.exit_code}
        if not done:
            values["code"] = finished.error_code
        self._tell(ServiceEvent("done" if done else "failed", values))

    def _keep(self, service_state: ServiceState) -> None:
        self._service_state = service_state
        keep(self._keeper, service_state)

    def _say(self, act: ServiceDecision) -> None:
        """Log what comes next, once as long as it stays the same."""
        why = act.why.render()
        if why != self._said:
            self._said = why
            logger.info("%s: %s", act.action, why, extra={"action": act.action.value})
            self._tell(ServiceEvent("next", {"action": act.action.value, "why": act.why}))


def keep(keeper: ServiceStateFile, service_state: ServiceState) -> None:
    """Write down what is known; where that cannot be done, the service knows it all the same."""
    try:
        keeper.save(service_state)
    except OSError as error:
        logger.warning("what the service knows was not written down: %s", error)


def _gave_way(finished: Finished) -> bool:
    """Whether a command left off watching a release for an order to go back: no failure."""
    return finished.error_code == WATCHING_ENDED_BY_ORDER.code


def _outdated(service_state: ServiceState) -> ServiceState:
    """Return it with an assessment that is made anew before the next decision."""
    before = service_state.assessment
    return replace(service_state, assessment=replace(before, event=-1) if before else None)


def words_of(act: ServiceDecision, assessment: Assessment | None) -> tuple[str, ...]:
    """Return the command that does an act; pure."""
    target = assessment.target if assessment and assessment.target else None
    # Its time has come again, or there would be nothing to do.
    retry = ("--retry",) if assessment and assessment.bad_until else ()
    match act.action:
        case Action.RESUME | Action.START:
            return ("resume", "--unattended")
        case Action.CHECK:
            return ("check",)
        case Action.COLLECT:
            return ("collect",)
        case Action.SELF_UPDATE:
            return ("self-update",)
        case Action.PREPARE:
            return ("plan", *_named(target), *retry)
        case Action.REHEARSE:
            return ("rehearse", *_named(target), *retry)
        case Action.UPGRADE:
            before = ("--begin-before", act.until.isoformat()) if act.until else ()
            return ("upgrade", *_named(target), "--yes", "--scheduled", *retry, *before)
        case _:
            raise ValueError(f"nothing to run for {act.action}")


def words_of_order(order: Order) -> tuple[str, ...]:
    """Return the command that does what a person ordered; pure."""
    version = order.data.get("version")
    named = _named(version if isinstance(version, str) else None)
    retry = ("--retry",) if order.data.get("retry") is True else ()
    language = language_of(str(order.data.get("language")))
    said = ("--lang", language) if language not in (None, DEFAULT_LANGUAGE) else ()
    loss, undoes = order.data.get("accept_loss"), order.data.get("undoes")
    accepted = ("--accept-loss", str(loss)) if type(loss) is int else ()
    match order.kind:
        case OrderKind.CHECK:
            return ("check", *said)
        case OrderKind.PREPARE if order.data.get("of") == "rollback":
            return ("rollback", "--dry-run", *accepted, *said)
        case OrderKind.PREPARE:
            return ("plan", *named, *retry, *said)
        case OrderKind.REHEARSE:
            return ("rehearse", *named, *retry, *said)
        case OrderKind.UPGRADE:
            # Who may approve agrees by the order; anybody else needs the approvals of others.
            agreed = () if order.data.get("by_approver") is True else ("--scheduled",)
            return ("upgrade", *named, "--yes", *agreed, *retry, *said)
        case OrderKind.ROLLBACK:
            seen = ("--undoes", undoes) if isinstance(undoes, str) else ()
            return ("rollback", "--yes", "--order", str(order.id), *accepted, *seen, *said)
        case OrderKind.RESUME:
            return ("resume", *said)
        case OrderKind.CONFIRM:
            return ("confirm", *said)
        case OrderKind.SELF_UPDATE:
            return ("self-update", *named, *retry, *said)
        case OrderKind.IMPORT:
            # What to open, and for whom, is read from the order itself where that is done.
            dry = ("--dry-run",) if order.data.get("dry_run") is True else ()
            return ("import", "--order", str(order.id), *dry, *said)


def _named(version: str | None) -> tuple[str, ...]:
    return (version,) if version is not None else ()
