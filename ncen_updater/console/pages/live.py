"""*Live*: what goes on, step by step, with its time; and the stop against what was predicted.

Until the change of an order begins, the order is what goes on, and never the change of before. The
page is made whole here, and loaded again by a script, which puts in place what is different.
Every browser shows the same, since it comes from the journal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from ncen_updater.common.cli.render import format_amount, format_duration, strip_unit
from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure
from ncen_updater.common.labels import explain_code, get_step_label
from ncen_updater.common.progress import ProgressUpdate
from ncen_updater.console.page_request import PageContent, PageRequest
from ncen_updater.console.pages.jobs import JOB_KINDS, describe_job_result
from ncen_updater.console.pages.status import build_headline
from ncen_updater.console.rendering import FileResponse, parse_time
from ncen_updater.console.service_client import Document

#: How the site is is kept so long while users can work, and while they cannot.
KEEP_S, BUSY_KEEP_S = 30.0, 3.0
#: Orders that come to a change, looked for among so many.
CHANGING, ORDERS = frozenset({"upgrade", "rollback", "resume"}), 10
STEP_STATES: Mapping[str, tuple[str, str]] = {
    "done": ("done", N_("done")),
    "intended": ("now", N_("running")),
    "undoing": ("now", N_("reverting")),
    "undone": ("undone", N_("reverted")),
    "failed": ("failed", N_("failed")),
}
HEADLINES: Mapping[str, tuple[str, str]] = {
    "running": ("wait", N_("In progress: change to {version}")),
    "reverting": (
        "bad",
        N_("Reverting: change to {version}"),
    ),
    "committed": ("good", N_("Soak period: {version}")),
    "finished": ("good", N_("Completed: change to {version}")),
    "reverted": ("bad", N_("Reverted: change to {version}")),
    "stuck": ("bad", N_("Manual intervention required: change to {version}")),
}
#: States of a change that failed.
FAILED = frozenset({"reverting", "reverted", "stuck"})
#: Of a release whose program had worked on the databases before the stop.
HEADLINES_AFTER_EXPAND: Mapping[str, tuple[str, str]] = {
    "reverted": (
        "bad",
        N_(
            "Reverted: change to {version}; additions made before the downtime remain in the"
            " databases"
        ),
    ),
}


@dataclass(frozen=True)
class LiveStep:
    """A step, in words."""

    name: str
    style: str
    state: str
    took: str


@dataclass(frozen=True)
class LiveView:
    """What the page shows, in words.

    Attributes:
        tone: ``good``, ``wait`` or ``bad``.
        headline: One sentence.
        progress: What the work says of itself; empty where nothing goes on.
        done: How much of it, where that is known.
        total: Of how much.
        spoken: What is read out where it changes: the step that goes on.
        downtime: How long users are out, or were; empty where they were not.
        predicted: What was predicted of that.
        steps: Of the change that goes on, or went last.
        change: Its id; empty without.
        problem: Why it failed, as an error has it.
        order: Whether an order is what it is about, since no change of it has begun.
        can_end_soak: Whether its watched time can be ended.
        busy: Whether anything goes on.
    """

    tone: str
    headline: str
    progress: str
    done: int | None
    total: int | None
    spoken: str
    downtime: str
    predicted: str
    steps: tuple[LiveStep, ...]
    change: str
    problem: Document | None
    order: bool
    can_end_soak: bool
    busy: bool


def build_page(asking: PageRequest) -> PageContent | FileResponse:
    """Build the live page; the answer is empty if the browser already shows this state."""
    asking.event_follower.start()
    number, moment, silent = asking.event_follower.get_activity()
    running = moment is not None and moment["running"] is not None
    seen = f"{number}-{int(asking.now.timestamp()) if running else 0}"
    if moment is not None and asking.query.get("seen") == seen:
        return FileResponse(b"", "text/plain")
    changes = asking.get_document("/v1/history?limit=1")["changes"]
    report = asking.get_document(f"/v1/history/{changes[0]['id']}") if changes else None
    orders = asking.get_document(f"/v1/jobs?limit={ORDERS}")["jobs"]
    order = next((one for one in orders if one["kind"] in CHANGING), None)
    if order is not None and order["ended_at"] is not None:
        order = asking.get_document(f"/v1/jobs/{order['id']}")
    status = _status(asking, report)
    moment = moment or status["service"]
    view = build_live_view(report, order, moment, asking.now, asking.language)
    sentence, tone = build_headline(status)
    return PageContent(
        "live",
        {
            "view": view,
            "seen": seen,
            "silent": round(silent),
            "order": order if view.order else None,
            "kind": JOB_KINDS.get(order["kind"]) if order is not None else "",
            "availability": sentence,
            "availability_tone": tone,
            "may": asking.find_missing_role("operate") if view.can_end_soak else None,
            "status": status,
        },
        "ready" if view.change or view.busy else "empty",
        refresh_s=3 if view.busy else 15,
    )


def _status(asking: PageRequest, report: Document | None) -> Document:
    """Return how the site is; asked anew after a while, and whenever the change has gone on.

    To ask has the service ask the application, which is too much for each second of a stop.
    """
    known = asking.service.get_last_status()
    newest = report["events"][-1:] if report is not None else ()
    if known is not None and all(parse_time(event["at"]) < known.at for event in newest):
        works = (known.status["running"].get("availability") or {}).get("state") == "available"
        if (asking.now - known.at).total_seconds() < (KEEP_S if works else BUSY_KEEP_S):
            return known.status
    return asking.get_status()


def build_live_view(
    report: Document | None, order: Document | None, moment: Document, now: datetime, language: str
) -> LiveView:
    """Say what goes on; pure.

    Args:
        report: The change that was begun last; None where there was none.
        order: The order for one that was given last.
        moment: What the service does.
        now: The time.
        language: Of the words.
    """

    def say(template: str, **values: object) -> str:
        return LazyText(template, values).render(language)

    running = moment["running"]
    progress = ProgressUpdate.from_json((running or {}).get("progress"))
    open_change = report is not None and report["ended_at"] is None
    if order is not None and not _is_newer(order, report):
        order = None
    if report is not None and not open_change and (order or running):
        report = None  # what is past is no answer to what was ordered
    tone, headline, problem = "good", say(N_("No operation in progress")), None
    if report is not None:
        headlines = {
            **HEADLINES,
            **(HEADLINES_AFTER_EXPAND if report.get("expand_started") else {}),
        }
        tone, words = headlines.get(
            report["state"], ("wait", N_("In progress: change to {version}"))
        )
        headline, problem = say(words, version=report["to"]), _problem(report, language)
    elif order is not None:
        tone, words, problem = describe_job_result(order)
        headline = say(words)
    elif running is not None:
        tone, headline = "wait", say(N_("Operation in progress; users can work"))
    steps = tuple(_build_steps(report, now, language)) if report is not None else ()
    watched = open_change and report is not None and report["state"] == "committed"
    clock, predicted = _format_downtime(report, now, language) if report is not None else ("", "")
    return LiveView(
        tone=tone,
        headline=headline,
        progress=_format_progress(running, progress, language),
        done=progress.done if progress else None,
        total=progress.total if progress else None,
        spoken=next(
            (f"{step.name}: {step.state}" for step in steps if step.style == "now"), headline
        ),
        downtime=clock,
        predicted=predicted,
        steps=steps,
        change=report["id"] if report is not None else "",
        problem=problem,
        order=order is not None and report is None,
        can_end_soak=watched,
        busy=running is not None or open_change or (order is not None and not order["ended_at"]),
    )


def _is_newer(order: Document, report: Document | None) -> bool:
    """Tell whether an order is of after a change."""
    ended = report["ended_at"] if report is not None else None
    return report is None or (ended is not None and parse_time(order["at"]) > parse_time(ended))


def _problem(report: Document, language: str) -> Document | None:
    """Say why a change failed: what was written down, and what to do about it."""
    failure = report.get("failure") or {}
    code = str(failure.get("code") or report.get("error_code") or "")
    meaning = explain_code(code)
    if report["state"] not in FAILED or not code:
        return None
    text = str(failure.get("error") or "").split("\n", 1)[0].removeprefix(f"{code}: ")
    what = LazyText("{said}", {"said": text}) if text else meaning[0] if meaning else LazyText(code)
    remedy = meaning[1].render(language) if meaning else "-"
    return {"code": code, "title": what.render(language), "remedy": remedy}


def _format_progress(
    running: Document | None, reported: ProgressUpdate | None, language: str
) -> str:
    if running is None:
        return ""
    if reported is None or not reported.template:
        return str(running.get("title") or running["command"][0])
    text = strip_unit(reported.text.render(language))
    if reported.done is None or not reported.total:
        return text
    values = {
        "what": LocalizedFigure(text, **{language: text}),
        "done": format_amount(reported.text, reported.done),
        "total": format_amount(reported.text, reported.total),
    }
    return LazyText(N_("{what}, {done} of {total}"), values).render(language)


def _build_steps(report: Document, now: datetime, language: str) -> Iterator[LiveStep]:
    failed = (report.get("failure") or {}).get("step") if report["state"] in FAILED else None
    for step in report["steps"]:
        state = "failed" if step["name"] == failed and step["state"] != "done" else step["state"]
        look, words = STEP_STATES.get(state, ("", state))
        name = get_step_label(step["name"], report.get("kind", "upgrade"))
        seconds = step["seconds"]
        if look == "now":
            seconds = max(0.0, (now - parse_time(step["started_at"])).total_seconds())
        took = "" if seconds is None else format_duration(seconds).render(language)
        yield LiveStep(
            LazyText(name).render(language), look, LazyText(words).render(language), took
        )


def _format_downtime(report: Document, now: datetime, language: str) -> tuple[str, str]:
    """Say how long users have been out, and what was predicted of it."""
    closed = next((step for step in report["steps"] if step["name"] == "maintenance-on"), None)
    foretold = report.get("predicted_downtime_s")
    predicted = ""
    if foretold is not None:
        values = {name: format_duration(foretold[name]) for name in ("low", "high")}
        predicted = LazyText(N_("predicted: {low} to {high}"), values).render(language)
    if report["downtime_s"] is not None:
        return format_duration(report["downtime_s"]).render(language), predicted
    if closed is None or closed["state"] == "undone" or report["ended_at"] is not None:
        return "", predicted
    opened = any(s["name"] == "maintenance-off" and s["state"] == "done" for s in report["steps"])
    if opened:
        return "", predicted
    out = max(0.0, (now - parse_time(closed["started_at"])).total_seconds())
    return format_duration(round(out)).render(language), predicted
