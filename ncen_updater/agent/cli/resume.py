"""``resume`` and ``prune``: complete or revert an interrupted change; remove expired copies."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from ncen_updater.agent.cli.common import agent_command, dry_run_option
from ncen_updater.agent.config.essential_settings import load_essential_settings
from ncen_updater.agent.reports.command_results import format_operation_result
from ncen_updater.common.cli.render import make_sentence
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode

if TYPE_CHECKING:
    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.engine.site import Site


@agent_command
@click.option(
    "--boot",
    is_flag=True,
    hidden=True,
)
@click.option("--unattended", is_flag=True, hidden=True)
@dry_run_option
def resume(session: AgentSession, boot: bool, unattended: bool, dry_run: bool) -> ExitCode:
    from ncen_updater.agent.adapters.rights import drop_server_file_access
    from ncen_updater.agent.engine.operations import OperationResult, Operations
    from ncen_updater.agent.engine.pending_rollback import PENDING_ROLLBACK_REASON
    from ncen_updater.agent.engine.recovery import (
        ObservedState,
        RecoveryAction,
        RecoveryDecision,
        decide_recovery,
    )
    from ncen_updater.agent.engine.signal_handling import SignalHandler
    from ncen_updater.agent.model.event_names import JOURNAL_FILE
    from ncen_updater.agent.reports.status import read_status, require_part
    from ncen_updater.agent.service.soak_preemption import preempt_soak_for_rollback

    if boot and not dry_run and _has_no_open_change(session):
        # No open change: the application may start, even if the configuration is invalid.
        return session.show_result(
            format_operation_result(
                OperationResult(decision=decide_recovery(ObservedState(None))), session.language
            )
        )
    site, settings = session.open_site(recovering=True), load_essential_settings(session.config)
    if boot and not dry_run:
        drop_server_file_access(site.config)
    by_operator = not (boot or unattended)
    if dry_run:
        seen = read_status(settings, site.clock.now(), {"journal", "observed_state"}, site=site)
        pending = require_part(seen.journal).pending_rollback
        found = require_part(seen.observed_state)
        decision = decide_recovery(
            dataclasses.replace(found, by_operator=found.by_operator and by_operator)
        )
        due = pending is not None and not boot and (by_operator or pending.is_automatic)
        if due and decision.action is RecoveryAction.NOTHING:
            decision = RecoveryDecision(RecoveryAction.REVERT, "pending", PENDING_ROLLBACK_REASON)
        result = OperationResult(decision=decision)
    else:
        interruption = SignalHandler()
        preemption = (
            nullcontext()
            if boot
            else preempt_soak_for_rollback(site.state_directory / JOURNAL_FILE)
        )
        with session.make_progress() as progress, interruption.handle_signals(), preemption:
            operations = Operations(site, progress, interruption=interruption)
            known = require_part(
                read_status(settings, site.clock.now(), {"service_state"}).service_state
            )
            result = operations.resume(
                by_operator=by_operator, at_boot=boot, last_running_boot=known.last_running_boot
            )
    before = []
    idle = by_operator and not result.outcomes
    if result.decision is not None and (dry_run or idle):
        before = [make_sentence(result.decision.reason.render(session.language))]
    answer = format_operation_result(result, session.language, before)
    if result.application_started:
        more = N_("Application started.")
    elif not (boot or dry_run or site.application.is_running()):
        more = N_("Application stopped. Run: {command}")
    else:
        return session.show_result(answer)
    line = LazyText(more, {"command": session.find_start_command()})
    return session.show_result(dataclasses.replace(answer, lines=(*answer.lines, line)))


def _has_no_open_change(session: AgentSession) -> bool:
    from ncen_updater.agent.config.validation_cache import find_state_directory
    from ncen_updater.agent.model.event_names import JOURNAL_FILE
    from ncen_updater.agent.storage.journal.journal import Journal

    with Journal.open(
        find_state_directory(session.config) / JOURNAL_FILE, read_only=True
    ) as journal:
        return journal.find_open_change() is None


@agent_command
@dry_run_option
@click.option(
    "--retained",
    "change",
    metavar="CHANGE",
    help=N_("Remove the databases that the rollback of this change retained"),
)
def prune(session: AgentSession, dry_run: bool, change: str | None) -> ExitCode:
    from ncen_updater.agent.engine import prune as pruning
    from ncen_updater.agent.engine.change_guards import require_no_unfinished_change
    from ncen_updater.agent.engine.operations import Operations

    site = session.open_site()
    if change is not None:
        return _prune_retained(session, site, change, dry_run=dry_run)
    with session.make_progress() as progress:
        if dry_run:
            with Operations(site, progress).read_journal() as journal:
                require_no_unfinished_change(journal)
                found = pruning.find_prunable(site, journal)
        else:
            with Operations(site, progress).lock_idle_site("prune") as journal:
                found = pruning.find_prunable(site, journal)
                pruning.prune(site, journal, found, progress)
    removed = [
        LazyText(N_("databases before change {change}"), {"change": c}) for c in found.changes
    ]
    removed += [LazyText(N_("release {version}"), {"version": v}) for v in found.slots]
    _show_removed(session, removed, dry_run=dry_run)
    if not found:
        session.add_line(LazyText(N_("Nothing to prune.")))
    session.write_output(
        {
            "dry_run": dry_run,
            "changes": list(found.changes),
            "slots": [str(version) for version in found.slots],
        }
    )
    return ExitCode.OK


def _show_removed(session: AgentSession, removed: Iterable[object], *, dry_run: bool) -> None:
    text = N_("Would be removed: {what}") if dry_run else N_("Removed: {what}")
    for what in removed:
        session.add_line(LazyText(text, {"what": what}))


def _prune_retained(session: AgentSession, site: Site, change: str, *, dry_run: bool) -> ExitCode:
    from ncen_updater.agent.engine import prune as pruning
    from ncen_updater.agent.engine.change_guards import require_no_unfinished_change
    from ncen_updater.agent.engine.operations import Operations

    with session.make_progress() as progress:
        operations = Operations(site, progress)
        if dry_run:
            with operations.read_journal() as journal:
                require_no_unfinished_change(journal)
            retained = pruning.list_quarantined(site, change)
        else:
            with operations.lock_idle_site("prune") as journal:
                retained = pruning.drop_quarantined(site, journal, change, progress)
    _show_removed(session, retained, dry_run=dry_run)
    if not retained:
        session.add_line(LazyText(N_("Nothing retained for change {change}."), {"change": change}))
    session.write_output({"dry_run": dry_run, "retained": list(retained)})
    return ExitCode.OK
