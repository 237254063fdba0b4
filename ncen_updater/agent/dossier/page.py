"""The page: what the template is given. Pure: facts and a language in, bytes out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime

from ncen_updater.agent.approvals.model import Approval
from ncen_updater.agent.dossier.data import map_words, table_rows
from ncen_updater.agent.dossier.gather import Dossier
from ncen_updater.agent.dossier.pictures import room, stop_parts, stop_ranges
from ncen_updater.agent.dossier.risks import risks
from ncen_updater.common.cli.render import SEVERITIES, format_duration, format_time
from ncen_updater.common.findings import Severity
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, N_, Text
from ncen_updater.common.pages import fill

#: A stop that may be shorter than this has no lower end worth reading.
NO_TIME_S = 1.0


def page(dossier: Dossier, language: str = DEFAULT_LANGUAGE) -> bytes:
    """Return the dossier as one HTML file, in UTF-8."""
    order = list(Severity)
    findings = sorted(dossier.findings, key=lambda item: order.index(item.severity))
    return fill(
        "ncen_updater.agent.dossier",
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
