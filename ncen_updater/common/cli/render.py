"""Format values for display and for JSON. Imports little."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime, tzinfo
from typing import TextIO

from ncen_updater.common.cli.characters import (
    measure_width,
    pad_text,
    strip_control_characters,
    wrap_text,
)
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import (
    DEFAULT_LANGUAGE,
    N_,
    LazyText,
    LocalizedFigure,
    is_right_to_left,
    translate,
)
from ncen_updater.common.json_records import error_to_json, to_json_value
from ncen_updater.common.progress import Amount, Unit

TITLE_LABEL = N_("Error:")
DETAIL = N_("Detail:")
STATE_LABEL = N_("State:")
REMEDY_LABEL = N_("What to do:")
CODE_LABEL = N_("Code:")
CONTACT_LABEL = N_("Contact:")
SEVERITY_LABELS: Mapping[Severity, str] = {
    Severity.CRITICAL: N_("critical"),
    Severity.WARNING: N_("warning"),
    Severity.INFO: N_("info"),
}
SEVERITY_COLOURS: Mapping[Severity, str] = {
    Severity.CRITICAL: "red",
    Severity.WARNING: "yellow",
    Severity.INFO: "dim",
}
#: Line of a change that is shown in red.
FAILED_STEP = N_("  failed {at} ({step}): {error}")
COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}
#: French thousands separator, which does not break a line.
NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"
#: Minimum width for wrapped text.
MIN_LINE_WIDTH = 30
DONE_OF_TOTAL = N_("{done} of {total}")
BYTE_UNITS = ("B", "kB", "MB", "GB", "TB")


def supports_color(stream: TextIO, environment: Mapping[str, str] | None = None) -> bool:
    """Return whether a stream is a terminal that allows colours and redrawn lines."""
    env = os.environ if environment is None else environment
    return stream.isatty() and not env.get("NO_COLOR") and env.get("TERM") != "dumb"


def colorize(text: str, colour: str, *, rich: bool) -> str:
    """Return a text in a colour; unchanged if colours are not wanted."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if rich else text


def format_date(moment: date) -> LocalizedFigure:
    """Format a date, or that of a time in its own zone."""
    return LocalizedFigure(f"{moment:%Y-%m-%d}", fr=f"{moment:%d/%m/%Y}")


def format_time(moment: datetime, zone: tzinfo | None = None) -> LocalizedFigure:
    """Format a time in the site's zone, with the zone's name.

    Args:
        moment: The time, with a zone.
        zone: The site's zone; that of the machine by default.
    """
    return _format_local(moment, zone, "%H:%M:%S %Z")


def format_scheduled_time(moment: datetime, zone: tzinfo | None = None) -> LocalizedFigure:
    """Format a time that an operator chose: as :func:`format_time`, but without seconds if zero.

    Args:
        moment: The time, with a zone.
        zone: The site's zone; that of the machine by default.
    """
    return format_time(moment, zone) if moment.second else _format_local(moment, zone, "%H:%M %Z")


def _format_local(moment: datetime, zone: tzinfo | None, clock: str) -> LocalizedFigure:
    utc = moment.astimezone(UTC)
    local = utc if utc.year in (MINYEAR, MAXYEAR) else utc.astimezone(zone)
    return LocalizedFigure(f"{local:%Y-%m-%d {clock}}", fr=f"{local:%d/%m/%Y à {clock}}")


def format_duration(seconds: float) -> LocalizedFigure:
    """Format seconds in the two largest units that matter; very few as "< 0.1 s"."""
    if 0 < seconds < 0.05:
        return _localize_decimal("< 0.1 s")
    if seconds < 10:
        return _localize_decimal(f"{seconds:.1f} s")
    whole = round(seconds)
    if whole < 60:
        return LocalizedFigure(f"{whole} s")
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return LocalizedFigure(f"{minutes} min {rest:02d} s")
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return LocalizedFigure(f"{hours} h {minutes:02d} min")
    days, hours = divmod(hours, 24)
    return LocalizedFigure(f"{days} d {hours} h", fr=f"{days} j {hours} h")


