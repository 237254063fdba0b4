"""What a person has to look at in the SQL of a release. Pure.

It is no judgement: a good migration deletes and changes, too. Whatever is not known to be harmless
is marked, so that a way of saying it that nobody thought of is marked as unusual. What going back
does not keep is no matter of marks: :mod:`ncen_updater.formats.losses` reads it, for this page, for
``lint`` and for the sites.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from ncen_updater.common.i18n import N_
from ncen_updater.formats.losses import Own, own
from ncen_updater.formats.sql import Statement, lexemes, split

__all__ = ["Kind", "Mark", "marks"]


class Kind(Enum):
    """What a statement does that an officer should have decided."""

    DELETES = N_("deletes records")
    CHANGES = N_("changes records")
    ADDS = N_("adds records")
    DROPS = N_("removes a part of the database")
    RENAMES = N_("gives another name")
    RIGHTS = N_("changes who may do what")
    CODE = N_("puts a program into the database, or runs one")
    CALLS = N_("runs a function")
    OTHER = N_("is of an unusual kind")


@dataclass(frozen=True)
class Mark:
    """One statement to look at.

    Attributes:
        line: Of its first character, from 1.
        last: Of its last character.
        kinds: What it does.
        text: Its beginning, in one line.
        own: Why it touches nothing but what the release itself made; None if it may.
        same: All of it in one form, in which both engines' statements are compared.
    """

    line: int
    last: int
    kinds: tuple[Kind, ...]
    text: str
    own: Own | None = None
    same: str = ""


_DROPS = {"DROP", "DETACH"}
_RIGHTS = {
    "AUTHORIZATION", "GRANT", "GROUP", "OWNED", "OWNER", "POLICY", "PRIVILEGES", "REVOKE", "ROLE",
    "SECURITY", "SECURITY_INVOKER", "USER",
}  # fmt: skip
_CODE = {
    "AGGREGATE", "CALL", "CAST", "DO", "EXECUTE", "EXTENSION", "FUNCTION", "LANGUAGE", "LOAD",
    "OPERATOR", "PROCEDURE", "PROGRAM", "PUBLICATION", "ROUTINE", "RULE", "SERVER", "SUBSCRIPTION",
    "TRIGGER", "WRAPPER",
}  # fmt: skip
#: A word of these sets says it wherever it stands, for heads that define something.
_DEFINES = {"ALTER", "COMMENT", "CREATE", "DROP", "GRANT", "REVOKE", "REASSIGN", "SECURITY"}
_HARMLESS_HEADS = {
    "ANALYZE", "CLUSTER", "COMMENT", "DELETE", "DROP", "GRANT", "INSERT", "MERGE", "PRAGMA",
    "REINDEX", "REPLACE", "REVOKE", "TRUNCATE", "UPDATE", "VACUUM", "DO", "CALL",
}  # fmt: skip
_HARMLESS_THINGS = {
    "COLUMN", "INDEX", "SCHEMA", "SEQUENCE", "TABLE", "TEMP", "TEMPORARY", "TYPE", "UNIQUE",
    "UNLOGGED", "VIEW", "MATERIALIZED",
}  # fmt: skip
#: What may be done to what the release itself made, without anybody having to decide it.
_HARMLESS = {
    Own.NEW: {Kind.ADDS, Kind.CHANGES},
    Own.PARKED: {Kind.DELETES, Kind.DROPS},
}
_TABLE_KINDS = {"GLOBAL", "LOCAL", "TEMP", "TEMPORARY", "UNLOGGED"}
#: Statements in which a bracket behind a name is a function that is run.
_RUNS = {"DELETE", "INSERT", "MERGE", "REPLACE", "UPDATE"}
#: Before a name that is a table's, whatever stands behind it.
_TABLE_NEXT = {"AS", "EXISTS", "INTO", "REFERENCES", "TABLE", "VIEW", "WITH"}
#: Functions that only reckon, types with a length, and words that are no names.
_KNOWN = {
    "ABS", "ALL", "ALWAYS", "AND", "ANY", "ARRAY", "ARRAY_AGG", "AS", "AVG", "BETWEEN", "BIGINT",
    "BIT", "BTRIM", "BY", "CASE", "CAST", "CHAR", "CHAR_LENGTH", "CHARACTER", "CHECK", "COALESCE",
    "COLUMN", "CONCAT", "CONCAT_WS", "CONFLICT", "COUNT", "DATE", "DATE_PART", "DATE_TRUNC",
    "DATETIME", "DECIMAL", "DEFAULT", "DENSE_RANK", "DISTINCT", "ELSE", "EXCEPT",
    "EXCLUDE", "EXISTS",
    "EXTRACT", "FILTER", "FLOAT", "FROM", "GEN_RANDOM_UUID", "GREATEST", "GROUP", "HAVING",
    "IDENTITY", "IFNULL", "IN", "INCLUDE", "INT", "INTEGER", "INTERSECT", "INTERVAL", "IS", "JOIN",
    "JSONB_BUILD_OBJECT", "JSON_BUILD_OBJECT", "JULIANDAY", "KEY", "LATERAL", "LEAST", "LEFT",
    "LENGTH", "LIKE", "LOWER", "LPAD", "LTRIM", "MATERIALIZED", "MAX", "MD5", "MIN", "NCHAR",
    "NOT", "NOW", "NULL", "NULLIF", "NUMERIC", "NVARCHAR", "ON", "ONLY", "OR", "OVER",
    "POSITION", "PRIMARY", "RANDOM", "RANGE", "RANK", "REPLACE", "RETURNING", "RIGHT", "ROUND",
    "ROW", "ROW_NUMBER", "RPAD", "RTRIM", "SELECT", "SET", "SOME", "SPLIT_PART", "STRFTIME",
    "STRING_AGG", "SUBSTR", "SUBSTRING", "SUM", "TEXT", "THEN", "TIME", "TIMESTAMP", "TO_CHAR",
    "TO_DATE", "TO_TIMESTAMP", "TRIM", "UNION", "UNIQUE", "UPPER", "USING", "VALUES", "VARBIT",
    "VARCHAR", "VARYING", "WHEN", "WHERE", "WITH", "WITHIN",
}  # fmt: skip
_SET_DATA = ("SET", "DATA")
#: Types, without a length, that hold what stood there.
_HOLDS_ALL = {("TEXT",), ("VARCHAR",), ("NUMERIC",), ("DECIMAL",)}
_QUESTIONS = {"SELECT", "WITH", "VALUES", "TABLE", "(", "PERFORM", "EXPLAIN"}
SHOWN = 100


def marks(sql: str, engines: Sequence[str], down: str | None = None) -> list[Mark]:
    """Every statement to look at, as each of the engines reads the text.

    Args:
        sql: An ``up``, ``down`` or ``verify`` file.
        engines: Those that it may run on.
        down: For an ``up`` file, the way back from it; empty if there is none.
    """
    found: dict[tuple[int, int, str], Mark] = {}
    for engine in engines:
        mine = own(sql, down, engine) if down is not None else ()
        for number, statement in enumerate(split(sql, engine)):
            named = set(_kinds(statement.words)) | set(_called(statement, engine))
            if not named:
                continue
            last = statement.line + statement.text.count("\n")
            place = (statement.line, last, statement.text)
            why = mine[number] if mine else None
            if why is not None and not named <= _HARMLESS[why]:
                why = None
            before = found.get(place)
            if before is not None:  # two engines may read it as two things
                named |= set(before.kinds)
                why = why if why is before.own else None
            kinds = tuple(kind for kind in Kind if kind in named)
            same = _same(lexemes(statement.text, engine))
            found[place] = Mark(statement.line, last, kinds, _short(statement), why, same)
    return [found[place] for place in sorted(found, key=lambda place: place[:2])]


def _same(words: Sequence[str]) -> str:
    """One text for a statement, whatever its spaces and wherever the engine parks."""
    text = " ".join(words)
    return text.replace("NCEN_KEPT . ", "NCEN_KEPT__")


def _short(statement: Statement) -> str:
    text = " ".join(statement.text.split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _kinds(words: tuple[str, ...]) -> Iterator[Kind]:
    head = words[0] if words else ""
    pairs = list(zip(("", *words), words, strict=False))
    if any(word == "TRUNCATE" or (word == "DELETE" and before != "ON") for before, word in pairs):
        yield Kind.DELETES
    if any(
        word == "MERGE"
        or (word == "UPDATE" and before not in ("ON", "FOR", "KEY"))
        or (word == "REPLACE" and before in ("", "OR") and head != "CREATE")
        for before, word in pairs
    ):
        yield Kind.CHANGES
    if head == "ALTER" and "TABLE" in words[1:2] and _converts(words):
        yield Kind.CHANGES
    if "INSERT" in words or head == "REPLACE":
        yield Kind.ADDS
    if _DROPS & set(words):
        yield Kind.DROPS
    if "RENAME" in words or (head == "ALTER" and ("SET", "SCHEMA") in pairs):
        yield Kind.RENAMES
    defines = head in _DEFINES and not _new_table(words)
    if ("GRANT" in words or "REVOKE" in words) or (defines and _RIGHTS & set(words)):
        yield Kind.RIGHTS
    runs = head in ("DO", "CALL", "LOAD", "EXECUTE", "PREPARE") or "PROGRAM" in words
    if runs or (defines and _CODE & set(words)):
        yield Kind.CODE
    if head in _QUESTIONS or _fills(head, words, pairs):
        yield Kind.CALLS
    if head not in _QUESTIONS and not _usual(head, words):
        yield Kind.OTHER
    if head in ("ALTER", "CREATE") and "UNLOGGED" in words:
        yield Kind.OTHER  # a server that falls empties it


def _converts(words: tuple[str, ...]) -> bool:
    """Whether a column gets a type that may hold less: a date of a time, a number without parts."""
    for place, word in enumerate(words):
        before = words[max(0, place - 2) : place]
        if word == "TYPE" and (before[:1] in (("ALTER",), ("COLUMN",)) or before == _SET_DATA):
            kind = words[place + 1 : place + 3]
            if kind[:1] not in _HOLDS_ALL or kind[1:] == ("(",) or "USING" in words[place:]:
                return True
    return False


def _followers(words: Sequence[str]) -> bool:
    """Whether rows of a table are to go, or change, with what is parked."""
    return any(
        word == "REFERENCES" and after.strip('"`[').upper().startswith("NCEN_KEPT")
        for word, after in itertools.pairwise(words)
    )


def _new_table(words: tuple[str, ...]) -> bool:
    """Whether a table is made: its columns ("role", "language") give and run nothing."""
    rest = [word for word in words[1:4] if word not in _TABLE_KINDS]
    return words[:1] == ("CREATE",) and rest[:1] == ["TABLE"]


def _called(statement: Statement, engine: str) -> Iterator[Kind]:
    """Whether a statement that changes something runs a function that is not known to be none."""
    words = lexemes(statement.text, engine)
    if _followers(words):
        yield Kind.OTHER
    # What a view runs is run by whoever reads it, as a statement that only fills a table.
    made = words[:1] in (["CREATE"], ["ALTER"]) and {"TABLE", "VIEW"} & set(words[1:6])
    if made or (words and words[0] in _RUNS):
        for place, word in enumerate(words[:-1]):
            named = word[0].isalpha() or (len(word) > 1 and word[0] in '_"`[')
            if named and words[place + 1] == "(" and not _no_call(words, place):
                yield Kind.CALLS
                return


def _no_call(words: Sequence[str], place: int) -> bool:
    first = place
    while first > 1 and words[first - 1] == ".":
        first -= 2
    before = words[first - 1] if first else ""
    return before in _TABLE_NEXT or (first == place and words[place] in _KNOWN)


def _fills(head: str, words: tuple[str, ...], pairs: list[tuple[str, str]]) -> bool:
    """Whether a table or a view is made of what a question finds, which is asked then."""
    made = head == "CREATE" and ("TABLE" in words[1:4] or "MATERIALIZED" in words[1:2])
    return made and (bool({"SELECT", "EXECUTE"} & set(words)) or ("AS", "VALUES") in pairs)


def _usual(head: str, words: tuple[str, ...]) -> bool:
    if head in _HARMLESS_HEADS:
        return True
    if head not in ("CREATE", "ALTER"):
        return False
    named = [word for word in words[1:4] if word not in ("OR", "REPLACE")]
    return bool(named) and (named[0] in _HARMLESS_THINGS or bool((_CODE | _RIGHTS) & set(named)))
