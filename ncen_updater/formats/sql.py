"""SQL reader: splits files into statements, and refuses SQL that sites do not run.

It understands comments, strings, quoted names, dollar quotes, and the bodies of triggers and of
SQL-standard functions in each engine's dialect (``dialects``), and parses nothing else. The
publisher's ``lint`` and the agent's migration runner call the same functions and give the same
reasons, so that sites accept what was signed. In addition, the runner checks the state of the
transaction after every file.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from ncen_updater.common.i18n import N_
from ncen_updater.formats.dialects import BYTE_ORDER_MARK, DIALECTS, SqlStatement

ENGINE_NAMES: Final = tuple(DIALECTS)
MAX_FILE_BYTES: Final = 20_000_000

_NESTED = re.compile(r"/\*|\*/")

_TRANSACTION: Final = {
    "ABORT", "BEGIN", "COMMIT", "END", "RELEASE", "ROLLBACK", "SAVEPOINT",
}  # fmt: skip
_WRITES: Final = {"DELETE", "INSERT", "MERGE", "UPDATE"}


class RefusalKind(Enum):
    """Kind of refusal; each has its own remedy."""

    FORBIDDEN = auto()  # not allowed in a migration
    NOT_TRANSACTIONAL = auto()  # runs outside a transaction only
    NOT_SINGLE_STATEMENT = auto()  # outside a transaction exactly one statement is allowed
    NOT_A_QUERY = auto()  # the text is not one SELECT
    SYNTAX = auto()  # a syntax error of the server; this reader does not detect it


@dataclass(frozen=True)
class SqlRefusal:
    """The refusal of an SQL text, with the reason."""

    kind: RefusalKind
    reason: str


def _iter_tokens(sql: str, engine: str) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, word) of all tokens but spaces and comments; word is '' for quotes."""
    dialect = DIALECTS[engine]
    pattern, spaces = re.compile(dialect.tokens), dialect.spaces
    place = 0
    while match := pattern.match(sql, place):
        start, place = match.span()
        token = match[0]
        if dialect.nests_comments and match["open"]:
            place = _find_comment_end(sql, place)
            continue
        if dialect.nests_comments and match["tag"] is not None:
            close = sql.find(token, place)
            place = len(sql) if close < 0 else close + len(token)
            yield start, place, ""
        elif not token.strip(spaces) or token.startswith(("--", "/*")):
            continue
        elif token[0] in "'\"`[" or token.endswith("'"):
            yield start, place, "" if len(token) > 1 else token
        else:
            yield start, place, token.upper()


def list_lexemes(sql: str, engine: str) -> list[str]:
    """Return the tokens in normal form: words in upper case, strings unchanged, no comments.

    Quotes that a name does not need are removed, so that ``"id"`` and ``id`` are equal.
    """
    found = []
    for start, end, word in _iter_tokens(sql, engine):
        text = sql[start:end]
        plain = len(text) > 2 and text[0] in '"`[' and text[1:-1].isidentifier()
        found.append(text[1:-1].upper() if plain else word or text)
    return found


def list_names(sql: str, engine: str) -> list[str]:
    """Return the names and words of a text as written, with their quotes."""
    found = (sql[start:end] for start, end, _ in _iter_tokens(sql, engine))
    return [text for text in found if text[0] in '"`[_' or text[0].isalpha()]


def _find_comment_end(sql: str, place: int) -> int:
    depth = 1
    while depth and (match := _NESTED.search(sql, place)):
        depth += 1 if match[0] == "/*" else -1
        place = match.end()
    return place if not depth else len(sql)


def _has_body(words: list[str], engine: str) -> bool:
    """Return whether the statement may have a body, whose semicolons do not end it."""
    return words[:1] == ["CREATE"] and any(
        what in words[:place] for what, place in DIALECTS[engine].bodies.items()
    )


