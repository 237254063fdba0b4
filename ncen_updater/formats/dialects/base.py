"""Differences between the engines' SQL, and the statement type that both readers share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

BYTE_ORDER_MARK: Final = "\ufeff"

# A token is something that is skipped whole, or a word, or one character. What is
# a space or a letter is each engine's own affair: to PostgreSQL a no-break space is a letter, to
# SQLite a byte order mark is a space, and a carriage return ends a comment in the one and not in
# the other.
STRING_PATTERN = r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|"""
WORD_PATTERN = r"""[A-Za-z_\u0080-\U0010ffff][\w$\u0080-\U0010ffff]*|\d\w*|"""


@dataclass(frozen=True)
class SqlStatement:
    """One statement without its semicolon.

    Attributes:
        text: As written, from its first to its last character.
        line: Line of its first character in the file, from 1.
        words: Its words outside strings and comments, upper case; one-character tokens too.
    """

    text: str
    line: int
    words: tuple[str, ...]


def _refuse_nothing(_statement: SqlStatement, _lexemes: Callable[[], list[str]]) -> str | None:
    return None


def _never_outside(_words: tuple[str, ...]) -> str | None:
    return None


@dataclass(frozen=True)
class SqlDialect:
    """What the one reader of SQL knows of an engine.

    Attributes:
        title: Its name, for people.
        tokens: Finds the next token.
        spaces: What may stand between tokens.
        query_keywords: Words with which what is asked may begin.
        parameter_marks: Which mark a place for a value that is given with the statement.
        bodies: What may hold statements of its own: the word, among how many first words of CREATE.
        body_openers: How such a body begins.
        nests_comments: Whether comments nest; then ``tokens`` finds them as ``open``, and quotes by
            ``tag``.
        statements_with_parameters: First words of statements that may hold such places.
        allows_parenthesized_query: Whether a whole question may stand in brackets.
        find_forbidden_word: Words of its own that no migration may contain; asked with the
            statement's lexemes.
        find_nontransactional_word: The words for which a statement refuses a transaction, beyond
            those of all.
    """

    title: str
    tokens: re.Pattern[str]
    spaces: str
    query_keywords: frozenset[str]
    parameter_marks: frozenset[str]
    bodies: Mapping[str, int] = field(default_factory=dict)
    body_openers: tuple[str, ...] = ("BEGIN",)
    nests_comments: bool = False
    statements_with_parameters: frozenset[str] = frozenset()
    allows_parenthesized_query: bool = True
    find_forbidden_word: Callable[[SqlStatement, Callable[[], list[str]]], str | None] = (
        _refuse_nothing
    )
    find_nontransactional_word: Callable[[tuple[str, ...]], str | None] = _never_outside
