# ruff: noqa: S608 - these are patterns, and no SQL
"""Which statements touch nothing but what the release itself made, or exactly undo that. Pure.

It is for showing less of what is harmless, so that it rather says no too often. What a statement
calls is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from ncen_updater.formats.losses import is_plain
from ncen_updater.formats.sql import split
from ncen_updater.publisher.review.sql_clauses import split_parts, tokens_of

_NAME: Final = r"[\w$]+(?: \. [\w$]+)?"
_NUMBER: Final = r"'3[0-9](?:2e|3[0-9])*'"  # a version, as a token
_MADE: Final = re.compile(rf"CREATE TABLE (?!IF NOT EXISTS )({_NAME}) (?:\(|AS ).*")
_ADDED: Final = re.compile(rf"ALTER ({_NAME}) ADD (?!IF |CONSTRAINT )([\w$]+) .*")
#: What a file does, and what exactly undoes it.
_UNDONE_BY: Final = tuple(
    (re.compile(form), undo)
    for form, undo in (
        (_MADE.pattern, r"DROP TABLE \1"),
        (_ADDED.pattern, r"ALTER \1 DROP \2"),
        (rf"CREATE (?:UNIQUE )?INDEX (?:CONCURRENTLY )?(?!IF )({_NAME}) ON .*", r"DROP INDEX \1"),
        (rf"CREATE (VIEW|TYPE|SEQUENCE) (?!IF )({_NAME})(?: .*)?", r"DROP \1 \2"),
        (rf"ALTER ({_NAME}) ADD CONSTRAINT ([\w$]+) .*", r"ALTER \1 DROP CONSTRAINT \2"),
        (rf"ALTER ({_NAME}) RENAME ([\w$]+) TO ([\w$]+)", r"ALTER \1 RENAME \3 TO \2"),
        (rf"ALTER ({_NAME}) ALTER ([\w$]+) DROP NOT NULL", r"ALTER \1 ALTER \2 SET NOT NULL"),
        # A release writes its own number into the one row of the product.
        (rf"UPDATE (\w+_RELEASE) SET (RELEASE|VERSION) = {_NUMBER}", r"UPDATE \1 SET \2 = 0"),
    )
)
_PARKED: Final = r"NCEN_KEPT(?: \. |__)[\w$]+"
_PARKS: Final = re.compile(
    rf"(?!.* (?:CONFLICT|DELETE|INSERT|MERGE|UPDATE) )"
    rf"(?:INSERT INTO|CREATE TABLE(?: IF NOT EXISTS)?) {_PARKED} .*"
)
_WRITES: Final = re.compile(
    r"(?!.* (?:DELETE|INSERT|MERGE|UPDATE) )(?:"
    rf"(?:INSERT INTO|DELETE FROM) (?P<all>{_NAME})(?: .*)?"
    rf"|UPDATE (?P<table>{_NAME}) SET (?P<column>[\w$]+) = [^,]*)"
)


def fills_own(up: str, engine: str) -> list[bool]:
    """Say of each statement of an ``up`` file whether it writes into what the file made before."""
    statements = _read(up, engine)
    plain = is_plain(up, engine) and not _followed(statements)
    moved, made = _moved(statements), set[str]()
    found = []
    for units in statements:
        mine = False
        for unit in units if plain else ():
            made |= {undo for undo in _undoing(unit) if undo.split()[-1] not in moved}
            if unit.startswith("DROP "):
                moved.add(unit.split()[-1])  # it may be another one from here on
            written = _WRITES.fullmatch(unit)
            if written is not None:
                into = {undo for undo in made & _places(written) if undo.split()[-1] not in moved}
                mine = bool(into)
                # What people entered stands there from here on.
                made -= into if "NCEN_KEPT" in unit else set()
        found.append(mine)
    return found


def undoes(up: str, down: str, engine: str) -> list[bool]:
    """Say of each statement of a ``down`` file whether it only undoes ``up``, or parks."""
    there, back = _read(up, engine), _read(down, engine)
    if not (is_plain(up, engine) and is_plain(down, engine)):
        return [False] * len(back)
    moved, writes = _moved([*there, *back]), not _followed(there)
    undoing = {
        undo
        for units in there
        for unit in units
        for undo in _undoing(unit)
        if " DROP " not in f" {undo}" or undo.split()[-1] not in moved
    }

    def is_undoing(unit: str) -> bool:
        written = _WRITES.fullmatch(unit) if writes else None
        mine = written is not None and bool(undoing & _places(written))
        known = {unit, re.sub(_NUMBER, "0", unit)}
        return mine or not undoing.isdisjoint(known) or _PARKS.fullmatch(unit) is not None

    return [all(map(is_undoing, units)) for units in back]


def made_tables(sql: str, engine: str) -> frozenset[str]:
    """The tables that a file makes, as far as that is plain to see."""
    plain = is_plain(sql, engine)
    units = {unit for units in _read(sql, engine) for unit in units} if plain else set[str]()
    made = {found[1] for unit in units if (found := _MADE.fullmatch(unit))}
    return frozenset(name for name in made if f"DROP TABLE {name}" not in units)


def _places(written: re.Match[str]) -> set[str]:
    table = written["all"] or written["table"]
    return {f"DROP TABLE {table}", f"ALTER {table} DROP {written['column']}"}


def _undoing(unit: str) -> Iterator[str]:
    for form, undo in _UNDONE_BY:
        if found := form.fullmatch(unit):
            yield found.expand(undo)


def _moved(statements: Sequence[list[str]]) -> set[str]:
    """What has, or had, another name: it is not what it is called."""
    renames = [unit.split() for units in statements for unit in units if " RENAME " in unit]
    return {name for words in renames for name in (words[-1], words[-3])}


def _followed(statements: Sequence[list[str]]) -> bool:
    """Whether rows of a table follow those of another."""
    return any(re.search(r" ON (?:DELETE|UPDATE) ", unit) for units in statements for unit in units)


@lru_cache(maxsize=8)  # each of a page's files is asked for more than once
def _read(sql: str, engine: str) -> list[list[str]]:
    return [list(_units(tokens_of(statement, engine))) for statement in split(sql, engine)]


def _units(tokens: Sequence[str]) -> Iterator[str]:
    """What a statement does, one text for each part of it."""
    words = " ".join(token.strip('"') for token in tokens)
    words = words.replace(" IF EXISTS ", " ").replace(" COLUMN ", " ")
    head = re.match(rf"(ALTER) TABLE (?:ONLY )?({_NAME}) |(DROP \w+) (?!.*\()", words)
    begin = " ".join(part for part in head.groups() if part) if head else ""
    for part in split_parts(words[head.end() :].split()) if head else [words.split()]:
        yield f"{begin} {' '.join(part)}".strip()
