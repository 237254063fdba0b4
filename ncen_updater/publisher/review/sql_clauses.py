"""Statements that are made of nothing but clauses known to be harmless. Pure.

It is a list of what is harmless, so that a clause that nobody thought of is marked. A statement is
read as tokens without spaces in them (:func:`tokens_of`), and compared with :data:`_FORMS`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from enum import Enum
from typing import Final

from ncen_updater.common.i18n import N_
from ncen_updater.formats.sql import Statement, lexemes

__all__ = [
    "EMPTIED",
    "Kind",
    "calls_unknown",
    "known_kinds",
    "split_parts",
    "tokens_of",
    "unknown_kind",
]


class Kind(Enum):
    """What a statement does that an officer should have decided."""

    DELETES = N_("deletes records")
    CHANGES = N_("changes records")
    ADDS = N_("adds records")
    DROPS = N_("removes a part of the database")
    RENAMES = N_("gives another name")
    EMPTIES = N_("empties what a way back parked")
    BINDS = N_("sets a rule that records have to keep")
    FOLLOWS = N_("lets records go, or change, with others")
    SHOWS = N_("changes what a view shows")
    RIGHTS = N_("changes who may do what")
    CODE = N_("puts a program into the database, or runs one")
    BY_ITSELF = N_("puts a program into the database that runs by itself at each change")
    SWITCHES = N_("switches programs of the database on or off")
    UNCODES = N_("takes a program out of the database")
    UNREAD = N_("runs statements that cannot be read here")
    CALLS = N_("runs a function")
    OTHER = N_("is of an unusual kind")


#: Before a name that is a table's, whatever stands behind it.
_TABLE_NEXT: Final = {"AS", "EXISTS", "INTO", "REFERENCES", "TABLE", "VIEW", "WITH"}
#: Functions that only reckon, types with a length, and words that are no names.
PURE: Final = {
    "ABS", "AGE", "ALL", "ALWAYS", "AND", "ANY", "ARRAY", "ARRAY_AGG", "ARRAY_LENGTH", "AS",
    "ASCII", "AVG", "BETWEEN", "BIGINT", "BIT", "BOOL_AND", "BOOL_OR", "BTRIM", "BY",
    "CARDINALITY", "CASE", "CAST", "CEIL", "CEILING", "CHAR", "CHARACTER", "CHAR_LENGTH",
    "CHECK", "CHR", "COALESCE", "COLUMN", "CONCAT", "CONCAT_WS", "CONFLICT", "COUNT", "DATE",
    "DATETIME", "DATE_PART", "DATE_TRUNC", "DECIMAL", "DEFAULT", "DENSE_RANK", "DISTINCT",
    "ELSE", "ENUM", "EVERY", "EXCEPT", "EXCLUDE", "EXISTS", "EXTRACT", "FILTER", "FIRST_VALUE",
    "FLOAT", "FLOOR", "FROM", "GENERATE_SERIES", "GEN_RANDOM_UUID", "GREATEST", "GROUP",
    "GROUP_CONCAT", "HAVING", "IDENTITY", "IFNULL", "IN", "INCLUDE", "INITCAP", "INSTR", "INT",
    "INTEGER", "INTERSECT", "INTERVAL", "IS", "JOIN", "JSONB_AGG", "JSONB_BUILD_OBJECT",
    "JSON_AGG", "JSON_BUILD_OBJECT", "JSON_EXTRACT", "JULIANDAY", "KEY", "LAG", "LAST_VALUE",
    "LATERAL", "LEAD", "LEAST", "LEFT", "LENGTH", "LIKE", "LOWER", "LPAD", "LTRIM",
    "MATERIALIZED", "MAX", "MD5", "MIN", "MOD", "NCHAR", "NOT", "NOW", "NULL", "NULLIF",
    "NUMERIC", "NVARCHAR", "ON", "ONLY", "OR", "OVER", "POSITION", "POWER", "PRIMARY",
    "RANDOM", "RANGE", "RANK", "REGEXP_REPLACE", "REPLACE", "RETURNING", "REVERSE", "RIGHT",
    "ROUND", "ROW", "ROW_NUMBER", "RPAD", "RTRIM", "SELECT", "SET", "SIGN", "SOME",
    "SPLIT_PART", "SQRT", "STRFTIME", "STRING_AGG", "STRPOS", "SUBSTR", "SUBSTRING", "SUM",
    "TEXT", "THEN", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "TO_CHAR", "TO_DATE", "TO_JSONB",
    "TO_NUMBER", "TO_TIMESTAMP", "TOTAL", "TRANSLATE", "TRIM", "TRUNC", "TYPEOF", "UNION",
    "UNIQUE", "UNNEST", "UPPER", "USING", "VALUES", "VARBIT", "VARCHAR", "VARYING", "WHEN",
    "WHERE", "WITH", "WITHIN",
}  # fmt: skip
#: Others are somebody's own, and run a function of theirs.
_OPERATORS: Final = {
    ":", "::", "=", "==", "<", ">", "<=", ">=", "<>", "!=", "+", "-", "*", "/", "%", "||",
    "->", "->>", "~", "~*", "!~", "!~*", "&", "|", "<<", ">>", "#>", "#>>", "@>", "<@", "&&",
}  # fmt: skip
_SIGNS: Final = frozenset("+-*/<>=~!@#%^&|`?:")

_NAME: Final = r'(?:"[^" ]*"|[^\W\d][\w$]*)'
#: In a schema that the application knows: in another one it may stand before one of its own.
_HERE: Final = rf'(?:"?(?:PUBLIC|MAIN|NCEN_KEPT)"? \. )?{_NAME}'
_ANY: Final = rf"{_NAME}(?: \. {_NAME})?"
_TYPE: Final = (
    rf"{_ANY}(?: (?:PRECISION|VARYING))?(?: \(\))?(?: WITH(?:OUT)? TIME ZONE)?(?: \[ (?:\d+ )?\])*"
)
_GIVEN: Final = (
    r"(?:[-+] )?(?:'\w*'|\d\w*(?: \. \d\w*)?|TRUE|FALSE|CURRENT_\w+|(?:NOW|GEN_RANDOM_UUID) \(\))"
    rf"(?: : : {_TYPE})?"
)
_REFERS: Final = (
    rf'REFERENCES (?!"?NCEN_KEPT){_HERE}(?: \(\))?'
    r"(?: ON (?:DELETE|UPDATE) (?:NO ACTION|RESTRICT))*"
    r"(?: (?:NOT )?DEFERRABLE)?(?: INITIALLY (?:DEFERRED|IMMEDIATE))?"
)
_COUNTED: Final = r"GENERATED (?:ALWAYS|BY DEFAULT) AS IDENTITY(?: \(\))?"
_FREE: Final = rf"NULL|DEFAULT (?:NULL|{_GIVEN})|COLLATE {_ANY}|{_REFERS}|{_COUNTED}"
_STRICT: Final = (
    r"NOT NULL|PRIMARY KEY(?: ASC| DESC)?(?: AUTOINCREMENT)?|UNIQUE|CHECK \(\)"
    rf"|GENERATED ALWAYS AS \(\)(?: STORED| VIRTUAL)?|DEFAULT (?:\(\)|{_ANY}(?: \(\))?)"
)
_RULES: Final = rf"(?:PRIMARY KEY|UNIQUE|CHECK) \(\)|FOREIGN KEY \(\) {_REFERS}"
_NO_COLUMN: Final = r"(?!(?:LIKE|EXCLUDE|FOREIGN|PRIMARY|UNIQUE|CHECK|CONSTRAINT|PERIOD FOR|IF) )"
_COLUMN: Final = rf"{_NO_COLUMN}{_NAME}(?: (?!{_STRICT}|{_FREE}){_TYPE})?"
#: One line of a new table: nothing that was there has to keep its rules.
_LINE: Final = (
    rf"{_COLUMN}(?:(?: CONSTRAINT {_NAME})? (?:{_STRICT}|{_FREE}))*"
    rf"|(?:CONSTRAINT {_NAME} )?(?:{_RULES})"
)
#: One action on a table that was there: no record of it, old or new, may be refused for it.
_ACTION: Final = (
    rf"ADD (?:COLUMN )?(?:IF NOT EXISTS )?{_COLUMN}"
    rf"(?: (?:{_FREE}|NOT NULL DEFAULT {_GIVEN}|DEFAULT {_GIVEN} NOT NULL))*"
    r"(?: GENERATED ALWAYS AS \(\)(?: STORED| VIRTUAL))?"
    rf"|ALTER (?:COLUMN )?{_NAME} DROP NOT NULL|VALIDATE CONSTRAINT {_NAME}"
    rf"|ALTER (?:COLUMN )?{_NAME} (?:SET DATA )?TYPE (?:TEXT|VARCHAR|NUMERIC|DECIMAL)"
    rf"|RENAME (?:COLUMN |CONSTRAINT )?(?:{_NAME} )?TO {_NAME}"
)
#: Nothing that is computed of a record by these can fail, so that none is refused.
_NEVER_FAILS: Final = re.compile(
    rf"GENERATED ALWAYS AS \( (?:(?:(?:LOWER|UPPER|COALESCE|TRIM) \(|(?!{_NAME} \(){_NAME}"
    r"|'\w*'|\| \||,|\(|\)) )*(?:STORED|VIRTUAL)"
)
_ALTERS: Final = re.compile(rf"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?({_ANY}) (?:\* )?")
_MAKES: Final = re.compile(
    rf"CREATE TABLE (?:IF NOT EXISTS )?{_HERE} \(\)(?:(?: ,)? (?:WITHOUT ROWID|STRICT))*"
)
_SORTED: Final = (
    rf"(?:{_NAME}|(?:LOWER|UPPER) \( {_NAME} \))(?: COLLATE {_ANY})?"
    rf"(?: (?!ASC|DESC|NULLS){_NAME})?(?: ASC| DESC)?(?: NULLS (?:FIRST|LAST))?"
)
_CHOSEN: Final = rf"{_NAME}(?: IS(?: NOT)? NULL| = {_GIVEN})?"
_INDEX: Final = re.compile(
    rf"CREATE (UNIQUE )?INDEX (?:CONCURRENTLY )?(?:IF NOT EXISTS )?(?:{_ANY} )?ON (?:ONLY )?"
    rf"({_ANY}) (?:USING (?:BTREE|HASH|GIN|GIST|BRIN) )?\( {_SORTED}(?: , {_SORTED})* \)"
    rf"(?: INCLUDE \( {_NAME}(?: , {_NAME})* \))?(?: WHERE {_CHOSEN}(?: AND {_CHOSEN})*)?"
)
_ASKED: Final = r"(?:SELECT|WITH|VALUES|\(\)).*"
_FORMS: Final[tuple[tuple[re.Pattern[str], frozenset[Kind]], ...]] = tuple(
    (re.compile(form), frozenset(kinds))
    for form, *kinds in (
        (rf"CREATE TABLE (?:IF NOT EXISTS )?{_HERE}(?: \(\))? AS {_ASKED}", Kind.ADDS),
        (rf"CREATE MATERIALIZED VIEW {_HERE}(?: \(\))? AS {_ASKED}", Kind.ADDS),
        (rf"CREATE VIEW {_HERE}(?: \(\))? AS {_ASKED}",),
        (rf"CREATE TYPE {_HERE} AS (?:ENUM )?\(\)",),
        (rf"CREATE SEQUENCE (?:IF NOT EXISTS )?{_HERE}",),
        (r'CREATE SCHEMA (?:IF NOT EXISTS )?"?NCEN_KEPT"?',),
        (rf"ALTER TYPE {_ANY} ADD VALUE (?:IF NOT EXISTS )?'\w*'(?: (?:BEFORE|AFTER) '\w*')?",),
        (rf"ALTER (?:INDEX|SEQUENCE|TYPE|VIEW) {_ANY} RENAME TO {_NAME}", Kind.RENAMES),
        (r"COMMENT ON .* IS (?:'\w*'|NULL)",),
        (rf"(?:ANALYZE|VACUUM|REINDEX (?:TABLE|INDEX))(?: {_ANY})?",),
        (r"PRAGMA (?:DEFER_FOREIGN_KEYS = \w+|(?:FOREIGN_KEY|INTEGRITY|QUICK)_CHECK)",),
    )
)  # fmt: skip
#: It takes away what a way back parked before, and nothing else.
EMPTIED: Final = re.compile(
    r'(?:DROP TABLE|DELETE FROM)(?: IF EXISTS)? "?NCEN_KEPT[^,(]*(?:\([^()]*\))?'
)
_BINDS: Final = re.compile(
    r"CREATE UNIQUE INDEX .*|ALTER TABLE .* (?:ADD|SET|ALTER) .*"
    r"(?:CONSTRAINT|CHECK|UNIQUE|KEY|EXCLUDE|NOT NULL|REFERENCES).*"
)


def tokens_of(statement: Statement, engine: str) -> list[str]:
    """Return a statement's tokens, none with a space in it: ``'68'``, ``"ID"`` in quotes."""
    found = []
    for word, text in zip(statement.words, lexemes(statement.text, engine), strict=True):
        if word or not text:
            found.append(word or text)
        elif text[0] in "$'" or text.endswith("'"):
            inside = text[1:-1] if text[0] == "'" else text
            found.append(f"'{inside.encode('utf-8', 'replace').hex()}'")
        elif text.isidentifier():
            found.append(f'"{text}"')
        else:
            found.append(f'"{text[1:-1].encode("utf-8", "replace").hex()}"')
    return found


