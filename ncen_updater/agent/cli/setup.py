"""``setup``: inspect the server, show a plan, apply or revert it, check the result."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ncen_updater.agent.cli.common import agent_command, dry_run_option, yes_option
from ncen_updater.common.cli.session import DEFAULT_CONFIG
from ncen_updater.common.cli.usage import NOTHING_CHANGED, OPTION_EXCLUDED, CommandUsageError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText, join_texts
from ncen_updater.common.messages import (
    SETUP_ANSWERS_NEEDED,
    SETUP_CONFIGURED,
    SETUP_FEED_UNREADABLE,
    SETUP_NOT_ROOT,
    SETUP_NOTHING_TO_UNDO,
    SETUP_OTHER_CONFIG,
    ExitCode,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.reports.command_results import CommandResult
    from ncen_updater.agent.setup.answers import SetupAnswers
    from ncen_updater.agent.setup.dialog import Question
    from ncen_updater.agent.setup.facts import SiteFacts
    from ncen_updater.agent.setup.machine import Machine
    from ncen_updater.agent.setup.plan import SetupPlan
    from ncen_updater.agent.setup.record import SetupRecord

PATH_TYPE = click.Path(path_type=Path)


@agent_command
@click.option("--answers", type=PATH_TYPE, help=N_("File with all answers"))
@click.option("--keep-unit", is_flag=True, help=N_("Keep the systemd unit of the application"))
@click.option("--web", is_flag=True, help=N_("Set up in a browser; prints a link"))
@click.option("--undo", is_flag=True, help=N_("Undo setup"))
@click.option(
    "--root", type=PATH_TYPE, default=Path("/"), help=N_("Root directory of all paths (default: /)")
)
@dry_run_option
@yes_option
def setup(
    session: AgentSession,
    answers: Path | None,
    keep_unit: bool,
    web: bool,
    undo: bool,
    root: Path,
    dry_run: bool,
    yes: bool,
) -> ExitCode:
    from ncen_updater.agent.setup.machine import Machine
    from ncen_updater.agent.setup.record import SetupPhase, SetupRecord

    session.adopting = True
    if undo and answers:
        raise CommandUsageError(OPTION_EXCLUDED, option="--undo", other="--answers")
    if web and (undo or yes or dry_run):
        raise CommandUsageError(OPTION_EXCLUDED, option="--web", other="--undo, --yes, --dry-run")
    root = root.absolute()
    if os.geteuid() != 0 and root == Path("/"):
        raise UpdaterError(SETUP_NOT_ROOT)
    machine = Machine(root)
    record = SetupRecord(machine, machine.path("/var/lib/ncen-updater"))
    named = None if session.config == DEFAULT_CONFIG else session.config.absolute()
    if record.config and named not in (None, record.config):
        raise UpdaterError(SETUP_OTHER_CONFIG, path=record.config)
    session.config = record.config or named or machine.path(DEFAULT_CONFIG)
    if undo or record.phase is SetupPhase.UNDOING:
        return _undo(session, record, yes=yes, dry_run=dry_run)
    if record.phase is not SetupPhase.DOING and session.config.exists():
        raise UpdaterError(SETUP_CONFIGURED, path=session.config)
    if web:
        _open_page(session, root, answers, keep_unit=keep_unit)
    if record.phase is SetupPhase.DOING:
        session.add_line(LazyText(N_("Setup was interrupted.")))
        for step in record.list_steps(done=False):
            session.add_line(LazyText(N_("Still to do: {step}"), {"step": step.title}))
        session.add_line(LazyText(N_("To undo it instead, run: sudo ncen-updater setup --undo")))
        if dry_run:
            _write(session, "interrupted", None)
            return ExitCode.OK
        session.ask_confirmation(LazyText(N_("Continue it?")), assume_yes=yes)
        return _apply(session, record)
    try:
        plan = _make_plan(session, machine, answers, keep_unit=keep_unit)
    except UpdaterError as error:
        error.state = error.state or NOTHING_CHANGED
        raise
    if dry_run:
        _write(session, "planned", plan, plan.by_hand)
        return ExitCode.OK
    session.ask_confirmation(LazyText(N_("Apply this plan?")), assume_yes=yes)
    return _apply(session, record, plan)


def _open_page(
    session: AgentSession, root: Path, answers: Path | None, *, keep_unit: bool
) -> NoReturn:
    """Replace this process by the console, which performs the setup in :mod:`.setup_worker`."""
    from ncen_updater.agent.cli.serve import become_console

    request = {
        "root": str(root), "config": str(session.config), "directory": str(Path.cwd()),
        "file": answers and str(answers.absolute()), "keep_unit": keep_unit,
    }  # fmt: skip
    become_console(session, ["--setup", json.dumps(request)])


def _apply(session: AgentSession, record: SetupRecord, plan: SetupPlan | None = None) -> ExitCode:
    with session.make_progress() as progress:
        if plan:
            record.apply(progress, plan.steps, plan.by_hand, session.config)
        else:
            record.apply(progress)
    session.add_line(LazyText(N_("Setup is complete.")))
    result = prove_site(session, record)
    for text in result.lines if result else ():
        session.add_line(text)
    for words in record.by_hand:
        session.add_line(LazyText(N_("By hand: {what}"), {"what": words}))
    session.add_line(LazyText(N_("Undo: sudo ncen-updater setup --undo")))
    session.add_line(LazyText(N_("Next: ncen-updater check")))
    more = {"doctor": dict(result.document)} if result else {}
    _write(session, "done", plan, record.by_hand, **more)
    return result.exit_code if result else ExitCode.OK


def prove_site(session: AgentSession, record: SetupRecord) -> CommandResult | None:
    """Read the feed and inspect the site, both with the rights of its units.

    Returns:
        None if the site was not adopted, and so cannot be inspected yet.
    """
    from ncen_updater.agent.cli.local_client import READY
    from ncen_updater.agent.reports.command_results import CommandResult
    from ncen_updater.agent.setup.record import AdoptStep
    from ncen_updater.common.cli.render import finding_to_json, format_findings
    from ncen_updater.common.findings import Finding, Severity

    if not any(isinstance(step, AdoptStep) for step in record.steps):
        return None
    try:
        error = session.get_client().check_feed().error
    except UpdaterError as raised:
        error = raised
    result = session.get_local_site().run_doctor()
    if error is None:
        return result
    failure = UpdaterError(SETUP_FEED_UNREADABLE, path=session.config)
    parts = (part for part in (error.title_text, error.detail_text) if part)
    figures = {"detail": join_texts(parts), "cause": error.code}
    finding = Finding(
        failure.code, Severity.CRITICAL, failure.title_text, failure.remedy_text, figures
    )
    lines = [*format_findings([finding], session.language), *result.lines]
    findings = [finding_to_json(finding, session.language), *result.document["findings"]]
    return CommandResult(
        {**result.document, "healthy": False, "findings": findings},
        [line for line in lines if line != READY],
        ExitCode.BLOCKED,
    )


def _undo(session: AgentSession, record: SetupRecord, *, yes: bool, dry_run: bool) -> ExitCode:
    from ncen_updater.agent.setup.record import SetupPhase

    if record.phase is SetupPhase.NONE:
        if not dry_run:
            record.clear()
        raise UpdaterError(SETUP_NOTHING_TO_UNDO)
    for step in reversed(record.list_steps(done=True)):
        session.add_line(LazyText(N_("Undo: {step}"), {"step": step.title}))
    if dry_run:
        _write(session, "done" if record.phase is SetupPhase.DONE else "interrupted", None)
        return ExitCode.OK
    session.ask_confirmation(LazyText(N_("Undo setup?")), assume_yes=yes)
    with session.make_progress() as progress:
        record.undo(progress)
    session.add_line(LazyText(N_("Setup was undone. The site is as before.")))
    _write(session, "undone", None)
    return ExitCode.OK


# ---- inspection and plan -------------------------------------------------------------------------


def _make_plan(
    session: AgentSession, machine: Machine, answers: Path | None, *, keep_unit: bool
) -> SetupPlan:
    from ncen_updater.agent.setup.answers import load_answers
    from ncen_updater.agent.setup.dialog import format_found, survey_site
    from ncen_updater.agent.setup.plan import build_plan

    given = None if answers is None else load_answers(answers)
    if given is None and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UpdaterError(SETUP_ANSWERS_NEEDED)
    with session.make_progress() as progress:
        progress.report(LazyText(N_("inspecting this server")))
        facts, found = survey_site(machine, given)
    # Shown before the questions, since users answer based on the findings.
    tell = session.print_message if given is None else session.add_line
    tell(LazyText(N_("Found:")))
    for line in format_found(found):
        tell(LazyText("  {line}", {"line": line}))
    if given is None:
        given = _ask(session, facts)
    plan = build_plan(
        machine, facts, found, given, session.config, source=answers, keep_unit=keep_unit
    )
    _show_plan(session, plan)
    return plan


def _show_plan(session: AgentSession, plan: SetupPlan) -> None:
    session.add_line()
    session.add_line(
        LazyText(N_("Fingerprint of the trusted root: {digest}"), {"digest": plan.fingerprint})
    )
    for number, step in enumerate(plan.steps, 1):
        values = {"number": number, "title": step.title}
        session.add_line(LazyText("{number}. {title}", values))
        for line in step.preview():
            session.add_line(f"    {line}")
    for words in plan.by_hand:
        session.add_line(LazyText(N_("By hand: {what}"), {"what": words}))


def _write(
    session: AgentSession,
    state: str,
    plan: SetupPlan | None,
    by_hand: Sequence[LazyText] = (),
    **more: object,
) -> None:
    steps = [
        {"kind": step.kind, "title": step.title.render(session.language),
         "preview": list(step.preview())}
        for step in (plan.steps if plan else ())
    ]  # fmt: skip
    session.write_output(
        {
            "state": state,
            "steps": steps,
            "fingerprint": plan.fingerprint if plan else None,
            "found": [
                {"what": guess.what, "value": guess.value, "certainty": str(guess.certainty)}
                for guess in (plan.guesses if plan else ())
            ],
            "by_hand": [line.render(session.language) for line in by_hand],
            **more,
        }
    )


class _AskAgainError(click.UsageError):
    """Invalid answer, so that the question is repeated; its text is translated."""


# ---- questions -----------------------------------------------------------------------------------


def _ask(session: AgentSession, facts: SiteFacts) -> SetupAnswers:
    """Ask for all settings that cannot be detected, each until the answer is valid."""
    from ncen_updater.agent.setup.answers import make_answers
    from ncen_updater.agent.setup.dialog import (
        COMPARE_FINGERPRINT,
        QUESTIONS,
        WrongAnswerError,
        add_tables,
    )
    from ncen_updater.common.cli.render import format_fingerprint

    given: dict[str, Any] = {}
    for question in QUESTIONS:

        def take(text: str, question: Question = question) -> Mapping[str, Any]:
            try:
                return question.parse(text)
            except WrongAnswerError as error:
                raise _AskAgainError(error.text.render(session.language)) from error

        words = question.text.render(session.language)
        default = question.propose(facts) or None
        add_tables(given, session.prompt(words, default=default, value_proc=take))
        if question.name == "trust":
            session.print_message(LazyText(COMPARE_FINGERPRINT))
            digest = {"digest": format_fingerprint(given["trust"]["fingerprint"])}
            session.print_message(LazyText("{digest}", digest))
            session.print_message(LazyText(N_("Stop here if it differs (Ctrl-C).")))
    return make_answers(given)