def format_bytes(count: int) -> LocalizedFigure:
    """Format bytes in a readable unit (powers of 1000)."""
    size = float(count)
    for unit in BYTE_UNITS:
        if round(size, 1) < 1000 or unit == BYTE_UNITS[-1]:
            octets = unit.replace("B", "o")
            if unit == "B":
                return LocalizedFigure(f"{count} {unit}", fr=f"{count} {octets}")
            return LocalizedFigure(
                f"{size:.1f} {unit}", fr=f"{size:.1f} {octets}".replace(".", ",")
            )
        size /= 1000
    raise AssertionError("the last unit takes every size")


def format_count(count: int) -> LocalizedFigure:
    """Format a count with thousands separators."""
    return LocalizedFigure(f"{count:,}", fr=f"{count:,}".replace(",", NARROW_SPACE))


def format_decimal(value: float) -> LocalizedFigure:
    """Format a number with one decimal."""
    return _localize_decimal(f"{value:.1f}")


def format_amount(amount: Amount) -> LazyText:
    """Format an amount of work: "3 of 9", or only what is done if the total is unknown or zero."""
    format_figure = format_bytes if amount.unit is Unit.BYTES else format_count
    figures = {"done": format_figure(amount.done), "total": format_figure(amount.total or 0)}
    return LazyText(DONE_OF_TOTAL if amount.total else "{done}", figures)


def _localize_decimal(english: str) -> LocalizedFigure:
    return LocalizedFigure(english, fr=english.replace(".", ","))


def make_sentence(text: str) -> str:
    """Capitalize a text, and end it with a full stop if it has no end."""
    end = "" if text.endswith((".", "!", "?")) else "."
    return f"{text[:1].upper()}{text[1:]}{end}"


def group_digest(digest: str) -> str:
    """Format a digest in groups of eight digits."""
    return " ".join(digest[at : at + 8] for at in range(0, len(digest), 8))


CONSONANTS = "bdfghjklmnprstvz"
VOWELS = "aiou"
MIN_DIGEST_DIGITS = 32
_WORD = re.compile(f"[{CONSONANTS}][{VOWELS}][{CONSONANTS}][{VOWELS}][{CONSONANTS}]")
_BETWEEN = re.compile(r"[\s,.:-]+")


def _encode_word(number: int) -> str:
    parts = ((CONSONANTS, 12), (VOWELS, 10), (CONSONANTS, 6), (VOWELS, 4), (CONSONANTS, 0))
    return "".join(letters[(number >> at) & (len(letters) - 1)] for letters, at in parts)


def _decode_word(word: str) -> int:
    value = 0
    for letter in word:
        letters = CONSONANTS if letter in CONSONANTS else VOWELS
        value = value * len(letters) + letters.index(letter)
    return value


def encode_as_words(digest: str) -> str:
    """Return the first 32 digits of a digest as eight words to be read out on a telephone.

    A word has five letters and stands for 16 bits (a *proquint*): consonant, vowel, consonant,
    vowel, consonant. It is spelled the same way in every language, and needs no list of words.
    Eight words are 128 bits: a second document or key with the same words cannot be found.
    """
    groups = re.findall("....", digest[:MIN_DIGEST_DIGITS])
    return " ".join(_encode_word(int(group, 16)) for group in groups)


def format_fingerprint(digest: str) -> str:
    """Return a digest in words, and in the digits that other programs show."""
    return f"{encode_as_words(digest)} ({group_digest(digest)})"


def parse_digest(text: str) -> str:
    """Convert a typed digest, in words or in digits, to hexadecimal digits.

    Anything else is returned without separators, and matches no digest.
    """
    parts = [part for part in _BETWEEN.split(text.lower()) if part]
    if parts and all(_WORD.fullmatch(part) for part in parts):
        return "".join(f"{_decode_word(part):04x}" for part in parts)
    return "".join(parts)


def format_table(rows: Sequence[Sequence[str]], language: str = DEFAULT_LANGUAGE) -> list[str]:
    """Format rows as lines with aligned columns; the first row is the heading.

    Args:
        rows: The cells.
        language: Language of the figures.
    """
    if not rows:
        return []
    lines = [
        [c.render(language) if isinstance(c, LocalizedFigure) else c for c in row] for row in rows
    ]
    # Strip control characters first: stripping them later would move columns.
    cells = [
        [strip_control_characters(cell, keep_isolates=True).replace("\t", " ") for cell in row]
        for row in lines
    ]
    widths = [max(measure_width(row[column]) for row in cells) for column in range(len(rows[0]))]
    return [
        "  ".join(
            pad_text(cell, columns) for cell, columns in zip(row, widths, strict=True)
        ).rstrip()
        for row in cells
    ]


