"""``watch``: follow an operation of the service until it ends. Ctrl-C ends only the display."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeGuard

import click

from ncen_updater.agent.cli.common import agent_command
from ncen_updater.agent.cli.hold import show_next_start
from ncen_updater.agent.cli.job_progress import (
    parse_job_result,
    report_progress,
    report_service_away,
)
from ncen_updater.agent.cli.service_client import require_service
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.cli.status import show_last_change
from ncen_updater.agent.policy.operation_labels import label_operation
from ncen_updater.agent.reports.command_results import CommandResult, JsonDocument
from ncen_updater.agent.service.api_client import SiteServiceClient, StreamEvent
from ncen_updater.common.cli.lazy import IntegerRange
from ncen_updater.common.cli.usage import NOTHING_CHANGED
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.labels import format_upgrade_path
from ncen_updater.common.messages import API_PATH_UNKNOWN, JOB_UNKNOWN, ExitCode


@agent_command
@click.argument("job", required=False, metavar="[JOB]", type=IntegerRange(min=1))
def watch(session: AgentSession, job: int | None) -> ExitCode:
    client = require_service(session)
    seen, before = 0, None if session.as_json else _find_newest_change(client)
    job, work = _find_job(client, job), list[str]()
    try:
        with session.make_progress() as progress:
            report_away = partial(report_service_away, progress)
            for event in _follow_events(client, job, report_away):
                seen += 1
                if event.kind == "service" and event.data["running"] is not None:
                    work = list(event.data["running"]["command"])
                if event.kind == "service" and not session.as_json:
                    report_progress(progress, event.data)
                elif session.as_json:
                    session.write_document({"kind": event.kind, **event.data})
    except KeyboardInterrupt:
        return ExitCode.OK
    followed = client.get(f"/v1/jobs/{job}") if job is not None else None
    if not session.as_json:
        if seen or followed is not None:
            _show_result(session, client, before, followed, work)
        else:
            session.add_line(LazyText(N_("No operation in progress")))
            _show_next_upgrade(session, client)
        session.write_output({})
    return _parse_job_result(followed).exit_code if _has_ended(followed) else ExitCode.OK


def _has_ended(job: JsonDocument | None) -> TypeGuard[JsonDocument]:
    """Return whether a job has ended with a result."""
    return job is not None and job["ended_at"] is not None and job["result"] is not None


def _parse_job_result(job: JsonDocument) -> CommandResult:
    return parse_job_result(job["id"], job["result"])


def _show_next_upgrade(session: AgentSession, client: SiteServiceClient) -> None:
    """Show the next upgrade and its start, since there is nothing to follow yet."""
    next_upgrade = client.get("/v1/next-upgrade")
    running = client.get("/v1/status")["running"].get("version")
    # Until the service has assessed the site again, this may be the upgrade that just ended.
    if next_upgrade["hops"] and next_upgrade["hops"][-1] != running:
        following = {"version": format_upgrade_path(next_upgrade["hops"])}
        session.add_line(LazyText(N_("Next upgrade: {version}"), following))
        show_next_start(session, next_upgrade["starts_at"])


#: Commands whose result is a change; other commands have a result of their own.
_CHANGE_COMMANDS = frozenset({"upgrade", "rollback", "resume"})


def _show_result(
    session: AgentSession,
    client: SiteServiceClient,
    before: JsonDocument | None,
    job: JsonDocument | None,
    command: Sequence[str],
) -> None:
    """Show the result of the followed operation.

    Args:
        session: The session.
        client: Client of the service.
        before: The newest change when the user started watching.
        job: The job that was followed.
        command: The last command that the service ran.
    """
    now = _find_newest_change(client)
    if job is not None:
        command = [job["kind"]]
    if now is not None and now != before and (not command or command[0] in _CHANGE_COMMANDS):
        show_last_change(session, now)
    elif _has_ended(job):
        answer = _parse_job_result(job)
        for line in answer.lines:
            session.add_line(line)
        if answer.error is not None:
            session.add_line(answer.error.title_text)
    elif command:
        text = N_("Finished: {what}. Run: ncen-updater status")
        session.add_line(LazyText(text, {"what": label_operation(command[0])}))


def _find_job(client: SiteServiceClient, job: int | None) -> int | None:
    """Return the job to follow: the requested one, or the oldest unfinished one.

    Raises:
        JOB_UNKNOWN: If there is no job with that number.
    """
    if job is not None:
        try:
            client.get(f"/v1/jobs/{job}")
        except UpdaterError as error:
            if error.code != API_PATH_UNKNOWN.code:
                raise
            raise UpdaterError(JOB_UNKNOWN, job=job, state=NOTHING_CHANGED) from error
        return job
    waiting = [row for row in client.get("/v1/jobs")["jobs"] if row["ended_at"] is None]
    return min((row["id"] for row in waiting), default=None)


def _find_newest_change(client: SiteServiceClient) -> JsonDocument | None:
    """Return the last started change."""
    return next(iter(client.get("/v1/history?limit=1")["changes"]), None)


def _follow_events(
    client: SiteServiceClient, job: int | None, report_away: Callable[[], None]
) -> Iterator[StreamEvent]:
    """Yield events until the current operation or a job has ended."""
    if job is not None:
        row = client.get(f"/v1/jobs/{job}")
        ended, after = row["ended_at"] is not None, row["event"]
    else:
        ended, after = client.get("/v1/status")["service"]["running"] is None, None
    if ended:
        return
    for event in client.stream(after, report_away):
        yield event
        is_over = (
            event.kind == "job-ended" and event.data["data"].get("job") == job
            if job is not None
            else event.kind == "service" and event.data["running"] is None
        )
        if is_over:
            return
