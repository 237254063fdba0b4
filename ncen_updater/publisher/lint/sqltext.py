"""Enough reading of SQL to find statements that a migration file must not hold.

Comments, strings, quoted names and dollar-quoted bodies are blanked, so that a word inside them is
not taken for a statement. This is no parser: the database has the last word.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["concurrent_statements", "is_single_select", "statements", "transaction_control"]

# The order matters: what begins first wins, and nothing inside it is looked at.
_OPAQUE: Final = re.compile(
    r"""
      --[^\n]*
    | /\*.*?\*/
    | (?<![\w$])[eE]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | (?<![\w$])\$(?P<tag>[A-Za-z_]\w*)?\$.*?\$(?(tag)(?P=tag))\$
    """,
    re.VERBOSE | re.DOTALL,
)
_CONTROL: Final = re.compile(
    r"^(BEGIN|START\s+TRANSACTION|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|PREPARE\s+TRANSACTION"
    r"|SET\s+(SESSION\s+CHARACTERISTICS|TRANSACTION))\b",
    re.IGNORECASE,
)
_CONCURRENTLY: Final = re.compile(r"\bCONCURRENTLY\b", re.IGNORECASE)
_SELECT: Final = re.compile(r"^(SELECT|WITH|VALUES|TABLE)\b", re.IGNORECASE)


def _blank(match: re.Match[str]) -> str:
    return " " if match.group().startswith(("--", "/*")) else " '' "


def statements(sql: str) -> list[str]:
    """The statements of a file, with everything opaque blanked out and spaces folded.

    The body of a trigger in SQLite (``BEGIN ... END``) stays with its statement.
    """
    found: list[str] = []
    open_trigger: list[str] = []
    for piece in _OPAQUE.sub(_blank, sql).split(";"):
        text = " ".join(piece.split())
        if open_trigger:
            open_trigger.append(text)
            if re.match(r"END$", text, re.IGNORECASE):
                found.append("; ".join(open_trigger))
                open_trigger = []
        elif re.match(r"CREATE\s+(TEMP(ORARY)?\s+)?TRIGGER\b.*\bBEGIN\b", text, re.IGNORECASE):
            open_trigger = [text]
        elif text:
            found.append(text)
    if open_trigger:
        found.append("; ".join(open_trigger))
    return found


def transaction_control(sql: str) -> list[str]:
    """Statements that begin or end a transaction."""
    return [text for text in statements(sql) if _CONTROL.match(text)]


def concurrent_statements(sql: str) -> list[str]:
    """Statements that refuse a transaction."""
    return [
        text
        for text in statements(sql)
        if _CONCURRENTLY.search(text) or re.match(r"VACUUM\b", text, re.IGNORECASE)
    ]


def is_single_select(sql: str) -> bool:
    """Whether this is one question and nothing else."""
    found = statements(sql)
    return len(found) == 1 and bool(_SELECT.match(found[0]))
