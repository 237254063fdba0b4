"""The table at the end: what was tried, what was expected, what came, and whether it is kept."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from ncen_updater.common.cli.render import format_count, format_duration, format_table
from ncen_updater.common.i18n import N_, LazyText

HEADINGS = (
    N_("test case"),
    N_("expected"),
    N_("actual"),
    N_("downtime"),
    N_("records"),
    N_("result"),
)
# Together they fit on a terminal of a hundred columns.
WIDTHS = (28, 16, 16, 15, 7, 8)
KEPT = LazyText(N_("passed"))
BROKEN = LazyText(N_("FAILED"))


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        tried: What was done.
        expected: What had to come of it.
        came: What came of it.
        downtime_s: Seconds for which users were refused; None where nobody was at work.
        records: Rows and records that were looked for; None where there was no site.
        broken: Promises that do not hold.
    """

    tried: LazyText
    expected: LazyText
    came: LazyText
    downtime_s: float | None = None
    records: int | None = None
    broken: tuple[LazyText, ...] = ()


def broken_rows(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Those where a promise was broken."""
    return tuple(row for row in rows if row.broken)


def report_lines(rows: Sequence[Row], language: str) -> list[str]:
    """Return the table as lines."""
    lines = _wrapped([LazyText(heading).render(language) for heading in HEADINGS])
    for row in rows:
        lines += _wrapped(
            [
                row.tried.render(language),
                row.expected.render(language),
                row.came.render(language),
                "-" if row.downtime_s is None else format_duration(row.downtime_s).render(language),
                "-" if row.records is None else format_count(row.records).render(language),
                (BROKEN if row.broken else KEPT).render(language),
            ]
        )
    found = format_table(lines)
    return [found[0], "-" * max(map(len, found)), *found[1:]]


def _wrapped(cells: Sequence[str]) -> list[list[str]]:
    """Return one row of the table as one or more lines of it."""
    columns = [
        textwrap.wrap(cell, width) or [""] for cell, width in zip(cells, WIDTHS, strict=True)
    ]
    return [list(line) for line in itertools.zip_longest(*columns, fillvalue="")]
