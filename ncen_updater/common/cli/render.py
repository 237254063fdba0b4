"""How things are shown to people and to programs. Both command lines use it. Imports little."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import MAXYEAR, MINYEAR, UTC, datetime, tzinfo
from typing import TextIO

from ncen_updater.common.cli.characters import clean, padded, width, wrapped
from ncen_updater.common.documents import error_document, jsonable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import (
    DEFAULT_LANGUAGE,
    N_,
    Figure,
    Text,
    right_to_left,
    translate,
)

WHAT = N_("What happened:")
DETAIL = N_("Detail:")
STATE = N_("State now:")
REMEDY = N_("What to do:")
CODE = N_("Code:")
CONTACT = N_("Whom to ask:")
SEVERITIES: Mapping[Severity, str] = {
    Severity.STRICT: N_("blocks"),
    Severity.ADVISORY: N_("note"),
    Severity.INFO: N_("fact"),
}
COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}
#: Between the thousands, in French: a line is not broken there.
NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"
#: Of a very narrow terminal.
SHORTEST_LINE = 30
#: Of work whose figures are bytes.
IN_BYTES = re.compile(r"\(bytes\)$|, bytes read$")
UNITS = ("B", "kB", "MB", "GB", "TB")


def is_rich(stream: TextIO, environment: Mapping[str, str] | None = None) -> bool:
    """Whether colours and redrawn lines may be written: a terminal, and nobody refuses them."""
    env = os.environ if environment is None else environment
    return stream.isatty() and not env.get("NO_COLOR") and env.get("TERM") != "dumb"


def coloured(text: str, colour: str, *, rich: bool) -> str:
    """Return the text in a colour, unchanged where that is not wanted."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if rich else text


def format_day(moment: datetime) -> Figure:
    """Return the day of a time, in its own zone."""
    return Figure(f"{moment:%Y-%m-%d}", fr=f"{moment:%d/%m/%Y}")


def format_time(moment: datetime, zone: tzinfo | None = None) -> Figure:
    """Return a time: at the site, and in UTC.

    Args:
        moment: With its zone.
        zone: The zone of the site; that of the machine by default.
    """
    return _in_both(moment, zone, "%H:%M:%S")


def format_minute(moment: datetime, zone: tzinfo | None = None) -> Figure:
    """Return a time that people chose, without its seconds: as :func:`format_time`.

    Args:
        moment: With its zone.
        zone: The zone of the site; that of the machine by default.
    """
    return _in_both(moment, zone, "%H:%M")


def _in_both(moment: datetime, zone: tzinfo | None, clock: str) -> Figure:
    utc = moment.astimezone(UTC)
    local = utc if utc.year in (MINYEAR, MAXYEAR) else utc.astimezone(zone)
    english, french = (
        _time(local, utc, date, clock) for date in ("%Y-%m-%d", "%d/%m/%Y à")
    )  # fmt: skip
    return Figure(english, fr=french)


def _time(local: datetime, utc: datetime, date: str, clock: str) -> str:
    if local.utcoffset() == utc.utcoffset():
        return f"{utc:{date} {clock}} UTC"
    day = "" if local.date() == utc.date() else f"{utc:{date}} "
    return f"{local:{date} {clock} %Z} ({day}{utc:{clock}} UTC)"


def format_duration(seconds: float) -> Figure:
    """Return seconds in the two largest units that matter; of the shortest that they are short."""
    if 0 < seconds < 0.05:
        return _with_comma("< 0.1 s")
    if seconds < 10:
        return _with_comma(f"{seconds:.1f} s")
    whole = round(seconds)
    if whole < 60:
        return Figure(f"{whole} s")
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return Figure(f"{minutes} min {rest:02d} s")
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return Figure(f"{hours} h {minutes:02d} min")
    days, hours = divmod(hours, 24)
    return Figure(f"{days} d {hours} h", fr=f"{days} j {hours} h")


def format_bytes(count: int) -> Figure:
    """Return bytes in a unit that reads well (powers of 1000)."""
    size = float(count)
    for unit in UNITS:
        if size < 1000 or unit == UNITS[-1]:
            octets = unit.replace("B", "o")
            if unit == "B":
                return Figure(f"{count} {unit}", fr=f"{count} {octets}")
            return Figure(f"{size:.1f} {unit}", fr=f"{size:.1f} {octets}".replace(".", ","))
        size /= 1000
    raise AssertionError("the last unit takes every size")


def format_count(count: int) -> Figure:
    """Return a number of things with its thousands apart."""
    return Figure(f"{count:,}", fr=f"{count:,}".replace(",", NARROW_SPACE))


