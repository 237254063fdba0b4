"""Page *Activity*: the current operation step by step, with times, and whether users can work.

The page of a job shows that job and the change that it started, never another one. Without a job
number, the page shows the newest change or job. The server renders the whole page; a script reloads
it and replaces the parts that differ. All browsers show the same, since the data comes from the
journal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ncen_updater.common.cli.render import format_amount, format_duration
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.labels import (
    explain_code,
    format_predicted_downtime,
    get_step_label,
)
from ncen_updater.common.messages import SOAK_FAILED
from ncen_updater.common.progress import ProgressUpdate
from ncen_updater.console.page_request import PageContent, PageRequest
from ncen_updater.console.rendering import JOB_KINDS, FileResponse, describe_job, parse_time
from ncen_updater.console.service_client import Document

#: Maximum age of a cached status while users can work, and while they cannot.
KEEP_S, BUSY_KEEP_S = 30.0, 3.0
#: Event times have whole seconds: an event in the same second as a status may be newer than it.
TIMES_OF = timedelta(seconds=1)
#: Jobs that start or resume a change; number of recent jobs searched for one.
CHANGING, JOBS = frozenset({"upgrade", "rollback", "resume"}), 10
#: Jobs whose result is shown on the page *Upgrade*, in each reader's language.
REPORTED = frozenset({"prepare", "rehearse"})
STEP_STATES: Mapping[str, tuple[str, str]] = {
    "done": ("done", N_("done")),
    "intended": ("now", N_("running")),
    "undoing": ("now", N_("reverting")),
    "undone": ("undone", N_("reverted")),
    "failed": ("failed", N_("failed")),
}
#: Tone and label of a change by its state.
STATES: Mapping[str, tuple[str, str]] = {
    "running": ("wait", N_("In progress")),
    "reverting": ("bad", N_("reverting")),
    "committed": ("good", N_("soak period")),
    "finished": ("good", N_("Completed")),
    "reverted": ("bad", N_("Failed")),
    "stuck": ("bad", N_("Action required")),
    "interrupted": ("bad", N_("Interrupted")),
}
UPGRADE_HEADLINES: Mapping[str, str] = {
    "running": N_("Upgrading to {version}"),
    "reverting": N_("Upgrade to {version} failed; reverting to {previous}"),
    "committed": N_("Upgraded to {version}"),
    "finished": N_("Upgraded to {version}"),
    "reverted": N_("Upgrade to {version} failed; {previous} is back in use"),
    "stuck": N_("Manual intervention required: {kind} to {version}"),
}
ROLLBACK_HEADLINES: Mapping[str, str] = {
    "running": N_("Rolling back to {version}"),
    "reverting": N_("Rollback to {version} failed; reverting to {previous}"),
    "committed": N_("Rolled back to {version}"),
    "finished": N_("Rolled back to {version}"),
    "reverted": N_("Rollback to {version} failed; {previous} is back in use"),
    "stuck": N_("Manual intervention required: {kind} to {version}"),
}
#: The same for the automatic rollback of a release that failed in its soak period.
AUTOMATIC_HEADLINES: Mapping[str, str] = {
    "running": N_("{previous} failed in its soak period; rolling back to {version}"),
    "committed": N_("{previous} failed in its soak period; rolled back to {version}"),
    "finished": N_("{previous} failed in its soak period; rolled back to {version}"),
}
#: Headline for a release that had run its expand step before the downtime.
REVERTED_AFTER_EXPAND = N_(
    "Upgrade to {version} failed; {previous} is back in use; additions made before the downtime"
    " remain in the databases"
)
#: States of a change that failed.
FAILED = frozenset({"reverting", "reverted", "stuck"})
#: Whether users can work, by the availability of the application; otherwise they cannot.
USERS: Mapping[str, tuple[str, str]] = {
    "available": ("good", N_("Users can work")),
    "again": ("good", N_("Users can work again")),
    "maintenance": ("wait", N_("Users cannot work")),
    "unhealthy": ("bad", N_("The application is unhealthy")),
    "unknown": ("wait", N_("Unknown whether users can work")),
    "none": ("wait", N_("Not adopted")),
}
USERS_OUT: tuple[str, str] = ("bad", N_("Users cannot work"))


@dataclass(frozen=True)
class LiveStep:
    """One step of a change, as displayed."""

    name: str
    style: str
    state: str
    took: str


@dataclass(frozen=True)
class LiveView:
    """Values of the page, as displayed.

    Attributes:
        tone: ``good``, ``wait`` or ``bad``.
        label: The state in one or two words.
        headline: One sentence.
        brief: Title of the browser window: progress in percent and the current step.
        progress: Progress message; empty without a running operation.
        done: Completed amount, if known.
        total: Total amount, if known.
        spoken: Text for screen readers when the page changes: the current step.
        downtime: Duration of the downtime so far or in total; empty without downtime.
        predicted: Predicted downtime.
        again: Whether users can work again after a downtime.
        steps: Steps of the current or last change.
        change: ID of the change; empty without one.
        version: Target version.
        problem: Why the change failed, as an error document.
        lines: Output of the job.
        can_end_soak: Whether the soak period can be ended.
        can_roll_back: Whether the release in its soak period can be rolled back.
        busy: Whether an operation is running.
    """

    tone: str
    label: str
    headline: str
    brief: str
    progress: str
    done: int | None
    total: int | None
    spoken: str
    downtime: str
    predicted: str
    again: bool
    steps: tuple[LiveStep, ...]
    change: str
    version: str
    problem: Document | None
    lines: tuple[str, ...]
    can_end_soak: bool
    can_roll_back: bool
    busy: bool

    @property
    def failed_step(self) -> str:
        """Return the name of the failed step; empty without one."""
        return next((step.name for step in self.steps if step.style == "failed"), "")


def build_page(asking: PageRequest) -> PageContent | FileResponse:
    """Build the page of the current or last operation."""
    return _build(asking, None)


def build_job_page(asking: PageRequest) -> PageContent | FileResponse:
    """Build the page of one job."""
    return _build(asking, f"/v1/jobs/{asking.path_parameters['number']}")


def _build(asking: PageRequest, job_address: str | None) -> PageContent | FileResponse:
    """Build the page; the response is empty if the browser already shows this state."""
    asking.event_follower.start()
    number, activity, silent_s = asking.event_follower.get_activity()
    running = activity is not None and activity["running"] is not None
    seen = f"{number}-{int(asking.now.timestamp()) if running else 0}"
    if activity is not None and asking.query.get("seen") == seen:
        return FileResponse(b"", "text/plain")
    if job_address is not None:
        job: Document | None = asking.get_document(job_address)
        report = _read_change(asking, job["change"] if job is not None else None)
    else:
        report, job = _find_newest(asking)
    failed_upgrade = _read_change(asking, _find_failed_upgrade(report))
    status = read_recent_status(asking, report)
    activity = activity or status["service"]
    view = build_live_view(report, job, activity, asking.now, asking.language, failed_upgrade)
    return PageContent(
        "live",
        {
            "view": view,
            "seen": seen,
            "silent": round(silent_s),
            "job": job,
            "kind": JOB_KINDS.get(job["kind"], job["kind"]) if job is not None else "",
            "users": describe_users(status, view),
            "open_change": status["journal"].get("open_change") or {},
            "operates": "operate" in status["you"]["roles"],
            "status": status,
        },
        "ready" if report is not None or job is not None or view.busy else "empty",
        refresh_s=3 if view.busy else 15 if job_address is None else 0,
    )


def _read_change(asking: PageRequest, change_id: str | None) -> Document | None:
    return asking.get_document(f"/v1/history/{change_id}") if change_id is not None else None


def _find_failed_upgrade(report: Document | None) -> str | None:
    """Return the ID of the upgrade that an automatic rollback undoes; None otherwise."""
    found: str | None = (report or {}).get("facts", {}).get("failed_soak_upgrade")
    return found


def _find_newest(asking: PageRequest) -> tuple[Document | None, Document | None]:
    """Return the newest change and its job, or only the job if it is newer and has no change."""
    changes = asking.get_document("/v1/history?limit=1")["changes"]
    report = _read_change(asking, changes[0]["id"] if changes else None)
    jobs = asking.get_document(f"/v1/jobs?limit={JOBS}")["jobs"]
    number = next((one["id"] for one in jobs if one["kind"] in CHANGING), None)
    job = asking.get_document(f"/v1/jobs/{number}") if number is not None else None
    return choose_newest(report, job)


def choose_newest(
    report: Document | None, job: Document | None
) -> tuple[Document | None, Document | None]:
    """Return the change and its job, or only the newer of the two. Pure."""
    if report is None or job is None or job["change"] == report["id"]:
        return report, job
    if report["ended_at"] is None or job["change"] is not None:
        return report, None  # the job waits for the change to end, or belongs to an earlier one
    newer = parse_time(job["at"]) > parse_time(report["ended_at"])
    return (None, job) if job["ended_at"] is None or newer else (report, None)


def read_recent_status(asking: PageRequest, report: Document | None) -> Document:
    """Return the status of the site, cached until it is too old or the change has a newer event.

    For each status the service queries the application, which is too costly every second of a
    downtime.
    """
    known = asking.service.get_last_status()
    newest = report["events"][-1:] if report is not None else ()
    if known is not None and all(parse_time(e["at"]) + TIMES_OF <= known.at for e in newest):
        available = (known.status["running"].get("availability") or {}).get("state") == "available"
        if (asking.now - known.at).total_seconds() < (KEEP_S if available else BUSY_KEEP_S):
            return known.status
    return asking.get_status()


def describe_users(status: Document, view: LiveView) -> tuple[str, str]:
    """Return a tone and a sentence on whether users can work. Pure."""
    running = status["running"]
    if running.get("version") is None:
        return USERS["unknown" if "error" in running else "none"]
    state = str((running.get("availability") or {"state": "unknown"})["state"])
    if state == "available" and view.again:
        state = "again"
    return USERS.get(state, USERS_OUT)


def build_live_view(
    report: Document | None,
    job: Document | None,
    activity: Document,
    now: datetime,
    language: str,
    failed_upgrade: Document | None = None,
) -> LiveView:
    """Build the values of the page. Pure.

    Args:
        report: The change; None without one.
        job: The job that started the change, or has no change; None without a job.
        activity: Current state of the service.
        now: The current time.
        language: Language of the texts.
        failed_upgrade: The upgrade that failed in its soak period, if the change is its rollback.
    """

    def say(template: str, **values: object) -> str:
        return LazyText(template, values).render(language)

    running = activity["running"]
    job_open = job is not None and job["ended_at"] is None
    open_change = report is not None and report["ended_at"] is None
    if job is not None and (not job_open or not _is_of(running, job)):
        running = None  # the running operation does not belong to this job
    elif job is None and running and not open_change:
        report = None  # the last change has ended; the running operation is another one
    steps = tuple(build_steps(report, now, language)) if report is not None else ()
    progress = ProgressUpdate.from_json((running or {}).get("progress"))
    progress_text = _format_progress(running, progress, language)
    lines: tuple[str, ...] = ()
    problem = None
    if report is not None:
        state = get_shown_state(report)
        is_failure = state == "finished" and failed_upgrade is not None
        tone, label = STATES.get("reverted" if is_failure else state, STATES["running"])
        headline = choose_headline(report).render(language)
        problem = find_problem(failed_upgrade or report, job, language)
        interruption = report.get("interruption")
        if interruption and problem is None and report["state"] in FAILED:
            name = get_step_label(interruption["step"], report.get("kind", "upgrade"))
            lines = (say(N_("Interrupted during: {step}"), step=LazyText(name)),)
    elif job is not None:
        tone, label, problem = describe_job(job)
        numbered = LazyText(N_("Job {number}"), {"number": job["id"]})
        headline = say(N_("{name}: {text}"), name=numbered, text=_format_kind(job))
        if job["kind"] not in REPORTED:
            lines = tuple(
                map(str, ((job["result"] or {}).get("document") or {}).get("lines") or ())
            )
    elif running is not None:
        tone, label = "wait", N_("In progress")
        headline = say(N_("Operation in progress"))
    else:
        tone, label, headline = "good", N_("Idle"), say(N_("No operation in progress"))
    template = N_("{name}: {text}")
    # The headline of a change already states its state.
    summary = say(template, name=LazyText(label), text=headline) if report is None else headline
    current = next((step for step in steps if open_change and step.style == "now"), None)
    clock, predicted = _format_downtime(report, now, language) if report is not None else ("", "")
    amount = progress.amount if progress else None
    percent = f"{100 * amount.done // amount.total} % " if amount and amount.total else ""
    return LiveView(
        tone=tone,
        label=say(label),
        headline=headline,
        brief=percent + (current.name if current else progress_text or summary),
        progress=progress_text,
        done=amount.done if amount else None,
        total=amount.total if amount else None,
        spoken=say(template, name=current.name, text=current.state) if current else summary,
        downtime=clock,
        predicted=predicted,
        again=report is not None and _are_users_back(report),
        steps=steps,
        change=report["id"] if report is not None else "",
        version=report["to"] if report is not None else "",
        problem=problem,
        lines=lines,
        can_end_soak=report is not None and get_shown_state(report) == "committed",
        can_roll_back=report is not None and report.get("kind") != "rollback",
        busy=running is not None or job_open or (report is not None and open_change),
    )


def _is_of(running: Document | None, job: Document) -> bool:
    """Return whether the running operation belongs to a job: only one job runs at a time."""
    return (
        running is not None
        and job["started_at"] is not None
        and parse_time(running["since"]) >= parse_time(job["started_at"])
    )


def _format_kind(job: Document) -> LazyText:
    kind = LazyText(JOB_KINDS.get(job["kind"], job["kind"]))
    version = job["data"].get("version")
    if not version:
        return kind
    words = N_("{kind} of {version}") if job["kind"] in REPORTED else N_("{kind} to {version}")
    return LazyText(words, {"kind": kind, "version": version})


def get_shown_state(report: Document) -> str:
    """Return the state to display: no soak period before the maintenance page is off. Pure."""
    state = str(report["state"])
    maintenance_ended = any(
        s["name"] == "maintenance-off" and s["state"] == "done" for s in report["steps"]
    )
    return "running" if state == "committed" and not maintenance_ended else state


def choose_headline(report: Document) -> LazyText:
    """Return the headline of a change. Pure."""
    state, kind = get_shown_state(report), report.get("kind", "upgrade")
    headlines = ROLLBACK_HEADLINES if kind == "rollback" else UPGRADE_HEADLINES
    words = headlines.get(state, headlines["running"])
    if state == "reverted" and report.get("expand_started"):
        words = REVERTED_AFTER_EXPAND
    elif _find_failed_upgrade(report):
        words = AUTOMATIC_HEADLINES.get(state, words)
    values = {"version": report["to"], "previous": report["from"], "kind": LazyText(kind)}
    return LazyText(words, values)


def find_problem(report: Document, job: Document | None, language: str) -> Document | None:
    """Return why a change failed, as an error document with a remedy; None if it did not fail.

    The result of an ended job has the complete error; otherwise the error is built from the
    journal.
    """
    failure = report.get("failure") or {}
    facts = report.get("facts", {})
    soak_error = facts.get("soak_error") if not facts.get("confirmed_by") else None
    code = str(failure.get("code") or report.get("error_code") or "")
    if soak_error:
        code = SOAK_FAILED.code
    elif report["state"] not in FAILED or not code:
        return None
    job_error = (((job or {}).get("result") or {}).get("document") or {}).get("error") or {}
    if job_error.get("code") == code:
        return job_error
    meaning = explain_code(code)
    text = str(failure.get("error") or soak_error or "").split("\n", 1)[0]
    title = (
        LazyText("{said}", {"said": text}) if text else meaning[0] if meaning else LazyText(code)
    )
    remedy = meaning[1].render(language) if meaning else "-"
    return {
        "code": code, "title": title.render(language), "remedy": remedy, "state": "", "detail": "",
    }  # fmt: skip


def _format_progress(
    running: Document | None, reported: ProgressUpdate | None, language: str
) -> str:
    if running is None:
        return ""
    if reported is None or not reported.template:
        return str(running.get("title") or running["command"][0])
    text = reported.text.render(language)
    if reported.amount is None:
        return text
    return f"{text}, {format_amount(reported.amount).render(language)}"


def build_steps(report: Document, now: datetime, language: str) -> Iterator[LiveStep]:
    """Yield the steps of a change, as displayed. Pure."""
    failed = (report.get("failure") or {}).get("step") if report["state"] in FAILED else None
    for step in report["steps"]:
        state = "failed" if step["name"] == failed and step["state"] != "done" else step["state"]
        style, label = STEP_STATES.get(state, ("", state))
        name = get_step_label(step["name"], report.get("kind", "upgrade"))
        seconds = step["seconds"]
        if style == "now":
            seconds = max(0.0, (now - parse_time(step["started_at"])).total_seconds())
        duration = "" if seconds is None else format_duration(seconds).render(language)
        yield LiveStep(
            LazyText(name).render(language), style, LazyText(label).render(language), duration
        )


def _are_users_back(report: Document) -> bool:
    """Return whether a change had a downtime and users can work again."""
    had_maintenance = any(s["name"] == "maintenance-on" for s in report["steps"])
    maintenance_ended = any(
        s["name"] == "maintenance-off" and s["state"] == "done" for s in report["steps"]
    )
    return report["downtime_s"] is not None or (
        had_maintenance and (maintenance_ended or report["ended_at"] is not None)
    )


def _format_downtime(report: Document, now: datetime, language: str) -> tuple[str, str]:
    """Return the duration of the downtime so far or in total, and the predicted duration."""
    maintenance_step = next(
        (step for step in report["steps"] if step["name"] == "maintenance-on"), None
    )
    prediction = report.get("predicted_downtime_s")
    predicted = ""
    if prediction is not None:
        text = format_predicted_downtime(prediction["likely"], prediction["high"])
        predicted = text.render(language)
    if report["downtime_s"] is not None:
        return format_duration(report["downtime_s"]).render(language), predicted
    if maintenance_step is None or maintenance_step["state"] == "undone" or _are_users_back(report):
        return "", predicted
    seconds = max(0.0, (now - parse_time(maintenance_step["started_at"])).total_seconds())
    return format_duration(round(seconds)).render(language), predicted
