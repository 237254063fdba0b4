"""What a person has to look at in the SQL of a release. Pure.

It is no judgement: a good migration deletes and changes, too. Whatever is not known to be harmless
is marked, so that a way of saying it that nobody thought of is marked as unusual. What going back
does not keep is no matter of marks: :mod:`ncen_updater.formats.losses` reads it, for this page, for
``lint`` and for the sites.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from ncen_updater.common.i18n import N_, Text
from ncen_updater.formats.losses import Own, own
from ncen_updater.formats.sql import Statement, lexemes, split
from ncen_updater.publisher.review.sql_code import Program, can_run, program_of

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
    BY_ITSELF = N_("puts a program into the database that runs by itself at each change")
    SWITCHES = N_("switches programs of the database on or off")
    UNCODES = N_("takes a program out of the database")
    UNREAD = N_("runs statements that cannot be read here")
    CALLS = N_("runs a function")
    OTHER = N_("is of an unusual kind")


@dataclass(frozen=True)
class Mark:
    """One statement to look at.

    Attributes:
        line: Of its first character, from 1.
        last: Of its last character.
        kinds: What it does.
        inside: What the program does that it defines or runs.
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
    inside: tuple[Kind, ...] = ()

    @property
    def said(self) -> tuple[Text, ...]:
        """What it does, one sentence each."""
        body = N_("its body {kind}")
        return (
            *(Text(kind.value) for kind in self.kinds),
            *(Text(body, {"kind": Text(kind.value)}) for kind in self.inside),
        )


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
_DEFINES = {"ALTER", "CREATE", "DROP", "GRANT", "REVOKE", "REASSIGN", "SECURITY"}
#: What is only about rights, whatever it names that somebody may do.
_RIGHTS_ONLY = {("CREATE", "POLICY"), ("ALTER", "DEFAULT")}
#: In the head of a program: with whose rights it runs.
_OF_OTHERS = {("SECURITY", "DEFINER"), ("SET", "ROLE"), ("SET", "SESSION")}
_SWITCHES = {"DISABLE", "ENABLE"}
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
    read = {engine: _placed(sql, engine) for engine in engines}
    for engine in engines:
        mine = own(sql, down, engine) if down is not None else ()
        for number, (start, statement) in enumerate(read[engine]):
            if _in_another(start, engine, read):
                continue
            program = program_of(statement, engine)
            named = set(_kinds(statement, engine, program))
            inside = set(_inside(program))
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
                inside |= set(before.inside)
                why = why if why is before.own else None
            kinds, within = (tuple(k for k in Kind if k in said) for said in (named, inside))
            same = _same(lexemes(statement.text, engine))
            short = _short(statement)
            found[place] = Mark(statement.line, last, kinds, short, why, same, within)
    return [found[place] for place in sorted(found, key=lambda place: place[:2])]


def _placed(sql: str, engine: str) -> list[tuple[int, Statement]]:
    """Each statement with the place of its first character."""
    found, end = [], 0
    for statement in split(sql, engine):
        start = sql.index(statement.text, end)
        end = start + len(statement.text)
        found.append((start, statement))
    return found


def _in_another(
    start: int, engine: str, read: Mapping[str, Sequence[tuple[int, Statement]]]
) -> bool:
    """Whether a statement is a piece of a program that the other engine reads whole.

    An engine that has no such programs cuts one at each semicolon in it, and runs no piece: it
    refuses the program's head, and with it the file.
    """
    refused = {place for place, statement in read[engine] if not can_run(statement, engine)}
    return any(
        place <= start < place + len(statement.text)
        for other, statements in read.items()
        for place, statement in statements
        if place in refused and other != engine and can_run(statement, other)
    )


def _same(words: Sequence[str]) -> str:
    """One text for a statement, whatever its spaces and wherever the engine parks."""
    text = " ".join(words)
    return text.replace("NCEN_KEPT . ", "NCEN_KEPT__")


def _short(statement: Statement) -> str:
    text = " ".join(statement.text.split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _kinds(statement: Statement, engine: str, program: Program | None) -> Iterator[Kind]:
    words = statement.words
    head = words[0] if words else ""
    if program is not None:
        yield Kind.BY_ITSELF if program.by_itself else Kind.CODE
        if set(_pairs(program.head)) & _OF_OTHERS:
            yield Kind.RIGHTS
    elif head in ("GRANT", "REVOKE") or words[:2] in _RIGHTS_ONLY:
        yield Kind.RIGHTS  # it names what others may do, and does none of it
    else:
        yield from _done(words)
        yield from _shaped(head, words)
        yield from _called(statement, engine)


def _inside(program: Program | None) -> Iterator[Kind]:
    if program is None:
        return
    for words in program.inside:
        yield from _done(words)
        if "GRANT" in words or "REVOKE" in words:
            yield Kind.RIGHTS
    if program.unread:
        yield Kind.UNREAD


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(("", *words), words, strict=False))


def _done(words: tuple[str, ...]) -> Iterator[Kind]:
    """What is done to records and to parts of the database."""
    head, pairs = words[0] if words else "", _pairs(words)
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
        code = (words[1:2] and words[1] in _CODE) or words[1:3] == ("EVENT", "TRIGGER")
        yield Kind.UNCODES if head == "DROP" and code else Kind.DROPS
    if "RENAME" in words or (head == "ALTER" and ("SET", "SCHEMA") in pairs):
        yield Kind.RENAMES


def _shaped(head: str, words: tuple[str, ...]) -> Iterator[Kind]:
    """What is made of the database, and what runs for it."""
    defines = head in _DEFINES and not _new_table(words)
    if ("GRANT" in words or "REVOKE" in words) or (defines and _RIGHTS & set(words)):
        yield Kind.RIGHTS
    runs = head in ("CALL", "LOAD", "EXECUTE", "PREPARE") or "PROGRAM" in words
    if head == "ALTER" and _SWITCHES & set(words) and {"TRIGGER", "RULE"} & set(words):
        yield Kind.SWITCHES
    elif runs or (defines and head != "DROP" and _CODE & set(words)):
        yield Kind.CODE
    if head in _QUESTIONS or _fills(head, words, _pairs(words)):
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
