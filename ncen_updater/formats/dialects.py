"""SQL dialects of the database engines, for the SQL reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

BYTE_ORDER_MARK: Final = "\ufeff"

# A token is a string or comment (skipped whole), a word, or one character. Spaces and letters
# differ between engines: for PostgreSQL a no-break space is a letter, for SQLite a byte order mark
# is a space, and a carriage return ends a comment only in PostgreSQL.
STRING_PATTERN = r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|"""
WORD_PATTERN = r"""[A-Za-z_\u0080-\U0010ffff][\w$\u0080-\U0010ffff]*|\d\w*|"""


@dataclass(frozen=True)
class SqlStatement:
    """One statement without its semicolon.

    Attributes:
        text: The text from its first to its last character.
        line: Line of its first character in the file, from 1.
        words: Words outside strings and comments, in upper case, and one-character tokens.
    """

    text: str
    line: int
    words: tuple[str, ...]


def _refuse_nothing(_statement: SqlStatement, _lexemes: Callable[[], list[str]]) -> str | None:
    return None


def _require_nothing(_words: tuple[str, ...]) -> str | None:
    return None


@dataclass(frozen=True)
class SqlDialect:
    """What the SQL reader needs to know about a database engine.

    Attributes:
        title: Name for display.
        tokens: Pattern of the next token; compiled on first use, which takes 10 ms.
        spaces: Characters allowed between tokens.
        query_keywords: Words with which a query may begin.
        parameter_marks: Characters that mark a parameter.
        bodies: Objects whose CREATE may contain statements: the keyword, and among how many first
            words of CREATE it must be.
        body_openers: Keywords that open such a body.
        nests_comments: Whether comments nest; then ``tokens`` has the groups ``open`` for a comment
            and ``tag`` for a dollar quote.
        statements_with_parameters: First words of statements that may have parameters.
        allows_parenthesized_query: Whether a whole query may be in parentheses.
        find_forbidden_word: Returns the engine's own words that no migration may contain; called
            with the statement's lexemes.
        find_nontransactional_word: Returns the words because of which a statement cannot run in a
            transaction, besides those of all engines.
    """

    title: str
    tokens: str
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
    find_nontransactional_word: Callable[[tuple[str, ...]], str | None] = _require_nothing


_ESCAPED = r"""'(?:[^'\\]|\\.|'')*'"""
# A string continues after a line break, with the same quoting. The pattern must match in only one
# way: otherwise many comment lines would cause exponential backtracking.
_GOES_ON = r"""[ \t\f\v]*(?:--[^\n\r]*)?[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*[\n\r])*"""
_POSTGRESQL_TOKENS = (
    rf"""(?s)[eE]{_ESCAPED}(?:{_GOES_ON}{_ESCAPED})*"""
    r"""|(?P<open>/\*)|\$(?P<tag>(?:[A-Za-z_\u0080-\U0010ffff][\w\u0080-\U0010ffff]*)?)\$"""
    rf"""|--[^\n\r]*|{STRING_PATTERN}{WORD_PATTERN}[ \t\n\r\f\v]+|."""
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


_SQLITE_TOKENS = (
    r"""(?s)/\*.*?(?:\*/|\Z)|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|"""
    rf"""[ \t\n\r\f\ufeff]+|{STRING_PATTERN}{WORD_PATTERN}."""
)
#: PRAGMAs that a migration may need; others can change how the file is written or found.
ALLOWED_PRAGMAS: Final = frozenset(
    {
        "defer_foreign_keys", "foreign_key_check", "foreign_key_list", "index_info", "index_list",
        "integrity_check", "legacy_alter_table", "quick_check", "table_info", "table_list",
        "table_xinfo", "user_version",
    }
)  # fmt: skip


def _find_forbidden_word(statement: SqlStatement, lexemes: Callable[[], list[str]]) -> str | None:
    words = statement.words
    if words[:1] == ("VACUUM",) and len(words) > 1:  # VACUUM INTO attaches its output file
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


#: Dialects by their name in manifests and in paths of releases.
DIALECTS: Final[Mapping[str, SqlDialect]] = {
    "postgresql": POSTGRESQL,
    "sqlite": SQLITE,
}
