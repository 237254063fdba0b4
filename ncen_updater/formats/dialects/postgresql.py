"""The SQL of PostgreSQL."""

from __future__ import annotations

import re
from typing import Final

from ncen_updater.formats.dialects.base import STRING_PATTERN, WORD_PATTERN, SqlDialect

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
