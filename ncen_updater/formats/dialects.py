"""SQL dialects of the database engines, for the one reader of SQL."""

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


_ESCAPED = r"""'(?:[^'\\]|\\.|'')*'"""
# A string goes on after a new line, in the manner in which it began. There must be one way only to
# match it: of lines of dashes nobody would see the end.
_GOES_ON = r"""[ \t\f\v]*(?:--[^\n\r]*)?[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*[\n\r])*"""
_POSTGRESQL_TOKENS = re.compile(
    rf"""[eE]{_ESCAPED}(?:{_GOES_ON}{_ESCAPED})*"""
    r"""|(?P<open>/\*)|\$(?P<tag>(?:[A-Za-z_\u0080-\U0010ffff][\w\u0080-\U0010ffff]*)?)\$"""
    rf"""|--[^\n\r]*|{STRING_PATTERN}{WORD_PATTERN}[ \t\n\r\f\v]+|.""",
    re.DOTALL,
)


def _find_nontransactional_word(words: tuple[str, ...]) -> str | None:
    if words[:1] == ("REINDEX",):
        what = words[words.index(")") + 1 :] if words[1:2] == ("(",) and ")" in words else words[1:]
        if what[:1] and what[0] in ("DATABASE", "SCHEMA", "SYSTEM"):
            return f"REINDEX {what[0]}"
    if words[:2] in (("CREATE", "TABLESPACE"), ("DROP", "TABLESPACE")):
        return " ".join(words[:2])
    return "CLUSTER" if words == ("CLUSTER",) else None


POSTGRESQL: Final = SqlDialect(
    title="PostgreSQL",
    tokens=_POSTGRESQL_TOKENS,
    spaces=" \t\n\r\f\v",
    query_keywords=frozenset({"SELECT", "WITH", "VALUES", "TABLE", "("}),
    parameter_marks=frozenset({"$"}),
    bodies={"FUNCTION": 4, "PROCEDURE": 4},
    body_openers=("BEGIN", "ATOMIC"),
    nests_comments=True,
    statements_with_parameters=frozenset({"PREPARE", "CREATE"}),
    find_nontransactional_word=_find_nontransactional_word,
)


_SQLITE_TOKENS = re.compile(
    r"""/\*.*?(?:\*/|\Z)|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|"""
    rf"""[ \t\n\r\f\ufeff]+|{STRING_PATTERN}{WORD_PATTERN}.""",
    re.DOTALL,
)
#: Those that a migration may need; any other may change how the file is written or found.
ALLOWED_PRAGMAS: Final = frozenset(
    {
        "defer_foreign_keys", "foreign_key_check", "foreign_key_list", "index_info", "index_list",
        "integrity_check", "legacy_alter_table", "quick_check", "table_info", "table_list",
        "table_xinfo", "user_version",
    }
)  # fmt: skip


def _find_forbidden_word(statement: SqlStatement, lexemes: Callable[[], list[str]]) -> str | None:
    words = statement.words
    if words[:1] == ("VACUUM",) and len(words) > 1:  # it would attach what it writes to
        return " ".join(words[:2]).strip()
    if words[:1] == ("PRAGMA",):
        value = lexemes()[1:]
        name = "".join((value[2:] if value[1:2] == ["."] else value)[:1]).lower()
        return None if name in ALLOWED_PRAGMAS else f"PRAGMA {name}"
    return None


SQLITE: Final = SqlDialect(
    title="SQLite",
    tokens=_SQLITE_TOKENS,
    spaces=f" \t\n\r\f{BYTE_ORDER_MARK}",
    query_keywords=frozenset({"SELECT", "WITH", "VALUES", "("}),
    parameter_marks=frozenset({"?", ":", "@", "$"}),
    bodies={"TRIGGER": 3},
    allows_parenthesized_query=False,
    find_forbidden_word=_find_forbidden_word,
)


#: Name in manifests and in paths of releases, to dialect.
DIALECTS: Final[Mapping[str, SqlDialect]] = {
    "postgresql": POSTGRESQL,
    "sqlite": SQLITE,
}
