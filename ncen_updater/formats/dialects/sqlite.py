"""The SQL of SQLite."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from ncen_updater.formats.dialects.base import (
    BYTE_ORDER_MARK,
    STRINGS,
    WORDS,
    SqlDialect,
    Statement,
)

_TOKENS = re.compile(
    r"""/\*.*?(?:\*/|\Z)|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|"""
    rf"""[ \t\n\r\f\ufeff]+|{STRINGS}{WORDS}.""",
    re.DOTALL,
)
#: Those that a migration may need; any other may change how the file is written or found.
PRAGMAS: Final = frozenset(
    {
        "defer_foreign_keys", "foreign_key_check", "foreign_key_list", "index_info", "index_list",
        "integrity_check", "legacy_alter_table", "quick_check", "table_info", "table_list",
        "table_xinfo", "user_version",
    }
)  # fmt: skip


def _refuses(statement: Statement, lexemes: Callable[[], list[str]]) -> str | None:
    words = statement.words
    if words[:1] == ("VACUUM",) and len(words) > 1:  # it would attach what it writes to
        return " ".join(words[:2]).strip()
    if words[:1] == ("PRAGMA",):
        said = lexemes()[1:]
        name = "".join((said[2:] if said[1:2] == ["."] else said)[:1]).lower()
        return None if name in PRAGMAS else f"PRAGMA {name}"
    return None


DIALECT: Final = SqlDialect(
    title="SQLite",
    tokens=_TOKENS,
    spaces=f" \t\n\r\f{BYTE_ORDER_MARK}",
    questions=frozenset({"SELECT", "WITH", "VALUES", "("}),
    marks=frozenset({"?", ":", "@", "$"}),
    bodies={"TRIGGER": 3},
    questions_in_brackets=False,
    refuses=_refuses,
)
