"""Progress of jobs: the current work of the service, what a job waits for, and its result."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING

from ncen_updater.agent.policy.operation_labels import label_operation
from ncen_updater.agent.service.errors import parse_error_document
from ncen_updater.common.cli.render import format_time
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import JOB_INTERRUPTED, ExitCode
from ncen_updater.common.progress import Amount, ProgressListener, ProgressUpdate

if TYPE_CHECKING:
    from ncen_updater.agent.reports.command_results import CommandResult, JsonDocument


def parse_job_result(number: int, result: object) -> CommandResult:
    """Return the result of a job.

    Raises:
        JOB_INTERRUPTED: If the service or its worker was killed during the job.
    """
    from ncen_updater.agent.reports.command_results import CommandResult  # not for 'status'

    document = result.get("document") if isinstance(result, dict) else None
    if not isinstance(result, dict) or result.get("exit_code") is None or not document:
        raise UpdaterError(JOB_INTERRUPTED, job=number)
    known = frozenset(ExitCode)
    code = ExitCode(result["exit_code"]) if result["exit_code"] in known else ExitCode.ERROR
    error = document.get("error")
    return CommandResult(
        {key: value for key, value in document.items() if key != "lines"},
        [str(line) for line in document.get("lines", ())],
        code,
        parse_error_document({**error, "exit_code": int(code)})
        if isinstance(error, dict)
        else None,
    )


def has_started(service_state: JsonDocument, requested_at: str) -> bool:
    """Return whether the service's current operation started after a job was requested. Pure."""
    running = service_state.get("running")
    if running is None:
        return False
    return datetime.fromisoformat(running["since"]) >= datetime.fromisoformat(requested_at)


def describe_job_wait(status: JsonDocument, zone: tzinfo | None) -> LazyText | None:
    """Return what a queued job waits for; None if no operation is running. Pure.

    Args:
        status: The document of ``status``.
        zone: Time zone of the site.
    """
    journal, running = status["journal"], status.get("service", {}).get("running")
    change, holder = journal.get("open_change") or {}, journal.get("lock_holder")
    until = change.get("soak_ends_at")
    if until is not None:
        template = N_(
            "waiting for the soak period of {version}, until {until}. To end it now, run: "
            "ncen-updater confirm"
        )
        at = format_time(datetime.fromisoformat(until), zone)
        return LazyText(template, {"version": change["to"], "until": at})
    if running is None and holder is None:
        return None
    name = running["command"][0] if running else str(holder).partition(", process ")[0]
    template = N_("waiting for: {what}")
    return LazyText(template, {"what": label_operation(str(name))})


def report_progress(progress: ProgressListener, service_state: JsonDocument) -> None:
    """Report the current work of the service."""
    for what, amount in describe_current_work(service_state):
        progress.report(what, amount)


def report_service_away(progress: ProgressListener) -> None:
    """Report that the command waits for the service, in place of the last step."""
    progress.report(LazyText(N_("waiting for the service")))


def describe_current_work(
    service_state: JsonDocument,
) -> Iterator[tuple[LazyText, Amount | None]]:
    """Yield the current work of the service with its amounts, or why it waits."""
    running = service_state.get("running")
    if running is None:
        if service_state.get("reason"):
            yield LazyText("{why}", {"why": service_state["reason"]}), None
        return
    progress = ProgressUpdate.from_json(running.get("progress"))
    if progress is None:
        yield label_operation(str(running["command"][0])), None
    else:
        yield progress.text, progress.amount
