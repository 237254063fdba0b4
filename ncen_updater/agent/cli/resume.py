"""``resume``: bring the site to one whole version after whatever happened."""

from __future__ import annotations

import dataclasses
import shlex
from contextlib import nullcontext

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.config.paths import load_places
from ncen_updater.agent.reports.answers import result_answer
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import ExitCode


@click.command("resume", cls=Command, help=N_("Bring an interrupted change to its end."))
@click.option(
    "--boot",
    is_flag=True,
    help=N_("For the start of the machine: count the tries, and leave the start to the system."),
)
@click.option(
    "--unattended", is_flag=True, help=N_("For the service: count the tries, and start it.")
)
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.pass_context
def resume(context: click.Context, boot: bool, unattended: bool, dry_run: bool) -> ExitCode:
    from ncen_updater.agent.adapters.rights import leave_server_files
    from ncen_updater.agent.engine.interruption import Interruption
    from ncen_updater.agent.engine.operations import Operations, Result
    from ncen_updater.agent.engine.pending_rollback import TAKEN_BACK
    from ncen_updater.agent.engine.recovery import Decision, RecoveryAction, Situation, decide
    from ncen_updater.agent.model.names import JOURNAL
    from ncen_updater.agent.reports.status import need, read_status
    from ncen_updater.agent.service.watched_time import gives_way

    session = agent_session(context)
    if boot and not dry_run and _nothing_open(session):
        # Whatever else is wrong, the configuration as well: the application is not kept off.
        return session.answer(
            result_answer(Result(decision=decide(Situation(None))), session.language)
        )
    site, places = session.open_site(recovering=True), load_places(session.config)
    if boot and not dry_run:
        leave_server_files(site.config)
    by_person = not (boot or unattended)
    if dry_run:
        seen = read_status(places, site.clock.now(), {"journal", "databases"}, site=site)
        owed = need(seen.journal).owed
        found = need(seen.databases)
        decision = decide(dataclasses.replace(found, by_person=found.by_person and by_person))
        due = owed is not None and not boot and (by_person or owed.by_itself)
        if due and decision.action is RecoveryAction.NOTHING:
            decision = Decision(RecoveryAction.GO_BACK, "owed", TAKEN_BACK)
        result = Result(decision=decision)
    else:
        interruption = Interruption()
        orders = nullcontext() if boot else gives_way(site.state / JOURNAL)
        with session.progress() as progress, interruption.handled(), orders:
            operations = Operations(site, progress, interruption=interruption)
            known = need(read_status(places, site.clock.now(), {"service_state"}).service_state)
            result = operations.resume(by_person=by_person, at_boot=boot, ran_in=known.ran_in)
    before = []
    if result.decision is not None:
        values = {"action": result.decision.action, "reason": result.decision.reason}
        before = [Text(N_("{action}: {reason}"), values)]
    answer = result_answer(result, session.language, before)
    if result.started:
        more = N_("The application did not run, and was started.")
    elif not (boot or dry_run or site.application.running()):
        more = N_("The application does not run; start it with: {command}")
    else:
        return session.answer(answer)
    settings = site.config.application
    start = ["systemctl", "start", settings.unit] if settings.unit else settings.start or ()
    line = Text(more, {"command": shlex.join(map(str, start))})
    return session.answer(dataclasses.replace(answer, words=(*answer.words, line)))


def _nothing_open(session: AgentSession) -> bool:
    from ncen_updater.agent.config.noted_check import find_state
    from ncen_updater.agent.model.names import JOURNAL
    from ncen_updater.agent.storage.journal.journal import Journal

    with Journal.open(find_state(session.config) / JOURNAL, read_only=True) as journal:
        return journal.open_change() is None
