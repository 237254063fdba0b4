"""SQL files cut into statements: enough of the lexical rules to know where one ends.

Comments, strings, quoted names, dollar quotes (PostgreSQL) and the bodies of triggers (SQLite) and
of SQL-standard functions (PostgreSQL) are understood; nothing is parsed beyond that. Used to name
the line of a mistake, to run ``verify`` files statement by statement, to show the SQL to a DBA, and
to refuse what a migration must not contain before the server sees it. The refusal here is for a
clear message; the runner checks the transaction itself after every file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Statement", "forbidden", "lexemes", "split"]

# Either something that is skipped whole, or a word, or one character.
_COMMON = r"""--[^\n]*|'(?:[^']|'')*'|"(?:[^"]|"")*"|[^\W\d][\w$]*|\d\w*|\s+|."""
_POSTGRESQL = re.compile(
    r"""[eE]'(?:[^'\\]|\\.|'')*'|(?P<open>/\*)|\$(?P<tag>(?:[^\W\d]\w*)?)\$|""" + _COMMON, re.DOTALL
)
_SQLITE = re.compile(r"""/\*.*?(?:\*/|\Z)|`[^`]*`|\[[^\]]*\]|""" + _COMMON, re.DOTALL)
_NESTED = re.compile(r"/\*|\*/")

_TRANSACTION = {
    "abort", "begin", "commit", "end", "release", "rollback", "savepoint",
}  # fmt: skip


@dataclass(frozen=True)
class Statement:
    """One statement without its semicolon.

    Attributes:
        text: As written, from its first to its last character.
        line: Line of its first character in the file, from 1.
        words: Its words outside strings and comments, upper case; one-character tokens too.
    """

    text: str
    line: int
    words: tuple[str, ...]


def _tokens(sql: str, engine: str) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, word) of all but spaces and comments; no word for strings and names."""
    pattern = _POSTGRESQL if engine == "postgresql" else _SQLITE
    place = 0
    while match := pattern.match(sql, place):
        start, place = match.span()
        token = match[0]
        if engine == "postgresql" and match["open"]:
            place = _comment_end(sql, place)
            continue
        if engine == "postgresql" and match["tag"] is not None:
            close = sql.find(token, place)
            place = len(sql) if close < 0 else close + len(token)
            yield start, place, ""
        elif token.isspace() or token.startswith(("--", "/*")):
            continue
        elif token[0] in "'\"`[" or token.endswith("'"):
            yield start, place, "" if len(token) > 1 else token
        else:
            yield start, place, token.upper()


def lexemes(sql: str, engine: str) -> list[str]:
    """Return a text's tokens in one form: words upper case, strings as they are, no comments.

    Quotes are taken from names that need none, so that ``"id"`` and ``id`` are the same.
    """
    found = []
    for start, end, word in _tokens(sql, engine):
        text = sql[start:end]
        plain = len(text) > 2 and text[0] in '"`[' and text[1:-1].isidentifier()
        found.append(text[1:-1].upper() if plain else word or text)
    return found


def _comment_end(sql: str, place: int) -> int:
    depth = 1
    while depth and (match := _NESTED.search(sql, place)):
        depth += 1 if match[0] == "/*" else -1
        place = match.end()
    return place if not depth else len(sql)


def _has_body(words: list[str], engine: str) -> bool:
    """Whether semicolons inside BEGIN ... END belong to this statement."""
    if words[:1] != ["CREATE"]:
        return False
    if engine == "sqlite":
        return "TRIGGER" in words[:3]
    return "FUNCTION" in words[:4] or "PROCEDURE" in words[:4]


def split(sql: str, engine: str) -> tuple[Statement, ...]:
    """Cut a file into its statements; empty ones are left out.

    Args:
        sql: The file's text.
        engine: ``postgresql`` or ``sqlite``.
    """
    found: list[Statement] = []
    words: list[str] = []
    first = last = -1
    depth = 0
    line, counted = 1, 0
    for start, end, word in _tokens(sql, engine):
        if word == ";" and depth == 0:
            if first >= 0:
                line += sql.count("\n", counted, first)
                counted = first
                found.append(Statement(sql[first:last], line, tuple(words)))
            words, first = [], -1
            continue
        if first < 0:
            first = start
        last = end
        words.append(word)
        if _has_body(words[:6], engine):
            opens = word == "CASE" or (
                word == "BEGIN" if engine == "sqlite" else words[-2:] == ["BEGIN", "ATOMIC"]
            )
            # CASE counts inside a body only: both end with END.
            if opens and (depth or word != "CASE"):
                depth += 1
            elif word == "END" and depth:
                depth -= 1
    if first >= 0:
        line += sql.count("\n", counted, first)
        found.append(Statement(sql[first:last], line, tuple(words)))
    return tuple(found)


def forbidden(statement: Statement, *, transactional: bool) -> str | None:
    """Return the words that a migration must not contain, None if all is well.

    Args:
        statement: One statement of the file.
        transactional: Whether it will run inside a transaction.
    """
    words = statement.words
    head = words[0].lower() if words else ""
    if head in _TRANSACTION or words[:2] in (("START", "TRANSACTION"), ("PREPARE", "TRANSACTION")):
        return words[0]
    if head in ("set", "reset") and ("ROLE" in words[1:3] or "AUTHORIZATION" in words[1:4]):
        return " ".join(words[:2])
    if head in ("create", "alter", "drop") and words[1:2] in (("DATABASE",), ("SYSTEM",)):
        return " ".join(words[:2])
    if words[:3] == ("COMMENT", "ON", "DATABASE"):
        return "COMMENT ON DATABASE"
    if head == "copy" and "PROGRAM" in words:
        return "PROGRAM"
    if head in ("attach", "detach"):
        return words[0]
    if transactional and "CONCURRENTLY" in words:
        return "CONCURRENTLY"
    if transactional and head == "vacuum":
        return words[0]
    return None
