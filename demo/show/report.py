"""Table of results: test, expectation, result, and whether all promises were kept."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from ncen_updater.common.cli.characters import protect_spacing
from ncen_updater.common.cli.render import format_count, format_duration, format_table
from ncen_updater.common.i18n import N_, LazyText

HEADINGS = (
    N_("test case"),
    N_("expected"),
    N_("actual"),
    N_("users waited"),
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
        tried: Test.
        expected: Expected result.
        came: Actual result.
        downtime_s: Seconds for which users were refused; None if no users worked.
        records: Number of rows and records checked; None without a site.
        broken: Broken promises.
    """

    tried: LazyText
    expected: LazyText
    came: LazyText
    downtime_s: float | None = None
    records: int | None = None
    broken: tuple[LazyText, ...] = ()


def broken_rows(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return the rows with broken promises."""
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
    """Wrap the cells of a row; return its lines."""
    columns = [
        textwrap.wrap(protect_spacing(cell), width) or [""]
        for cell, width in zip(cells, WIDTHS, strict=True)
    ]
    return [list(line) for line in itertools.zip_longest(*columns, fillvalue="")]
