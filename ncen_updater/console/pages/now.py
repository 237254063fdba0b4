"""*Now*: one sentence, what waits for whom, and the one thing to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from ncen_updater.common.cli.render import format_time, sentence
from ncen_updater.common.holds import hold_words
from ncen_updater.common.i18n import N_, Text
from ncen_updater.console.asking import Asking, ShownPage
from ncen_updater.console.rendering import moment_of
from ncen_updater.console.service import Document, ServiceRefusal

#: States of a change in which a person has to do something.
STUCK = "stuck"
WATCHED_STEPS = frozenset({"soak", "collect"})
HEADLINES: Mapping[str, str] = {
    "works": N_("Officers can work on {product} {version}."),
    "maintenance": N_("Officers see the maintenance page."),
    "not-running": N_("Officers cannot work: the application does not run."),
    "not-working": N_("Officers are let in, but the application does not work."),
    "unknown": N_("Whether officers can work is not known."),
}
TONES = {"works": "good", "maintenance": "wait", "not-running": "bad", "not-working": "bad"}


@dataclass(frozen=True)
class Next:
    """What to do next.

    Attributes:
        deed: What it is: ``look``, ``approve``, ``order``, ``unhold``, ``confirm``; empty for
            nothing.
        words: Why.
        button: What stands on it.
        right: Who may do it.
        kind: Of an order.
        link: The page on which it is done.
    """

    deed: str
    words: Text
    button: Text
    right: str = "read"
    kind: str = ""
    link: str = ""


def page(asking: Asking) -> ShownPage:
    """How the site is."""
    status = asking.status()
    journal_broken = _error(status, "journal")
    outlook = None
    if journal_broken is None:
        try:
            outlook = asking.get("/v1/outlook")
        except ServiceRefusal:
            outlook = None  # what comes next cannot be told; how the site is can
    todo = next_deed(status, outlook)
    sentence, tone = headline(status)
    return ShownPage(
        "now",
        {
            "sentence": sentence,
            "tone": tone,
            "todo": todo,
            "may": asking.may(todo.right) if todo.deed and todo.right != "read" else None,
            "waits": list(waiting(status, outlook, asking.zone)),
            "status": status,
            "outlook": outlook,
            "errors": [
                error
                for error in (_error(status, name) for name in ("running", "journal", "feed"))
                if error is not None
            ],
            "wrong": _error(status, "configuration"),
        },
        state="empty" if not todo.deed else "ready",
    )


def hold_page(asking: Asking) -> ShownPage:
    """Forbid upgrades for a while."""
    return ShownPage("hold", {"status": asking.status(), "may": asking.may("operate")})


def _error(status: Document, name: str) -> Document | None:
    part = status.get(name)
    found = part.get("error") if isinstance(part, dict) else None
    return found if isinstance(found, dict) else None


def headline(status: Document) -> tuple[Text, str]:
    """Return how it is for officers, and its tone; pure."""
    running = status["running"]
    if "error" in running:
        return Text(N_("How the site is cannot be told.")), "bad"
    if running["version"] is None:
        values = {"product": status["product"]}
        return Text(N_("No release of {product} was ever chosen here."), values), "wait"
    names = {"product": status["product"], "version": running["version"]}
    seen = running.get("officers") or {"state": "unknown"}
    change = _open_change(status)
    if seen["state"] == "maintenance" and change is not None:
        names["version"] = change["to"]
        words = (
            N_("Officers are out: the site goes back to {product} {version}.")
            if change["kind"] == "rollback"
            else N_("Officers are out: {product} {version} is being put in.")
        )
        return Text(words, names), "wait"
    state = str(seen["state"])
    return Text(HEADLINES.get(state, HEADLINES["unknown"]), names), TONES.get(state, "wait")


def _open_change(status: Document) -> Document | None:
    journal = status["journal"]
    found: Document | None = None if "error" in journal else journal["open_change"]
    return found


def waiting(
    status: Document, outlook: Document | None, zone: tzinfo | None = None
) -> Iterator[Text]:
    """Say what waits, and for whom; pure."""
    journal = status["journal"]
    if "error" in journal:
        return
    for hold in journal["holds"]:
        yield hold_words(hold, zone)
    if journal.get("approvals_used_up"):
        values = {"who": ", ".join(journal["approvals_used_up"])}
        yield Text(
            N_(
                "An approval is for one try: before another one each who had approved ({who}) has"
                " to approve again."
            ),
            values,
        )
    if journal.get("rollback_approved"):
        yield from _back(journal["rollback_approved"])
    change = journal["open_change"]
    until = change.get("watched_until") if change is not None else None
    if change is not None and until is not None:
        values = {"version": change["to"], "until": format_time(moment_of(until), zone)}
        yield Text(N_("{version} is watched until {until}."), values)
    # What comes next is of before an open change, and nothing is approved beside it.
    if outlook is not None and outlook["target"] is not None and change is None:
        version = outlook["target"]
        for given in outlook["approvals"]:
            values = {"who": given["who"], "version": version}
            yield Text(N_("{who} has said yes to {version}."), values)
        if outlook["binding"] and outlook["missing"]:
            values = {"version": version, "count": outlook["missing"]}
            yield Text(N_("{version} needs {count} more approvals."), values)
    why = status["service"]["why"]
    if why:
        yield Text("{why}", {"why": sentence(str(why))})
    for failure in status["service"]["failures"]:
        values = {
            "what": failure.get("what") or failure["action"], "times": failure["times"],
            "code": failure["code"] or "-", "at": format_time(moment_of(failure["at"]), zone),
        }  # fmt: skip
        text = N_(
            "This failed (tries in a row: {times}, last {at}): {what} ({code}). "
            "The log of the service says why."
        )
        yield Text(text, values)


def _back(back: Document) -> Iterator[Text]:
    """Say who approved going back, and up to what loss."""
    for who in back["who"]:
        values = {"who": who, "version": back["version"]}
        yield Text(N_("{who} has said yes to going back to {version}."), values)
    if back["missing"]:
        yield Text(N_("Going back needs {count} more approvals."), {"count": back["missing"]})
    elif back["accept_loss"]:
        words = N_("Going back is approved; up to {count} records may be lost by it.")
        yield Text(words, {"count": back["accept_loss"]})
    else:
        yield Text(N_("Going back is approved; no record may be lost by it."))


def next_deed(status: Document, outlook: Document | None) -> Next:
    """Return the one thing to do next; pure."""
    nothing = Next("", Text(N_("Nothing is left to do here.")), Text(""))
    journal, running = status["journal"], status["service"]["running"]
    if "error" in journal:
        return _look("/help", N_("The journal cannot be read."), N_("See what is wrong"))
    change = journal["open_change"]
    if change is not None:
        return _of_change(change, at_work=journal["at_work"] is not None or running is not None)
    if running is not None:
        return _look("/live", N_("The service is at work."), N_("See it live"))
    if journal.get("owed_rollback") is not None:
        values = {"version": journal["owed_rollback"]["version"]}
        words = Text(N_("{version} turned bad and was not taken back yet."), values)
        return Next("order", words, Text(N_("Bring it to its end")), "operate", "resume")
    if journal["holds"]:
        words = Text(N_("No upgrade begins while this is on hold."))
        return Next("unhold", words, Text(N_("Lift the hold")), "operate")
    if outlook is not None and outlook["target"] is not None:
        return _of_release(outlook)
    feed = status["feed"]
    if feed is None or "error" in feed or feed["stale"]:
        words = Text(N_("The signed list is old, or was never read: what is new is not known."))
        return Next("order", words, Text(N_("Ask the feed now")), "operate", "check")
    return nothing


def _look(link: str, words: str, button: str) -> Next:
    return Next("look", Text(words), Text(button), link=link)


def _of_change(change: Mapping[str, Any], *, at_work: bool) -> Next:
    values = {"version": change["to"]}
    if change["state"] == "committed" and change["step"] in WATCHED_STEPS:
        words = Text(N_("{version} is in use and is being watched."), values)
        return Next("look", words, Text(N_("See how it does")), link="/live")
    if at_work and change["state"] != STUCK:
        words = Text(N_("The change to {version} goes on."), values)
        return Next("look", words, Text(N_("See it live")), link="/live")
    words = Text(N_("The change to {version} was cut off, and nobody works on it."), values)
    return Next("order", words, Text(N_("Bring it to its end")), "operate", "resume")


def _of_release(outlook: Document) -> Next:
    values = {"version": outlook["target"]}
    if outlook["rehearsed"] != "passed" or not outlook["binding"]:
        words = Text(N_("{version} can be had, and has not been tried on your data yet."), values)
        return Next("look", words, Text(N_("See the upgrade")), link="/upgrade")
    if outlook["missing"]:
        words = Text(N_("{version} was tried on your data. People have to decide."), values)
        return Next("look", words, Text(N_("Read and decide")), link="/approve")
    words = Text(N_("{version} is approved."), values)
    return Next("look", words, Text(N_("See when it begins")), link="/upgrade")


def full_disk(status: Document) -> Text | None:
    """Say that the disk of the agent is full, if it is; pure."""
    full = status["running"].get("full_disk")
    if full is None:
        return None
    values = {"path": full["path"], "free_bytes": full["free"]}
    return Text(N_("The disk of {path} is full: {free_bytes} are free."), values)
