"""What a person has to look at in the SQL of a release. Pure.

It is no judgement: a good migration deletes and changes, too. Whatever is not known to be harmless
is marked, so that a way of saying it that nobody thought of is marked as unusual. What going back
does not keep is no matter of marks: :mod:`ncen_updater.formats.losses` reads it, for this page, for
``lint`` and for the sites.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ncen_updater.common.i18n import N_, Text
from ncen_updater.formats.dialects.base import Statement
from ncen_updater.formats.sql import lexemes, split
from ncen_updater.publisher.review.sql_clauses import (
    EMPTIED,
    Kind,
    calls_unknown,
    known_kinds,
    tokens_of,
    unknown_kind,
)  # fmt: skip
from ncen_updater.publisher.review.sql_code import Program, can_run, program_of
from ncen_updater.publisher.review.sql_own import fills_own, made_tables, undoes


@dataclass(frozen=True)
class Mark:
    """One statement to look at.

    Attributes:
        line: Of its first character, from 1.
        last: Of its last character.
        kinds: What it does.
        inside: What the program does that it defines or runs.
        text: Its beginning, in one line.
        own: Whether it touches nothing but what the release itself made, or undoes it.
        same: All of it in one form, in which both engines' statements are compared.
    """

    line: int
    last: int
    kinds: tuple[Kind, ...]
    text: str
    own: bool = False
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
#: Of these their kind says all; whatever else a file begins with is compared with known clauses.
_SAID_BY_KIND = {"DELETE", "DROP", "INSERT", "MERGE", "REPLACE", "TRUNCATE", "UPDATE"}
_QUESTIONS = {"SELECT", "WITH", "VALUES", "TABLE", "(", "PERFORM", "EXPLAIN"}
SHOWN = 100


def marks(sql: str, engines: Sequence[str], direction: str = "up", *, up: str = "") -> list[Mark]:
    """Every statement to look at, as each of the engines reads the text.

    Args:
        sql: An ``up``, ``down`` or ``verify`` file, or a question of the manifest.
        engines: Those that it may run on.
        direction: Which of these; a question is a ``verify``, which a site asks and which changes
            nothing there.
        up: For a ``down`` file, what it goes back from.
    """
    found: dict[tuple[int, int, str], Mark] = {}
    read = {engine: _placed(sql, engine) for engine in engines}
    for engine in engines:
        mine, harmless = fills_own(sql, engine), {Kind.ADDS, Kind.CHANGES}
        if direction == "down":
            mine, harmless = undoes(up, sql, engine), set(Kind) - {Kind.CALLS}
        made, pieces = made_tables(sql, engine), _pieces(engine, read)
        for number, (start, statement) in enumerate(read[engine]):
            before = bisect_right(pieces, (start, len(sql)))
            if before and start < pieces[before - 1][1]:
                continue
            program = program_of(statement, engine)
            tokens = tokens_of(statement, engine)
            named = set(_kinds(statement, tokens, program, made))
            if direction == "verify":
                named = set(_asked(tokens))
            elif direction == "up" and EMPTIED.fullmatch(" ".join(tokens)):
                named = {Kind.EMPTIES} | (named & {Kind.CALLS})
            inside = set(_inside(program))
            if not named:
                continue
            last = statement.line + statement.text.count("\n")
            place = (statement.line, last, statement.text)
            own = mine[number] and not program and named <= harmless
            if known := found.get(place):  # two engines may read it as two things
                named |= set(known.kinds)
                inside |= set(known.inside)
                own = own and known.own
            kinds, within = (tuple(k for k in Kind if k in said) for said in (named, inside))
            same = _same(lexemes(statement.text, engine))
            short = _short(statement)
            found[place] = Mark(statement.line, last, kinds, short, own, same, within)
    return [found[place] for place in sorted(found, key=lambda place: place[:2])]


def _placed(sql: str, engine: str) -> list[tuple[int, Statement]]:
    """Each statement with the place of its first character."""
    found, end = [], 0
    for statement in split(sql, engine):
        start = sql.index(statement.text, end)
        end = start + len(statement.text)
        found.append((start, statement))
    return found


def _pieces(
    engine: str, read: Mapping[str, Sequence[tuple[int, Statement]]]
) -> list[tuple[int, int]]:
    """Where the other engine reads a program whole, of which this one cuts pieces, and runs none.

    An engine that has no such programs cuts one at each semicolon in it, and runs no piece: it
    refuses the program's head, and with it the file.
    """
    refused = {place for place, statement in read[engine] if not can_run(statement, engine)}
    return [
        (place, place + len(statement.text))
        for other, statements in read.items()
        for place, statement in statements
        if place in refused and other != engine and can_run(statement, other)
    ]


def _same(words: Sequence[str]) -> str:
    """One text for a statement, whatever its spaces and wherever the engine parks."""
    text = " ".join(words)
    return text.replace("NCEN_KEPT . ", "NCEN_KEPT__")


def _short(statement: Statement) -> str:
    text = " ".join(statement.text.split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _kinds(
    statement: Statement, tokens: Sequence[str], program: Program | None, made: Collection[str]
) -> Iterator[Kind]:
    words = statement.words
    head = words[0] if words else ""
    if program is not None:
        yield Kind.BY_ITSELF if program.by_itself else Kind.CODE
        if set(_pairs(program.head)) & _OF_OTHERS:
            yield Kind.RIGHTS
        return
    if head in ("GRANT", "REVOKE") or words[:2] in _RIGHTS_ONLY:
        yield Kind.RIGHTS  # it names what others may do, and does none of it
        return
    known = known_kinds(tokens, made)
    found = list(known if known is not None else (*_done(words), *_shaped(head, words)))
    if head not in ("COMMENT", "DROP") and Kind.CODE not in found and calls_unknown(tokens):
        found.append(Kind.CALLS)
    if known is None and head not in _SAID_BY_KIND and not set(found) - {Kind.ADDS, Kind.RENAMES}:
        found.append(unknown_kind(tokens))
    yield from found


def _asked(tokens: Sequence[str]) -> Iterator[Kind]:
    """What a question does that a site asks in a transaction that may only read."""
    yield from _done(tuple(tokens))
    if calls_unknown(tokens):
        yield Kind.CALLS


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
    if words[:2] == ("ALTER", "TABLE") and "TYPE" in words:  # it may hold less
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
    defines = head in _DEFINES
    if "GRANT" in words or "REVOKE" in words or (defines and _RIGHTS & set(words)):
        yield Kind.RIGHTS
    runs = head in ("CALL", "LOAD", "EXECUTE", "PREPARE") or "PROGRAM" in words
    if head == "ALTER" and _SWITCHES & set(words) and {"TRIGGER", "RULE"} & set(words):
        yield Kind.SWITCHES
    elif runs or (defines and head != "DROP" and _CODE & set(words)):
        yield Kind.CODE
    if head in _QUESTIONS:
        yield Kind.CALLS
