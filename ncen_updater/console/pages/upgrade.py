"""*Upgrade*: what comes next, what it would do here, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import tzinfo
from urllib.parse import quote

from ncen_updater.common.cli.render import format_duration, format_time
from ncen_updater.common.i18n import N_, Text
from ncen_updater.console.asking import Asking, ShownPage
from ncen_updater.console.looking import Looked
from ncen_updater.console.rendering import moment_of
from ncen_updater.console.service import Document, ServiceRefusal

#: A stop that may be shorter than this has no lower end worth reading.
NO_TIME_S = 1.0
#: What no time brings, as the service names it.
WAITS: Mapping[str, str] = {
    "hold": N_("not while upgrades are on hold"),
    "only-told": N_("not by itself: this site is only told of releases; somebody has to order it"),
    "not-prepared": N_("not before it is prepared"),
    "not-rehearsed": N_("not before it was rehearsed"),
    "rehearsal-failed": N_("not by itself: its rehearsal failed"),
    "approval": N_("not before enough people have said yes"),
    "no-time": N_("not by itself: this site has no set hours, and no time was chosen"),
    "no-window": N_("not by itself: no hours of this site leave room for it"),
    "no-service": N_("not by itself: no service runs"),
    "another-first": N_("not before another release that is approved, too"),
}


@dataclass(frozen=True)
class Scale:
    """A range as a bar: where it begins and ends, and the likely value; 0 to 100."""

    left: float
    right: float
    mark: float


def mark_of(status: Document, outlook: Document) -> str:
    """Return what tells the site as it is from what it was; pure.

    The binding covers what people decide on. Where there is none yet, any event may change that.
    """
    binding = outlook["binding"]
    return f"{outlook['target']} {binding or status['journal'].get('head')}"


def as_of(looked: Looked, status: Document) -> Looked:
    """Return what was looked at, as old where a change has ended since; pure.

    People may decide on it still, which the binding tells; what it predicts is of before.
    """
    ended = (status["journal"].get("last_change") or {}).get("ended_at")
    since = looked.at is not None and ended is not None and moment_of(ended) > looked.at
    return replace(looked, stale=looked.stale or since)


def page(asking: Asking) -> ShownPage:
    """What comes next."""
    status, outlook = asking.status(), asking.get("/v1/outlook")
    version = outlook["target"]
    common = {
        "status": status, "outlook": outlook, "may": asking.may("operate"),
        "busy": status["service"]["running"] is not None, **_tray(asking),
    }  # fmt: skip
    if version is None:
        return ShownPage("upgrade", {**common, "way": None}, "empty")
    mark = mark_of(status, outlook)
    plan = as_of(asking.look("plan", mark), status)
    dossier = as_of(asking.look("dossier", mark), status) if outlook["prepared"] else None
    if dossier is not None and not outlook["rehearsed"] and dossier.error:
        dossier = None
    try:
        notes = asking.get(f"/v1/notes?version={quote(version, safe='')}")
    except ServiceRefusal:
        notes = None  # what is not here yet says nothing
    both = [one for one in (plan, dossier) if one is not None]
    facts = dossier.found["facts"] if dossier is not None and dossier.found else None
    stop = facts["stop_s"] if facts else None
    loading = any(one.loading for one in both)
    return ShownPage(
        "upgrade",
        {
            **common,
            "way": plan,
            "dossier": dossier,
            "facts": facts,
            "notes": notes,
            "stop": span(stop),
            "bar": scale(stop),
            "begins": begins_words(outlook["begins"], asking.zone),
        },
        "loading" if loading else "stale" if any(one.stale for one in both) else "ready",
        again_s=2 if loading else 0,
    )


def span(stop: Document | None) -> Text:
    """Say how long officers would be out; pure."""
    if stop is None:
        return Text(N_("not known: it was not rehearsed"))
    low, likely, high = (format_duration(stop[name]) for name in ("low", "likely", "high"))
    if stop["low"] < NO_TIME_S:
        return Text(N_("up to {high}, most likely {likely}"), {"high": high, "likely": likely})
    values = {"low": low, "high": high, "likely": likely}
    return Text(N_("{low} to {high}, most likely {likely}"), values)


def scale(stop: Document | None) -> Scale | None:
    """Return a stop as shares of its longest; None where it is not known. Pure."""
    if stop is None or stop["high"] <= 0:
        return None
    left, right, mark = (round(100 * stop[n] / stop["high"], 2) for n in ("low", "high", "likely"))
    return Scale(left, right, mark)


def begins_words(begins: Document | None, zone: tzinfo | None = None) -> Text:
    """Say when an upgrade begins by itself; pure."""
    if begins is None:
        return Text(N_("not known"))
    if begins["when"] == "now":
        return Text(N_("at once"))
    if begins["when"] == "at" and begins["at"]:
        return Text(N_("{at}"), {"at": format_time(moment_of(begins["at"]), zone)})
    return Text(WAITS.get(str(begins["stays"]), N_("not by itself")))


def _tray(asking: Asking) -> dict[str, object]:
    """What the page shows of the tray, or why it cannot be used."""
    try:
        return {"tray": asking.get("/v1/tray"), "tray_error": None}
    except ServiceRefusal as refused:
        return {"tray": None, "tray_error": refused.error}
