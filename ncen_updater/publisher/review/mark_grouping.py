"""Group marks of SQL statements: which come first, which are equal, which are only counted. Pure.

A release for two engines contains nearly every statement twice, and cleans up what its own rollback
parked. If all of these were warnings, nobody would find the one that matters. So critical marks
come first, and equal statements of both engines are shown once. Statements that affect only objects
of the release itself, or exactly undo such statements (:mod:`.statement_marks`), are only counted:
the SQL follows completely, with each of them marked. Every list is on the page, a long one in an
annex.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure, join_texts
from ncen_updater.publisher.review.statement_marks import StatementKind, StatementMark

#: Kinds that most releases have: to be reviewed, but they do not change existing data.
WARNING_KINDS = {StatementKind.ADDS, StatementKind.RENAMES, StatementKind.EMPTIES}

#: An UPDATE that only sets the release's own number in the product's row.
_NUMBER = re.compile(r"UPDATE (?P<table>\w+) SET \w+ = '\d+(?:\.\d+)*'")


@dataclass(frozen=True)
class LocatedMark:
    """A mark and its place.

    Attributes:
        location: Database, migration and direction.
        path: Path of the file.
        mark: The mark.
    """

    location: tuple[str, str, str]
    path: str
    mark: StatementMark


@dataclass(frozen=True)
class GroupedMarks:
    """Warnings about the SQL of a release.

    Attributes:
        critical: Critical warnings.
        warnings: Warnings that most releases have.
        info_count: Number of statements that affect only objects of the release itself.
        beyond: Number of statements in ``down`` files that do more than undo the release.
    """

    critical: tuple[LazyText, ...]
    warnings: tuple[LazyText, ...]
    info_count: int
    beyond: int = 0


def group_marks(placed: Iterable[LocatedMark], product: str = "") -> GroupedMarks:
    """Group marks, in the order of the files.

    Args:
        placed: The marks.
        product: Product of the release; that it sets its number in ``<product>_release`` is usual.
    """
    same: dict[tuple[object, ...], list[LocatedMark]] = {}
    harmless = 0
    for item in placed:
        if item.mark.own_kind:
            harmless += 1
        else:
            same.setdefault((item.location, item.mark.kinds, item.mark.normalized), []).append(item)
    first: list[LazyText] = []
    then: list[LazyText] = []
    beyond = 0
    for items in same.values():
        usual = set(items[0].mark.kinds) <= WARNING_KINDS or _is_version_update(
            items[0].mark, product
        )
        beyond += len(items) if items[0].location[2] == "down" and not usual else 0
        (then if usual else first).append(_format_marks(items))
    return GroupedMarks(tuple(first), tuple(then), harmless, beyond)


def _is_version_update(mark: StatementMark, product: str) -> bool:
    found = _NUMBER.fullmatch(mark.normalized)
    own = f"{product.replace('-', '_')}_release".upper()
    return mark.kinds == (StatementKind.CHANGES,) and found is not None and found["table"] == own


def _format_marks(items: list[LocatedMark]) -> LazyText:
    values: dict[str, object] = {
        "path": items[0].path,
        "line": items[0].mark.line,
        "kinds": _format_kinds(items[0]),
        # verbatim, even if its words are in the catalogue
        "statement": LocalizedFigure(items[0].mark.text),
    }
    if len(items) == 1:
        return LazyText(N_("WARNING: {path}, line {line}, {kinds}: {statement}"), values)
    values["others"] = ", ".join(_format_locations(items[1:]))
    words = N_("WARNING: {path}, line {line} (same in {others}), {kinds}: {statement}")
    return LazyText(words, values)


def _format_locations(items: list[LocatedMark]) -> Iterator[str]:
    for item in items:
        yield f"{item.path}:{item.mark.line}"


def _format_kinds(item: LocatedMark) -> LazyText:
    """Join several kinds; each is translated separately."""
    mark = item.mark
    message = join_texts([LazyText(kind.value) for kind in mark.kinds], ", ")
    if item.location[2] == "down":
        message = LazyText(N_("on rollback, {kinds}"), {"kinds": message})
    if not mark.inside:
        return message
    inside = join_texts([LazyText(kind.value) for kind in mark.inside], ", ")
    return LazyText(N_("{kinds}; body: {inside}"), {"kinds": message, "inside": inside})


NOTHING = N_("nothing")
#: Longer lists are shown in annexes.
MAX_PAGE_LINES = 200


@dataclass(frozen=True)
class Section:
    """One list with a heading.

    Attributes:
        title: The heading.
        lines: All lines.
        of: Its subject, for the heading in the annex.
    """

    title: str
    lines: tuple[LazyText, ...]
    of: str

    @property
    def is_annexed(self) -> bool:
        """Return whether it is shown in an annex."""
        return len(self.lines) > MAX_PAGE_LINES

    @property
    def shown(self) -> tuple[LazyText, ...]:
        """Return the lines shown under the heading on the page itself."""
        if self.is_annexed:
            words = N_("{count} lines, listed in the annexes")
            return (LazyText(words, {"count": len(self.lines)}),)
        return self.lines or (LazyText(NOTHING),)
