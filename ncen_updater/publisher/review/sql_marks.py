"""What a person has to look at in the SQL of a release. Pure.

It is no judgement: a good migration deletes and changes, too. Whatever is not known to be harmless
is marked, so that a way of saying it that nobody thought of is marked as unusual.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from ncen_updater.common.i18n import N_
from ncen_updater.formats.sql import Statement, split

__all__ = ["KEPT", "Kind", "Mark", "marks"]

#: Where a ``down`` file puts what the older shape cannot hold; it comes back with the upgrade.
KEPT = "ncen_kept"


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
    """

    line: int
    last: int
    kinds: tuple[Kind, ...]
    text: str


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
_QUESTIONS = {"SELECT", "WITH", "VALUES", "TABLE", "(", "PERFORM", "EXPLAIN"}
SHOWN = 100


def marks(sql: str, engines: Sequence[str]) -> list[Mark]:
    """Every statement to look at, as each of the engines reads the text.

    Args:
        sql: An ``up``, ``down`` or ``verify`` file.
        engines: Those that it may run on.
    """
    found: dict[tuple[int, int], Mark] = {}
    for engine in engines:
        for statement in split(sql, engine):
            kinds = tuple(kind for kind in Kind if kind in set(_kinds(statement.words)))
            last = statement.line + statement.text.count("\n")
            place = (statement.line, last)
            before = found[place].kinds if place in found else ()
            if kinds:
                both = tuple(kind for kind in Kind if kind in {*before, *kinds})
                found[place] = Mark(statement.line, last, both, _short(statement))
    return [found[place] for place in sorted(found)]


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
    if head == "ALTER" and "TYPE" in words and "USING" in words:
        yield Kind.CHANGES
    if "INSERT" in words or head == "REPLACE":
        yield Kind.ADDS
    if _DROPS & set(words):
        yield Kind.DROPS
    if "RENAME" in words:
        yield Kind.RENAMES
    if ("GRANT" in words or "REVOKE" in words) or (head in _DEFINES and _RIGHTS & set(words)):
        yield Kind.RIGHTS
    runs = head in ("DO", "CALL", "LOAD", "EXECUTE", "PREPARE") or "PROGRAM" in words
    if runs or (head in _DEFINES and _CODE & set(words)):
        yield Kind.CODE
    if head in _QUESTIONS or _fills(head, words, pairs):
        yield Kind.CALLS
    if head not in _QUESTIONS and not _usual(head, words):
        yield Kind.OTHER


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
