"""Grouping of marks: which come first, which are one mark, and which go into an annex. Pure.

A release for two engines says nearly everything twice, and puts in order what its own rollback
parked. Where all of that is a warning, nobody finds the one that matters. So what is grave stands
first; what both engines do alike is said once; and of statements that touch nothing but what the
release itself made, or exactly undo that (:mod:`.statement_marks`), only the number is shown: the
SQL follows whole, with each of them marked. All of a list is on the page, a long one in an annex.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure
from ncen_updater.publisher.review.statement_marks import StatementKind, StatementMark
from ncen_updater.publisher.signing.value_format import join_texts

#: What most releases do: it is to be decided, and does nothing to what stands in a database.
WARNING_KINDS = {StatementKind.ADDS, StatementKind.RENAMES, StatementKind.EMPTIES}

#: A release writes its own number into the product's own row: nothing else, and in every row.
_NUMBER = re.compile(r"UPDATE (?P<table>\w+) SET \w+ = '\d+(?:\.\d+)*'")


@dataclass(frozen=True)
class LocatedMark:
    """A mark and where it stands.

    Attributes:
        location: Database, migration and direction.
        path: The file.
        mark: The mark.
    """

    location: tuple[str, str, str]
    path: str
    mark: StatementMark


@dataclass(frozen=True)
class GroupedMarks:
    """Warnings about the SQL of a release.

    Attributes:
        critical: What has to be decided before all.
        warnings: What most releases do, and is to be decided as well.
        info_count: How many statements touch nothing but what the release itself made.
        beyond: How many of a ``down`` file do more than undo the release.
    """

    critical: tuple[LazyText, ...]
    warnings: tuple[LazyText, ...]
    info_count: int
    beyond: int = 0


def group_marks(placed: Iterable[LocatedMark], product: str = "") -> GroupedMarks:
    """Put marks in groups, each in the order of the files.

    Args:
        placed: The marks.
        product: Whose release it is: that it writes its number into ``<product>_release`` is usual.
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
        "statement": LocalizedFigure(items[0].mark.text),  # as it is, whatever its words mean
    }
    if len(items) == 1:
        return LazyText(N_("WARNING: {path}, line {line}, {kinds}: {statement}"), values)
    values["others"] = ", ".join(_format_locations(items[1:]))
    words = N_("WARNING: {path}, line {line} (same in {others}), {kinds}: {statement}")
    return LazyText(words, values)


def _format_locations(items: list[LocatedMark]) -> Iterator[str]:
    for item in items:
        yield f"{item.path}:{item.mark.line}"


def _format_kinds(item: LocatedMark) -> LazyText | str:
    """Several kinds in one sentence: each is translated by itself."""
    mark = item.mark
    message: LazyText | str = join_texts([LazyText(kind.value) for kind in mark.kinds])
    if item.location[2] == "down":
        message = LazyText(N_("on rollback, {kinds}"), {"kinds": message})
    if not mark.inside:
        return message
    inside = join_texts([LazyText(kind.value) for kind in mark.inside])
    return LazyText(N_("{kinds}; body: {inside}"), {"kinds": message, "inside": inside})


NOTHING = N_("nothing")
#: A list of more lines stands in the annexes.
MOST = 200


@dataclass(frozen=True)
class Section:
    """One list under its heading, whole.

    Attributes:
        title: Its heading.
        lines: Its lines.
        of: What it is about, for the heading in the annex.
    """

    title: str
    lines: tuple[LazyText, ...]
    of: str

    @property
    def annexed(self) -> bool:
        """Return whether it stands in the annexes."""
        return len(self.lines) > MOST

    @property
    def shown(self) -> tuple[LazyText, ...]:
        """Return what stands under the heading on the page itself."""
        if self.annexed:
            words = N_("{count} lines, listed in the annexes")
            return (LazyText(words, {"count": len(self.lines)}),)
        return self.lines or (LazyText(NOTHING),)