def split_statements(sql: str, engine: str) -> tuple[SqlStatement, ...]:
    """Split a file into its statements, without empty ones.

    Args:
        sql: Text of the file.
        engine: One of :data:`ENGINE_NAMES`.
    """
    found: list[SqlStatement] = []
    words: list[str] = []
    first = last = -1
    depth = 0
    line, counted = 1, 0
    for start, end, word in _iter_tokens(sql, engine):
        if word == ";" and depth == 0:
            if first >= 0:
                line += sql.count("\n", counted, first)
                counted = first
                found.append(SqlStatement(sql[first:last], line, tuple(words)))
            words, first = [], -1
            continue
        if first < 0:
            first = start
        last = end
        words.append(word)
        if _has_body(words[:6], engine):
            begins = DIALECTS[engine].body_openers
            opens = word == "CASE" or tuple(words[-len(begins) :]) == begins
            # Count CASE only inside a body: it ends with END, too.
            if opens and (depth or word != "CASE"):
                depth += 1
            elif word == "END" and depth:
                depth -= 1
    if first >= 0:
        line += sql.count("\n", counted, first)
        found.append(SqlStatement(sql[first:last], line, tuple(words)))
    return tuple(found)


def _find_forbidden_words(statement: SqlStatement, engine: str) -> str | None:
    """Return words that no migration may contain; None if there are none.

    Args:
        statement: One statement of the file.
        engine: One of :data:`ENGINE_NAMES`.
    """
    words = statement.words
    head = words[0] if words else ""
    if head in _TRANSACTION or words[:2] in (("START", "TRANSACTION"), ("PREPARE", "TRANSACTION")):
        return head
    named = list_lexemes(statement.text, engine) if head in ("SET", "RESET") else []
    if _sets_role_or_transaction(named):
        return " ".join(named[:2])
    if words[:2] == ("DISCARD", "ALL"):
        return "DISCARD ALL"
    if head in ("CREATE", "ALTER", "DROP") and words[1:2] in (("DATABASE",), ("SYSTEM",)):
        return " ".join(words[:2])
    if words[:3] == ("COMMENT", "ON", "DATABASE"):
        return "COMMENT ON DATABASE"
    if head == "COPY":
        return _find_copy_problem(words)
    if head in ("ATTACH", "DETACH"):
        return head
    if "\\" in words:  # outside quotes a psql command, which sites do not run
        return "\\" + "".join(words[words.index("\\") + 1 :][:1]).lower()
    own = DIALECTS[engine].find_forbidden_word(
        statement, lambda: list_lexemes(statement.text, engine)
    )
    return _find_parameter(statement, engine) or own


def _sets_role_or_transaction(words: list[str]) -> bool:
    """Return whether a SET changes the role or the transaction, which the agent controls."""
    named = words[1:]
    while named[:1] and named[0] in ("LOCAL", "SESSION"):
        del named[0]
    return named[:1] != [] and named[0] in {
        "AUTHORIZATION", "CHARACTERISTICS", "ROLE", "SESSION_AUTHORIZATION", "TRANSACTION",
    }  # fmt: skip


def _find_copy_problem(words: tuple[str, ...]) -> str | None:
    """Return the part of a COPY that needs a client, or runs a program on the server."""
    if "PROGRAM" in words:
        return "PROGRAM"
    depth = 0
    for word, after in itertools.pairwise(words):
        depth += (word == "(") - (word == ")")
        if not depth and word in ("FROM", "TO") and after in ("STDIN", "STDOUT"):
            return f"COPY {word} {after}"
    return None


def _find_parameter(statement: SqlStatement, engine: str) -> str | None:
    """Return a parameter placeholder of a statement; no value would be passed for it."""
    dialect = DIALECTS[engine]
    if statement.words[:1] and statement.words[0] in dialect.statements_with_parameters:
        return None
    for word, after in itertools.pairwise((*statement.words, "")):
        if word in dialect.parameter_marks:
            return f"{word}{after.lower()}"
    return None


def _find_nontransactional_word(statement: SqlStatement, engine: str) -> str | None:
    """Return the words because of which a statement cannot run in a transaction."""
    words = statement.words
    if "CONCURRENTLY" in words:
        return "CONCURRENTLY"
    if words[:1] == ("VACUUM",):
        return "VACUUM"
    return DIALECTS[engine].find_nontransactional_word(words)


