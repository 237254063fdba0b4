"""Setup page for a new site: findings, questions, the plan and its steps.

Root starts it, and it ends with the setup. The page decides nothing: it shows the answers of a
worker of the agent and returns the plan that was shown. All browsers see the same state.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import CONSOLE_BUSY, CONSOLE_FORM
from ncen_updater.common.progress import Amount, ProgressListener
from ncen_updater.common.workers import (
    INHERITED_VARIABLES,
    Worker,
    WorkerError,
    call_worker,
    decode_value,
)
from ncen_updater.console.app import FormRoute, PageRoute
from ncen_updater.console.page_request import PageContent, PageRequest
from ncen_updater.console.pages.form_actions import FormResult
from ncen_updater.console.pages.live import STEP_STATES, LiveStep
from ncen_updater.console.service_client import build_error_document

WORKER = Worker(
    "ncen_updater.agent.cli.setup_worker",
    expected_errors=(range(10_000),),
    ends_with_caller=False,  # a started setup continues after the page is closed
    inherited_variables=(*INHERITED_VARIABLES, "SUDO_UID", "SUDO_USER"),
)
#: Idle time after which the page closes while no worker runs; delay for delivering the last page.
IDLE_S, FAREWELL_S = 1800.0, 5.0
#: State for errors without a state of their own.
UNKNOWN_STATE = LazyText("-")
LOOKING = LazyText(N_("inspecting this server"))

RunOrder = Callable[[Mapping[str, object], ProgressListener], Mapping[str, Any]]


@dataclass(frozen=True)
class SetupState:
    """State of the setup page.

    Attributes:
        act: Action of the running worker; empty without one.
        found: The worker's last answer: findings, questions, plan.
        error: Why the last action failed.
        progress: The last progress message.
        step: Number of the step that is being applied or reverted.
        reverting: Whether steps are being reverted.
        done: Result of the setup; None before its end.
    """

    act: str = ""
    found: Mapping[str, Any] = field(default_factory=dict)
    error: UpdaterError | None = None
    progress: LazyText = LOOKING
    step: int = -1
    reverting: bool = False
    done: Mapping[str, Any] | None = None


class SetupPage:
    """One setup, shared by all browsers.

    Args:
        order: Parameters of the setup from the command line.
        run: Runs a worker.
        clock: A monotonic clock.
    """

    def __init__(
        self,
        order: Mapping[str, object],
        run: RunOrder = lambda order, progress: call_worker(WORKER, order, progress),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._order, self._run_order, self._clock = order, run, clock
        self._state, self._lock = SetupState(), threading.Lock()
        self._ends_at = clock() + IDLE_S
        self._start("plan", {"answers": {}})

    @property
    def is_applying(self) -> bool:
        """Return whether a worker is applying the plan."""
        return self._state.act == "apply"

    def is_over(self) -> bool:
        """Return whether the page was closed or has been idle for too long."""
        return not self._state.act and self._clock() > self._ends_at

    def make_routes(self) -> tuple[PageRoute | FormRoute, ...]:
        """Return the paths of the page."""
        return (
            PageRoute("GET", "/", self._build_page),
            FormRoute("POST", "/answers", self._give_answers),
            FormRoute("POST", "/apply", self._apply),
            FormRoute("POST", "/again", self._start_again),
            FormRoute("POST", "/close", self._close),
        )

    # ---- worker ----------------------------------------------------------------------------------

    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        """Record the worker's progress; a step number that repeats or decreases means reverting."""
        with self._lock:
            before, number = self._state, self._state.step if amount is None else amount.done
            reverting = before.reverting or (amount is not None and number <= before.step)
            self._state = replace(before, progress=text, step=number, reverting=reverting)

    def _start(self, act: str, more: Mapping[str, object], plan: str | None = None) -> None:
        """Start a worker, unless one is running, the setup is done, or the plan has changed.

        Raises:
            UpdaterError: If the worker cannot be started for these reasons.
        """
        with self._lock:
            before = self._state
            if before.act or before.done is not None:
                raise UpdaterError(CONSOLE_BUSY)
            if plan is not None and plan != _compute_digest(before.found):
                raise UpdaterError(CONSOLE_FORM, reason=LazyText(N_("the plan changed")))
            self._state = SetupState(act, before.found)
            order: dict[str, Any] = {
                **self._order,
                "plan": before.found.get("plan"),
                **more,
                "act": act,
            }
        threading.Thread(target=self._work, args=(act, order), name="setup", daemon=True).start()

    def _work(self, act: str, order: Mapping[str, Any]) -> None:
        result: Mapping[str, Any] | None = None
        error: UpdaterError | None = None
        try:
            result = self._run_order(order, self)
        except UpdaterError as refused:
            error = refused
        except WorkerError as failure:
            error = UpdaterError(detail=failure.detail)
        with self._lock:
            found, done = self._state.found, None
            if act == "apply":
                found, done = ({} if error else found), result
            elif result is not None:
                found = result
            elif answers := order["answers"]:  # keep what the user typed
                rows = [{**row, "answer": answers[row["name"]]} for row in found["questions"]]
                found = {**found, "questions": rows}
            self._state = replace(self._state, act="", found=found, error=error, done=done)
            self._ends_at = self._clock() + IDLE_S

    # ---- forms -----------------------------------------------------------------------------------

    def _give_answers(self, asking: PageRequest) -> FormResult:
        """Request a plan with the user's answers; without answers the worker asks again."""
        questions = self._state.found.get("questions", ())
        answers = {row["name"]: asking.form.get(row["name"], "") for row in questions}
        self._start("plan", {"answers": answers})
        return "/", None

    def _start_again(self, asking: PageRequest) -> FormResult:
        """Repeat the inspection of the server."""
        self._start("plan", {"answers": {}})
        return "/", None

    def _apply(self, asking: PageRequest) -> FormResult:
        """Apply the plan that was shown."""
        if "plan" in self._state.found and asking.form.get("compared") != "yes":
            raise UpdaterError(
                CONSOLE_FORM, reason=LazyText("'{name}' is missing", {"name": "compared"})
            )
        self._start("apply", {"language": asking.language}, asking.form.get("plan", ""))
        return "/", None

    def _close(self, asking: PageRequest) -> FormResult:
        """Close the page after the last response was delivered."""
        self._ends_at = self._clock() + FAREWELL_S
        return "/", LazyText(N_("This page is closed now."))

    # ---- page ------------------------------------------------------------------------------------

    def _build_page(self, asking: PageRequest) -> PageContent:
        state = self._state
        if state.done is None:
            self._ends_at = self._clock() + IDLE_S
        error = state.error and build_error_document(
            state.error, state.error.state or UNKNOWN_STATE, asking.language
        )
        values = {
            "setup": state, "found": _decode(state.found), "done": _decode(state.done),
            "error": error, "digest": _compute_digest(state.found),
            "rows": list(_build_steps(state, asking.language)),
        }  # fmt: skip
        loading = bool(state.act)
        return PageContent(
            "setup", values, "loading" if loading else "ready", refresh_s=2 if loading else 0
        )


def _compute_digest(found: Mapping[str, Any]) -> str:
    """Return the digest of the plan, by which a form names the plan it was shown with. Pure."""
    content = [found.get("plan"), found.get("interrupted")]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _decode(value: Any) -> Any:  # noqa: ANN401 - as JSON has it
    """Return the answer with encoded texts decoded. Pure."""
    if isinstance(value, Mapping) and "text" in value and "values" in value:
        return decode_value(value)
    if isinstance(value, Mapping):
        return {name: _decode(one) for name, one in value.items()}
    return [_decode(one) for one in value] if isinstance(value, list) else value


def _build_steps(state: SetupState, language: str) -> Sequence[LiveStep]:
    """Return the steps of the plan with their states. Pure."""
    plan, rows = state.found.get("plan"), []
    for number, step in enumerate(plan["steps"] if plan else ()):
        key = "intended" if number == state.step else "done" if number < state.step else ""
        if state.reverting:
            key = "undoing" if number == state.step else "undone" if number > state.step else "done"
        style, word = STEP_STATES.get(key, ("", ""))
        title = _decode(step["title"]).render(language)
        rows.append(LiveStep(title, style, LazyText(word).render(language) if word else "", ""))
    return rows
