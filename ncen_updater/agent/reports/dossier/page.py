"""The page: what the template is given. Pure: facts and a language in, bytes out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ncen_updater.agent.adapters.databases.ways import Back
from ncen_updater.agent.engine.approvals.model import Approval
from ncen_updater.agent.reports.dossier.document import map_words, table_rows
from ncen_updater.agent.reports.dossier.gather import Dossier, DossierHop
from ncen_updater.common.cli.render import SEVERITIES, format_bytes, format_duration, format_time
from ncen_updater.common.findings import Severity
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, N_, Figure, Text
from ncen_updater.common.pages import fill

#: So many earlier upgrades are drawn, the newest; all are in the journal.
DRAWN = 8


@dataclass(frozen=True)
class Bar:
    """A bar, or a piece of one.

    Attributes:
        name: What it is.
        figure: How much it is.
        left: Where it begins, 0 to 100.
        width: How long it is, 0 to 100.
    """

    name: Text
    figure: Figure
    left: float
    width: float


@dataclass(frozen=True)
class Range:
    """A predicted stop, and the real one.

    Attributes:
        name: The release.
        left: The least, 0 to 100.
        right: The most.
        mark: The real stop; of what is predicted, the likely one.
        real: Whether the mark was measured.
        figure: What the mark is.
    """

    name: str
    left: float
    right: float
    mark: float
    real: bool
    figure: Figure


def stop_parts(hops: Sequence[DossierHop]) -> tuple[Bar, ...]:
    """The likely stop as one bar: copying, migrating, and the rest; empty where it is not known."""
    if not hops or any(hop.report is None for hop in hops):
        return ()
    reports = [hop.report for hop in hops if hop.report is not None]
    copying = sum(report.copy_s for report in reports)
    # What runs while officers work is none of the stop.
    migrating = sum(hop.report.migrate_s for hop in hops if hop.report and not hop.expands)
    likely = sum(report.stop_s.likely for report in reports)
    parts = [
        (N_("copying the databases"), copying),
        (N_("migrating the databases"), migrating),
        (N_("stopping, starting, looking at the health"), max(0.0, likely - copying - migrating)),
    ]
    whole = sum(seconds for _, seconds in parts)
    if whole <= 0:
        return ()
    found, left = [], 0.0
    for name, seconds in parts:
        width = 100 * seconds / whole
        found.append(Bar(Text(name), format_duration(seconds), round(left, 2), round(width, 2)))
        left += width
    return tuple(found)


def stop_ranges(dossier: Dossier) -> tuple[Range, ...]:
    """Each prediction for this site with what it came to, and this one; empty if none is known."""
    earlier = dossier.earlier[-DRAWN:]
    ends = [end for item in earlier for end in (item.high_s, item.real_s)]
    stop = dossier.stop_s
    longest = max([*ends, *([stop[2]] if stop else [])], default=0.0)
    if longest <= 0:
        return ()

    def share(seconds: float) -> float:
        return round(100 * max(0.0, seconds) / longest, 2)

    found = [
        Range(item.version, share(item.low_s), share(item.high_s), share(item.real_s),
              real=True, figure=format_duration(item.real_s))
        for item in earlier
    ]  # fmt: skip
    if stop is not None:
        low, likely, high = stop
        found.append(
            Range(dossier.target, share(low), share(high), share(likely), real=False,
                  figure=format_duration(likely))
        )  # fmt: skip
    return tuple(found)


def room(dossier: Dossier) -> tuple[Bar, ...]:
    """What databases and programs take before, during and after; empty where there is no database.

    The databases of before are kept beside the new ones for some days; the program of the release
    comes while officers still work.
    """
    databases = sum(dossier.sizes.values())
    programs = sum(hop.unpacked_bytes for hop in dossier.hops)
    both = 2 * databases + programs
    if databases <= 0:
        return ()
    days = f"{dossier.keep_days:g}"
    moments = [
        (Text(N_("now")), databases),
        (Text(N_("in the upgrade, and {days} days after it"), {"days": days}), both),
        (Text(N_("afterwards")), databases + programs),
    ]
    return tuple(
        Bar(name, format_bytes(size), 0.0, round(100 * size / both, 2)) for name, size in moments
    )


def risks(dossier: Dossier) -> tuple[Text, ...]:
    """Say what could go wrong, the gravest first; empty where nothing particular is known."""
    found: list[Text] = []
    if any(finding.severity is Severity.STRICT for finding in dossier.findings):
        found.append(Text(N_("Something blocks the upgrade now; see the checks below.")))
    loses = [name for hop in dossier.hops for name in hop.loses]
    if loses:
        words = N_(
            "After officers are back, going back loses what they enter in {objects}. It is counted"
            " and asked for first."
        )
        found.append(Text(words, {"objects": ", ".join(loses)}))
    if any(hop.way_back is not Back.KEEPS for hop in dossier.hops):
        words = N_(
            "After officers are back, going back loses what they entered since: this release has"
            " no way down that keeps it. The loss is counted and asked for first."
        )
        found.append(Text(words))
    if dossier.rehearsed_at is None:
        words = N_("It was not rehearsed: how long it takes and what it changes is not known.")
        found.append(Text(words))
    unmapped = sum(hop.unmapped for hop in dossier.hops)
    if unmapped:
        words = N_(
            "{count} records have a code without a target in the new release. See in the notes"
            " what becomes of them, or ask the Secretariat."
        )
        found.append(Text(words, {"count": unmapped}))
    differs = [name for hop in dossier.hops if hop.report for name in hop.report.back_differs]
    if differs:
        words = N_("After the way back these tables were not as before: {tables}.")
        found.append(Text(words, {"tables": ", ".join(differs)}))
    if any(hop.report and not hop.report.stop_s.learnt for hop in dossier.hops):
        words = N_(
            "Few upgrades were made here so far: how long the application takes to stop and start"
            " is partly a guess, and the range is wide."
        )
        found.append(Text(words))
    missed = [item for item in dossier.earlier if not item.low_s <= item.real_s <= item.high_s]
    if missed:
        words = N_("Of the last {count} predictions for this site {missed} did not hold.")
        found.append(Text(words, {"count": len(dossier.earlier), "missed": len(missed)}))
    if len(dossier.hops) > 1:
        words = N_(
            "It goes over {count} releases, one after the other. If a later one fails, the site"
            " stays at the one before it."
        )
        found.append(Text(words, {"count": len(dossier.hops)}))
    return tuple(found)


#: A stop that may be shorter than this has no lower end worth reading.
NO_TIME_S = 1.0


def page(dossier: Dossier, language: str = DEFAULT_LANGUAGE) -> bytes:
    """Return the dossier as one HTML file, in UTF-8."""
    order = list(Severity)
    findings = sorted(dossier.findings, key=lambda item: order.index(item.severity))
    return fill(
        "ncen_updater.agent.reports.dossier",
        "dossier.html",
        language,
        dossier=dossier,
        mark=mark(dossier.approvals, dossier.not_before),
        when=_when(dossier),
        risks=risks(dossier),
        findings=[(SEVERITIES[item.severity], item) for item in findings],
        days=f"{dossier.keep_days:g}",
        span=_span,
        parts=stop_parts(dossier.hops),
        ranges=stop_ranges(dossier),
        room=room(dossier),
        map_words=map_words,
        table_rows=table_rows,
    )


def mark(approvals: Iterable[Approval], not_before: datetime | None) -> str:
    """Return what tells a page with other approvals or another time from this one; pure."""
    rows = [[a.who, a.uid, a.at.isoformat()] for a in approvals]
    content = json.dumps([rows, not_before.isoformat() if not_before else None]).encode()
    return hashlib.sha256(content).hexdigest()


def _span(stop: tuple[float, float, float] | None) -> Text:
    if stop is None:
        return Text(N_("not known: it was not rehearsed"))
    low, likely, high = map(format_duration, stop)
    if stop[0] < NO_TIME_S:
        return Text(N_("up to {high}, most likely {likely}"), {"high": high, "likely": likely})
    values = {"low": low, "high": high, "likely": likely}
    return Text(N_("{low} to {high}, most likely {likely}"), values)


def _when(dossier: Dossier) -> Text:
    chosen, zone = dossier.not_before, dossier.zone
    if dossier.opens is not None and dossier.closes is not None:
        begin = max(dossier.opens, chosen) if chosen else dossier.opens
        values = {"begin": format_time(begin, zone), "end": format_time(dossier.closes, zone)}
        return Text(N_("once approved, in the hours from {begin} to {end}"), values)
    if chosen is not None:
        return Text(N_("once approved, not before {at}"), {"at": format_time(chosen, zone)})
    return Text(
        N_(
            "once approved, when somebody types 'ncen-updater upgrade' or chooses a time; "
            "this site has no set hours"
        )
    )
