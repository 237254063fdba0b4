"""*Live*: what goes on, step by step, with its time; and the stop against what was predicted.

Everything is made here, in words: a browser puts them into the page as they come, and one without
scripts loads the page again. Every browser shows the same, since it comes from the journal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from ncen_updater.common.cli.render import amount, format_duration, without_unit
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Figure, Text
from ncen_updater.common.progress import ProgressUpdate
from ncen_updater.common.step_words import step_name
from ncen_updater.console.asking import Asking, ShownPage
from ncen_updater.console.login import LoginGone
from ncen_updater.console.rendering import moment_of
from ncen_updater.console.service import Document, ServiceRefusal

__all__ = ["LiveView", "live_messages", "live_view", "page"]

#: A page is told at least so often while something goes on, and while nothing does.
BUSY_S, IDLE_S = 1.0, 10.0
LOST = N_("The line to the console is lost. What is shown is what was last known.")
AWAY = N_("The service of this site does not answer. What is shown is what was last known.")
OUT, WERE_OUT = N_("How long officers are out"), N_("How long officers were out")
STATES: Mapping[str, tuple[str, str]] = {
    "done": ("done", N_("done")),
    "intended": ("now", N_("goes on")),
    "undoing": ("now", N_("is taken back")),
    "undone": ("undone", N_("taken back")),
}
HEADLINES: Mapping[str, tuple[str, str]] = {
    "running": ("wait", N_("The change to {version} goes on.")),
    "undoing": ("bad", N_("The change to {version} is taken back; everything will be as before.")),
    "committed": ("good", N_("{version} is in use. It is being watched.")),
    "finished": ("good", N_("The change to {version} is done.")),
    "undone": ("bad", N_("The change to {version} was taken back; everything is as before.")),
    "stuck": ("bad", N_("The change to {version} is stuck: a person has to look.")),
}
#: Of a release whose program had worked on the databases before the stop.
WHAT_STAYS: Mapping[str, tuple[str, str]] = {
    "undoing": ("bad", N_("The change to {version} is taken back.")),
    "undone": (
        "bad",
        N_(
            "The change to {version} was taken back; what its program added to the databases before"
            " the stop stays, all else is as before."
        ),
    ),
}


@dataclass(frozen=True)
class LiveStep:
    """A step, in words."""

    name: str
    look: str
    state: str
    took: str


@dataclass(frozen=True)
class LiveView:
    """What the page shows, in words.

    Attributes:
        tone: ``good``, ``wait`` or ``bad``.
        headline: One sentence.
        now: What the work says of itself; empty where nothing goes on.
        done: How much of it, where that is known.
        total: Of how much.
        alive: When the service gave a sign of life.
        out: What the clock shows: how long officers are out, or were.
        clock: How long that is; empty where they were not out.
        predicted: What was predicted of that.
        steps: Of the change that goes on, or went last.
        change: Its id; empty without.
        watched: Whether its watched time can be ended.
        busy: Whether anything goes on.
    """

    tone: str
    headline: str
    now: str
    done: int | None
    total: int | None
    alive: str
    out: str
    clock: str
    predicted: str
    steps: tuple[LiveStep, ...]
    change: str
    watched: bool
    busy: bool


def page(asking: Asking) -> ShownPage:
    """What goes on."""
    status = asking.status()
    asking.following.start()
    view = _look(asking)
    return ShownPage(
        "live",
        {
            "view": view,
            "lost": Text(LOST),
            "may": asking.may("operate") if view.watched else None,
            "status": status,
        },
        "ready" if view.change or view.busy else "empty",
        again_s=3 if view.busy else 15,
    )


def live_messages(asking: Asking) -> Iterator[bytes]:
    """Yield what the page shows, whenever that changes, as server-sent events.

    Raises:
        LoginGone: If nobody asks for this person any more.
    """
    following = asking.following
    following.start()
    seen, last = -1, b""
    yield b"retry: 1000\n\n"
    while not following.ended:
        try:
            view = _look(asking)
            kind, busy, content = b"live", view.busy, json.dumps(view, default=vars).encode()
        except LoginGone:
            raise
        except (UpdaterError, ServiceRefusal):
            text = Text(AWAY).render(asking.language)
            kind, busy, content = b"away", True, json.dumps(text).encode()
        if content == last:
            kind, content = b"alive", b"0"
        else:
            last = content
        yield b"event: " + kind + b"\ndata: " + content + b"\n\n"
        seen = following.wait(seen, BUSY_S if busy else IDLE_S)


def _look(asking: Asking) -> LiveView:
    changes = asking.get("/v1/history?limit=1")["changes"]
    report = asking.get(f"/v1/history/{changes[0]['id']}") if changes else None
    moment, _, silent = asking.following.moment()
    if moment is None:
        moment = asking.status()["service"]
    return live_view(report, moment, silent, asking.now, asking.language)


def live_view(
    report: Document | None, moment: Document, silent_s: float, now: datetime, language: str
) -> LiveView:
    """Say what goes on; pure.

    Args:
        report: The change that was begun last; None where there was none.
        moment: What the service does.
        silent_s: So long ago it gave a sign of life.
        now: The time.
        language: Of the words.
    """

    def say(template: str, **values: object) -> str:
        return Text(template, values).render(language)

    running = moment["running"]
    told = ProgressUpdate.from_json((running or {}).get("progress"))
    open_change = report is not None and report["ended_at"] is None
    tone, headline = "good", say(N_("Nothing goes on just now."))
    if report is not None and (open_change or running is None):
        headlines = {**HEADLINES, **(WHAT_STAYS if report.get("expanded") else {})}
        tone, words = headlines.get(
            report["state"], ("wait", N_("The change to {version} goes on."))
        )
        headline = say(words, version=report["to"])
    elif running is not None:
        tone, headline = "wait", say(N_("The service is at work; officers go on working."))
    steps = tuple(_steps(report, now, language)) if report is not None else ()
    watched = open_change and report is not None and report["state"] == "committed"
    clock, predicted = _clock(report, now, language) if report is not None else ("", "")
    return LiveView(
        tone=tone,
        headline=headline,
        now=_work(running, told, language),
        done=told.done if told else None,
        total=told.total if told else None,
        alive=_alive(silent_s, language),
        out=say(OUT if report is None or report["stop_s"] is None else WERE_OUT),
        clock=clock,
        predicted=predicted,
        steps=steps,
        change=report["id"] if report is not None else "",
        watched=watched,
        busy=running is not None or open_change,
    )


def _alive(silent_s: float, language: str) -> str:
    seconds = round(silent_s)
    if not seconds:
        return Text(N_("Last sign of life just now.")).render(language)
    ago = format_duration(seconds)
    return Text(N_("Last sign of life {ago} ago."), {"ago": ago}).render(language)


def _work(running: Document | None, told: ProgressUpdate | None, language: str) -> str:
    if running is None:
        return ""
    if told is None or not told.template:
        return str(running.get("what") or running["words"][0])
    said = without_unit(told.text.render(language))
    if told.done is None or not told.total:
        return said
    values = {
        "what": Figure(said, **{language: said}), "done": amount(told.text, told.done),
        "total": amount(told.text, told.total),
    }  # fmt: skip
    return Text(N_("{what}, {done} of {total}"), values).render(language)


def _steps(report: Document, now: datetime, language: str) -> Iterator[LiveStep]:
    for step in report["steps"]:
        look, words = STATES.get(step["state"], ("", step["state"]))
        name = step_name(step["name"], report.get("kind", "upgrade"))
        seconds = step["seconds"]
        if look == "now":
            seconds = max(0.0, (now - moment_of(step["started_at"])).total_seconds())
        took = "" if seconds is None else format_duration(seconds).render(language)
        yield LiveStep(Text(name).render(language), look, Text(words).render(language), took)


def _clock(report: Document, now: datetime, language: str) -> tuple[str, str]:
    """Say how long officers have been out, and what was predicted of it."""
    closed = next((step for step in report["steps"] if step["name"] == "close"), None)
    foretold = report.get("predicted_stop_s")
    predicted = ""
    if foretold is not None:
        values = {name: format_duration(foretold[name]) for name in ("low", "high")}
        predicted = Text(N_("{low} to {high} were predicted"), values).render(language)
    if report["stop_s"] is not None:
        return format_duration(report["stop_s"]).render(language), predicted
    if closed is None or closed["state"] == "undone" or report["ended_at"] is not None:
        return "", predicted
    opened = any(s["name"] == "open" and s["state"] == "done" for s in report["steps"])
    if opened:
        return "", predicted
    out = max(0.0, (now - moment_of(closed["started_at"])).total_seconds())
    return format_duration(round(out)).render(language), predicted