def format_error(
    error: UpdaterError,
    state: Sequence[LazyText],
    language: str = DEFAULT_LANGUAGE,
    *,
    rich: bool = False,
    contact: str | None = None,
    columns: int | None = None,
) -> list[str]:
    """Format an error as lines: title, detail, state, remedy, contact, code.

    Args:
        error: The error.
        state: The present state.
        language: Language code.
        rich: Whether to use colours.
        contact: Whom to ask, if the remedy is to ask someone.
        columns: Width of the terminal; without it lines are not wrapped.
    """
    document = error_to_json(error, state, language)
    parts = [
        (TITLE_LABEL, document["title"]),
        *([(DETAIL, document["detail"])] if document["detail"] else []),
        (STATE_LABEL, document["state"]),
        (REMEDY_LABEL, document["remedy"]),
        *([(CONTACT_LABEL, contact)] if contact else []),
        (CODE_LABEL, error.code),
    ]
    labels = {label: translate(label, language) for label, _ in parts}
    indent = max(measure_width(label) for label in labels.values()) + 1
    lines = []
    right_to_left = is_right_to_left(language)
    for label, text in parts:
        message = strip_control_characters(str(text), keep_isolates=right_to_left).splitlines()
        room = None if columns is None else max(columns - indent - 1, MIN_LINE_WIDTH)
        broken = [wrap_text(line, room) if room else [line] for line in message]
        first, *more = [part for lines_of in broken for part in lines_of] or [""]
        colour = "red" if label == TITLE_LABEL else "bold"
        lines.append(f"{colorize(pad_text(labels[label], indent), colour, rich=rich)}{first}")
        lines += [f"{'':{indent}}{line}" for line in more]
    return lines


def finding_to_json(finding: Finding, language: str = DEFAULT_LANGUAGE) -> dict[str, object]:
    """Return a finding as JSON values."""
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "title": finding.title.render(language),
        "remedy": finding.remedy.render(language),
        "figures": to_json_value(finding.figures, language),
    }


def highlight(text: str, language: str = DEFAULT_LANGUAGE) -> str:
    """Colour the severities of findings, and the failed step, in lines."""
    words = {translate(label, language): severity for severity, label in SEVERITY_LABELS.items()}

    def mark(found: re.Match[str]) -> str:
        return colorize(found[0], SEVERITY_COLOURS[words[found[1]]], rich=True)

    text = re.sub(rf"^\[({'|'.join(map(re.escape, words))})\]", mark, text, flags=re.MULTILINE)
    failed = re.escape(translate(FAILED_STEP, language).partition("{")[0])
    return re.sub(
        rf"^{failed}.*$", lambda line: colorize(line[0], "red", rich=True), text, flags=re.MULTILINE
    )


def format_findings(findings: Iterable[Finding], language: str = DEFAULT_LANGUAGE) -> list[str]:
    """Format findings as lines, critical ones first."""
    order = list(Severity)
    lines = []
    right_to_left = is_right_to_left(language)
    for finding in sorted(findings, key=lambda f: order.index(f.severity)):
        word = translate(SEVERITY_LABELS[finding.severity], language)
        what = finding.title.render(language)
        lines.append(
            f"[{word}] {finding.code} {strip_control_characters(what, keep_isolates=right_to_left)}"
        )
        detail = finding.figures.get("detail")
        if isinstance(detail, str):
            detail = LazyText("{detail}", {"detail": detail})
        if isinstance(detail, LazyText):
            detail = detail.render(language)
            label = translate(DETAIL, language)
            lines += [
                f"    {line}" for line in f"{label} {strip_control_characters(detail)}".splitlines()
            ]
        remedy = strip_control_characters(
            finding.remedy.render(language), keep_isolates=right_to_left
        )
        if remedy:
            lines.append(f"    {remedy}")
    return lines