def check_migration_sql(sql: str, engine: str, *, transactional: bool) -> SqlRefusal | None:
    """Return why a site would refuse a migration file; None if it would run it.

    Args:
        sql: Text of an ``up`` or ``down`` file.
        engine: One of :data:`ENGINE_NAMES`.
        transactional: Whether it will run inside a transaction.
    """
    if BYTE_ORDER_MARK not in DIALECTS[engine].spaces and sql.startswith(BYTE_ORDER_MARK):
        return SqlRefusal(RefusalKind.FORBIDDEN, _make_not_allowed_reason(1, "a byte order mark"))
    statements = split_statements(sql, engine)
    for statement in statements:
        word = _find_nontransactional_word(statement, engine) if transactional else None
        if word:
            return SqlRefusal(
                RefusalKind.NOT_TRANSACTIONAL, _make_not_allowed_reason(statement.line, word)
            )
        word = _find_forbidden_words(statement, engine)
        if word:
            return SqlRefusal(RefusalKind.FORBIDDEN, _make_not_allowed_reason(statement.line, word))
    if not transactional and len(statements) != 1:
        return SqlRefusal(
            RefusalKind.NOT_SINGLE_STATEMENT, _make_statement_count_reason(statements)
        )
    return None


def _make_not_allowed_reason(line: int, word: str) -> str:
    return f"line {line}: {word} is not allowed in a migration"


def _make_statement_count_reason(statements: tuple[SqlStatement, ...]) -> str:
    return f"{len(statements)} statements, where exactly one is allowed"


def _find_non_query_word(statement: SqlStatement, engine: str) -> str | None:
    """Return the word because of which a statement is not a query."""
    words = statement.words
    if words[0] not in DIALECTS[engine].query_keywords:
        return words[0].lstrip(BYTE_ORDER_MARK) or "a quoted name"
    value = _find_parameter(statement, engine)
    if value:
        return value
    depth = 0
    asks = words[0] != "WITH"  # the next word is a name, not a keyword
    for place, word in enumerate(words):
        depth += (word == "(") - (word == ")")
        before = words[max(0, place - 2) : place]
        inside = before[-1:] == ("(",) and before[:1] in (("AS",), ("MATERIALIZED",))
        if word in _WRITES and (inside or (not asks and not depth and before[-1:] == (")",))):
            return word
        asks = asks or (not depth and word in ("SELECT", "VALUES", "TABLE"))
        if word == "INTO":
            return word
    return None


def make_count_query(statement: SqlStatement) -> str:
    """Return the query with which a site counts the rows of a ``verify`` statement."""
    # The line breaks prevent a trailing comment from hiding the parenthesis.
    return f"SELECT count(*) FROM (\n{statement.text}\n) AS found"  # noqa: S608 - signed


def check_verify_sql(sql: str, engine: str) -> SqlRefusal | None:
    """Return why a site would refuse the statements of a ``verify`` file; None if it would not."""
    for statement in split_statements(sql, engine):
        word = _find_non_query_word(statement, engine)
        if word:
            return _make_query_refusal(statement, word)
    return None


def _make_query_refusal(statement: SqlStatement, word: str) -> SqlRefusal:
    reason = f"line {statement.line}: {word} is not allowed in a query"
    return SqlRefusal(RefusalKind.NOT_A_QUERY, reason)


def check_query_sql(sql: str, engine: str) -> SqlRefusal | None:
    """Return why a site would refuse a manifest's query, which runs in a read-only transaction.

    Args:
        sql: Query of a check or of a reference map.
        engine: One of :data:`ENGINE_NAMES`.
    """
    statements = split_statements(sql, engine)
    if len(statements) != 1:
        return SqlRefusal(RefusalKind.NOT_A_QUERY, _make_statement_count_reason(statements))
    (statement,) = statements
    if statement.words[0] == "(" and not DIALECTS[engine].allows_parenthesized_query:
        return _make_query_refusal(
            statement, "("
        )  # the engine allows these parentheses in a subquery only
    for pair in itertools.pairwise(statement.words):
        if pair in (("FOR", "UPDATE"), ("FOR", "SHARE"), ("FOR", "KEY"), ("FOR", "NO")):
            return _make_query_refusal(statement, " ".join(pair))
    return check_verify_sql(sql, engine)


def check_file_content(content: bytes) -> tuple[str, str | None] | None:
    """Return why a file cannot be SQL: a template and a detail; None if it can."""
    if len(content) > MAX_FILE_BYTES:
        return N_("it is too large."), f"{len(content)} > {MAX_FILE_BYTES}"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return N_("it is not UTF-8 text."), str(error)
    return (N_("it contains a null byte."), None) if b"\0" in content else None