def split_parts(words: Sequence[str]) -> Iterator[list[str]]:
    """Cut at the commas outside brackets, and put ``()`` for each bracket and what is in it."""
    depth, part = 0, list[str]()
    for word in words:
        if word == "," and not depth:
            yield part
            part = []
        elif not depth and word not in ("(", ")"):
            part.append(word)
        depth += (word == "(") - (word == ")")
        if word == ")" and not depth:
            part.append("()")
    yield part


def known_kinds(tokens: Sequence[str], made: Collection[str] = ()) -> frozenset[Kind] | None:
    """Say what a statement of known clauses does; None where a clause is not known.

    Args:
        tokens: Of the statement.
        made: Tables that the release itself makes: they may have any rules.
    """
    flat, text = " ".join(tokens), " , ".join(map(" ".join, split_parts(tokens)))
    if match := _ALTERS.match(text):
        actions = [" ".join(part) for part in split_parts(text[match.end() :].split())]
        allowed = rf"{_ACTION}|ADD (?:{_LINE})" if match[1] in made else _ACTION
        if flat.count("GENERATED ALWAYS AS (") > len(_NEVER_FAILS.findall(flat)):
            return None
        for action in actions:
            binds = "REFERENCES" in action and "DEFAULT" in action and match[1] not in made
            if binds or not re.fullmatch(allowed, action):
                return None
        return frozenset(Kind.RENAMES for action in actions if action.startswith("RENAME "))
    if match := _INDEX.fullmatch(flat):
        return frozenset() if not match[1] or match[2] in made else None
    if _MAKES.fullmatch(text):
        end = len(tokens) - tokens[::-1].index(")") - 1
        lines = split_parts(tokens[tokens.index("(") + 1 : end])
        return frozenset() if all(re.fullmatch(_LINE, " ".join(one)) for one in lines) else None
    return next((kinds for form, kinds in _FORMS if form.fullmatch(text)), None)


