"""Worker process of the setup page: inspects the server, plans, or applies the plan.

Each request runs in a single-threaded process of its own, which may temporarily switch to other
users. The process is not bound to the page: a started setup continues after the page is closed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.cli.setup import prove_site
from ncen_updater.agent.setup.answers import SetupAnswers, load_answers, make_answers
from ncen_updater.agent.setup.dialog import (
    QUESTIONS,
    WrongAnswerError,
    add_tables,
    format_found,
    survey_site,
)
from ncen_updater.agent.setup.machine import Machine
from ncen_updater.agent.setup.plan import build_plan
from ncen_updater.agent.setup.record import SetupPhase, SetupRecord
from ncen_updater.agent.setup.steps import load_step
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import SETUP_UNDO_FAILED
from ncen_updater.common.progress import ProgressListener
from ncen_updater.common.workers import decode_value, encode_value, serve_request
from ncen_updater.feed import prepare_process

Request = Mapping[str, Any]


def execute_request(request: Request, progress: ProgressListener) -> dict[str, object]:
    """Execute a request of the page; return the data that it shows."""
    os.chdir(request["directory"])  # the user's directory: answers may contain relative paths
    machine = Machine(Path(request["root"]))
    record = SetupRecord(machine, machine.path("/var/lib/ncen-updater"))
    if request["act"] == "apply":
        return _apply(request, record, progress)
    if record.phase is SetupPhase.DOING:
        steps = record.list_steps(done=False)
        return {"interrupted": [encode_value(step.title) for step in steps]}
    if record.phase is SetupPhase.UNDOING:
        step = record.list_steps(done=True)[-1]
        raise UpdaterError(SETUP_UNDO_FAILED, step=step.title, cause="-")
    progress.report(LazyText(N_("inspecting this server")))
    return _plan(request, machine)


def _plan(request: Request, machine: Machine) -> dict[str, object]:
    """Return questions and input errors while answers are incomplete, otherwise the plan."""
    source = Path(request["file"]) if request["file"] else None
    given = load_answers(source) if source else None
    facts, found = survey_site(machine, given)
    page: dict[str, object] = {"found": [encode_value(line) for line in format_found(found)]}
    if given is None:
        typed = request["answers"]
        given, mistakes = _read_answers(typed) if typed else (None, {})
        page["questions"] = [
            {
                "name": question.name,
                "text": encode_value(question.text),
                "answer": typed.get(question.name, "") if typed else question.propose(facts),
                "mistake": encode_value(mistakes.get(question.name, "")),
            }
            for question in QUESTIONS
        ]
        if given is None:
            return page
    config = Path(request["config"])
    plan = build_plan(
        machine, facts, found, given, config, source=source, keep_unit=request["keep_unit"]
    )
    page["plan"] = {
        "fingerprint": plan.fingerprint,
        "by_hand": [encode_value(line) for line in plan.by_hand],
        "steps": [
            {"title": encode_value(step.title), "preview": list(step.preview())}
            for step in plan.steps
        ],
        "records": [step.to_record() for step in plan.steps],
    }
    return page


def _read_answers(typed: Mapping[str, str]) -> tuple[SetupAnswers | None, dict[str, LazyText]]:
    given: dict[str, Any] = {}
    mistakes = {}
    for question in QUESTIONS:
        try:
            add_tables(given, question.parse(typed.get(question.name, "")))
        except WrongAnswerError as error:
            mistakes[question.name] = error.text
    return (None if mistakes else make_answers(given)), mistakes


def _apply(request: Request, record: SetupRecord, progress: ProgressListener) -> dict[str, object]:
    """Apply the steps of the shown plan, or the remaining steps of an interrupted setup."""
    config = record.config or Path(request["config"])
    if plan := request["plan"]:
        lines = [decode_value(line) for line in plan["by_hand"]]
        by_hand = [line for line in lines if isinstance(line, LazyText)]
        record.apply(progress, [load_step(one) for one in plan["records"]], by_hand, config)
    else:
        record.apply(progress)
    session = AgentSession("ncen-updater", config, language=request["language"], adopting=True)
    result = prove_site(session, record)
    doctor = dict(result.document) if result else {}
    return {"by_hand": [encode_value(line) for line in record.by_hand], "doctor": doctor}


def main() -> int:
    """Execute one request; return the exit status."""
    prepare_process()
    return serve_request(execute_request, ends_with_caller=False)


if __name__ == "__main__":
    sys.exit(main())
