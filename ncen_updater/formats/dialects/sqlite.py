"""The SQL of SQLite."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from ncen_updater.formats.dialects.base import (
    BYTE_ORDER_MARK,
    STRING_PATTERN,
    WORD_PATTERN,
    SqlDialect,
    SqlStatement,
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