def unknown_kind(tokens: Sequence[str]) -> Kind:
    """Name what a statement with an unknown clause does."""
    text = " ".join(tokens)
    if text.startswith("CREATE OR REPLACE VIEW "):
        return Kind.SHOWS
    if re.search(r" ON (?:DELETE|UPDATE) (?:CASCADE|SET) ", f"{text} "):
        return Kind.FOLLOWS
    return Kind.BINDS if _BINDS.fullmatch(text) else Kind.OTHER


def calls_unknown(tokens: Sequence[str]) -> bool:
    """Whether a statement runs a function, or an operator, that is not known to only reckon."""
    indexes = tokens[:1] == ["CREATE"] and "INDEX" in tokens[1:3]
    tables = _TABLE_NEXT | ({"ON", "ONLY", "USING"} if indexes else set())
    signs = ""
    for place, word in enumerate(tokens):
        if word in _SIGNS:
            signs += word
            continue
        if signs and signs not in _OPERATORS and signs.rstrip("+-") not in _OPERATORS:
            return True
        signs = ""
        if word == "." and place and tokens[place - 1] in (")", "]"):
            return True  # (c).f is f(c)
        named = word[0] in '_"' or word[0].isalpha()
        if named and tokens[place + 1 : place + 2] == ["("]:
            first = place
            while first > 1 and tokens[first - 1] == ".":
                first -= 2
            if tokens[first - 1 : first] and tokens[first - 1] in tables:
                continue
            if first != place or word not in PURE:
                return True
    return False