def format_decimal(value: float) -> Figure:
    """Return a number with one decimal."""
    return _with_comma(f"{value:.1f}")


def amount(what: Text, count: int) -> Figure:
    """Return how much of some work is done: a size where its sentence counts bytes."""
    return format_bytes(count) if IN_BYTES.search(what.template) else format_count(count)


def without_unit(said: str) -> str:
    """Return a sentence of work without its unit, which stands with the figures."""
    return said.removesuffix(" (bytes)")


def _with_comma(english: str) -> Figure:
    return Figure(english, fr=english.replace(".", ","))


def sentence(words: str) -> str:
    """Return a reason, as it stands behind another word, as a sentence of its own."""
    end = "" if words.endswith((".", "!", "?")) else "."
    return f"{words[:1].upper()}{words[1:]}{end}"


def grouped(digest: str) -> str:
    """Return a digest as it is read out and compared: in groups of eight."""
    return " ".join(digest[at : at + 8] for at in range(0, len(digest), 8))


def table(rows: Sequence[Sequence[str]], language: str = DEFAULT_LANGUAGE) -> list[str]:
    """Return rows as lines with columns one below the other; the first row is the heading.

    Args:
        rows: Cells; figures are written as the language does.
        language: Of figures.
    """
    if not rows:
        return []
    said = [[c.render(language) if isinstance(c, Figure) else c for c in row] for row in rows]
    # Cleaned first: nothing that is taken out later moves a column.
    cells = [[clean(cell, isolates=True).replace("\t", " ") for cell in row] for row in said]
    widths = [max(width(row[column]) for row in cells) for column in range(len(rows[0]))]
    return [
        "  ".join(padded(cell, columns) for cell, columns in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def error_lines(
    error: UpdaterError,
    state: Sequence[Text],
    language: str = DEFAULT_LANGUAGE,
    *,
    rich: bool = False,
    contact: str | None = None,
    columns: int | None = None,
) -> list[str]:
    """Return an error for people: what happened, the state now, what to do, the code.

    Args:
        error: The error.
        state: The state now.
        language: Two letters.
        rich: Whether colours are wanted.
        contact: Whom to ask, where the remedy is to ask somebody.
        columns: Width of a terminal; lines are not broken without.
    """
    document = error_document(error, state, language)
    parts = [
        (WHAT, document["what"]),
        *([(DETAIL, document["detail"])] if document["detail"] else []),
        (STATE, document["state"]),
        (REMEDY, document["remedy"]),
        *([(CONTACT, contact)] if contact else []),
        (CODE, error.code),
    ]
    labels = {label: translate(label, language) for label, _ in parts}
    indent = max(width(label) for label in labels.values()) + 1
    lines = []
    turned = right_to_left(language)
    for label, text in parts:
        said = clean(str(text), isolates=turned).splitlines()
        room = None if columns is None else max(columns - indent - 1, SHORTEST_LINE)
        broken = [wrapped(line, room) if room else [line] for line in said]
        first, *more = [part for lines_of in broken for part in lines_of] or [""]
        colour = "red" if label == WHAT else "bold"
        lines.append(f"{coloured(padded(labels[label], indent), colour, rich=rich)}{first}")
        lines += [f"{'':{indent}}{line}" for line in more]
    return lines


def finding_document(finding: Finding, language: str = DEFAULT_LANGUAGE) -> dict[str, object]:
    """Return a finding as JSON has it."""
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "what": finding.what.render(language),
        "remedy": finding.remedy.render(language),
        "figures": jsonable(finding.figures, language),
    }


def finding_lines(
    findings: Iterable[Finding], language: str = DEFAULT_LANGUAGE, *, rich: bool = False
) -> list[str]:
    """Return findings for people, what blocks first."""
    order = list(Severity)
    lines = []
    turned = right_to_left(language)
    for finding in sorted(findings, key=lambda f: order.index(f.severity)):
        word = translate(SEVERITIES[finding.severity], language)
        colour = "red" if finding.severity is Severity.STRICT else "yellow"
        mark = coloured(f"[{word}]", colour, rich=rich)
        what = finding.what.render(language)
        lines.append(f"{mark} {finding.code} {clean(what, isolates=turned)}")
        detail = finding.figures.get("detail")
        if isinstance(detail, str):
            detail = Text("{detail}", {"detail": detail})
        if isinstance(detail, Text):
            detail = detail.render(language)
            label = translate(DETAIL, language)
            lines += [f"    {line}" for line in f"{label} {clean(detail)}".splitlines()]
        remedy = clean(finding.remedy.render(language), isolates=turned)
        if remedy:
            lines.append(f"    {remedy}")
    return lines
