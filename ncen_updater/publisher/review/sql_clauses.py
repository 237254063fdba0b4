"""Statements that are made of nothing but clauses known to be harmless. Pure.

It is a list of what is harmless, so that a clause that nobody thought of is marked. A statement is
read as tokens without spaces in them (:func:`tokens_of`), and compared with the clauses of
``templates/harmless.toml``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from enum import Enum
from typing import Final

from ncen_updater.common.i18n import N_
from ncen_updater.formats.dialects import SqlStatement
from ncen_updater.formats.sql import list_lexemes
from ncen_updater.publisher.review.file_changes import HARMLESS


class StatementKind(Enum):
    """What a statement does that a signer should have decided."""

    DELETES = N_("deletes records")
    CHANGES = N_("changes records")
    ADDS = N_("adds records")
    DROPS = N_("drops an object")
    RENAMES = N_("renames an object")
    EMPTIES = N_("empties a table used by rollback")
    BINDS = N_("adds a constraint")
    FOLLOWS = N_("cascades to other records")
    SHOWS = N_("changes a view")
    RIGHTS = N_("changes privileges")
    CODE = N_("creates or runs code in the database")
    BY_ITSELF = N_("creates a trigger or rule")
    SWITCHES = N_("enables or disables triggers or rules")
    UNCODES = N_("drops code from the database")
    UNREAD = N_("runs statements that cannot be analysed")
    CALLS = N_("calls a function")
    OTHER = N_("is an unusual statement")


def _fill_clauses(form: str) -> str:
    for name, inside in _CLAUSES.items():
        form = form.replace(f"{{{name}}}", inside)
    return form.replace("\n", "")


#: Before a name that is a table's, whatever stands behind it.
_TABLE_NEXT: Final = {"AS", "EXISTS", "INTO", "REFERENCES", "TABLE", "VIEW", "WITH"}
PURE: Final = frozenset(HARMLESS["pure"].split())
_TYPES: Final = PURE | frozenset(HARMLESS["types"].split())
_OPERATORS: Final = frozenset(HARMLESS["operators"].split())
_SIGNS: Final = frozenset("+-*/<>=~!@#%^&|`?:")

_CLAUSES: Final[dict[str, str]] = {}
for _name, _form in HARMLESS["clauses"].items():
    _CLAUSES[_name] = _fill_clauses(_form)
_NEVER_FAILS, _ALTERS, _MAKES, _INDEX = (
    re.compile(_CLAUSES[name]) for name in ("NEVER_FAILS", "ALTERS", "MAKES", "INDEX")
)
_FORMS: Final = {
    re.compile(_fill_clauses(form)): frozenset(
        {StatementKind[kind]} if kind in StatementKind.__members__ else ()
    )
    for kind, forms in HARMLESS["statements"].items()
    for form in forms
}
#: It takes away what a down migration parked before, and nothing else.
EMPTIED: Final = re.compile(
    r'(?:DROP TABLE|DELETE FROM)(?: IF EXISTS)? "?NCEN_KEPT(?:"? \. |__)(?!.* CASCADE)[^,(]*'
    r"(?:\([^()]*\))?"
)
#: In the place of a table: WITH gone AS (DELETE ... RETURNING ...).
_WRITES_INSIDE: Final = re.compile(r"[()] (?:DELETE|INSERT|MERGE|UPDATE) ")
_BINDS: Final = re.compile(
    r"CREATE UNIQUE INDEX .*|ALTER TABLE .* (?:ADD|SET|ALTER) .*"
    r"(?:CONSTRAINT|CHECK|UNIQUE|KEY|EXCLUDE|NOT NULL|REFERENCES).*"
)


def tokens_of(statement: SqlStatement, engine: str) -> list[str]:
    """Return a statement's tokens, none with a space in it: ``'68'``, ``"ID"`` in quotes."""
    found = []
    for word, text in zip(statement.words, list_lexemes(statement.text, engine), strict=True):
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


def known_kinds(
    tokens: Sequence[str], made: Collection[str] = ()
) -> frozenset[StatementKind] | None:
    """Say what a statement of known clauses does; None where a clause is not known.

    Args:
        tokens: Of the statement.
        made: Tables that the release itself makes: they may have any rules.
    """
    flat, text = " ".join(tokens), " , ".join(map(" ".join, split_parts(tokens)))
    if match := _ALTERS.match(text):
        actions = [" ".join(part) for part in split_parts(text[match.end() :].split())]
        allowed = _CLAUSES["ACTION"]
        allowed += f"|ADD (?:{_CLAUSES['LINE']})" if match[1] in made else ""
        if flat.count("GENERATED ALWAYS AS (") > len(_NEVER_FAILS.findall(flat)):
            return None
        for action in actions:
            binds = "REFERENCES" in action and "DEFAULT" in action and match[1] not in made
            if binds or not re.fullmatch(allowed, action):
                return None
        return frozenset(
            StatementKind.RENAMES for action in actions if action.startswith("RENAME ")
        )
    if match := _INDEX.fullmatch(flat):
        return frozenset() if not match[1] or match[2] in made else None
    if _MAKES.fullmatch(text):
        end = len(tokens) - tokens[::-1].index(")") - 1
        lines = split_parts(tokens[tokens.index("(") + 1 : end])
        known = all(re.fullmatch(_CLAUSES["LINE"], " ".join(one)) for one in lines)
        return frozenset() if known else None
    if _WRITES_INSIDE.search(flat):
        return None
    return next((kinds for form, kinds in _FORMS.items() if form.fullmatch(text)), None)


def unknown_kind(tokens: Sequence[str]) -> StatementKind:
    """Name what a statement with an unknown clause does."""
    text = " ".join(tokens)
    if text.startswith("CREATE OR REPLACE VIEW "):
        return StatementKind.SHOWS
    if re.search(r" ON (?:DELETE|UPDATE) (?:CASCADE|SET) ", f"{text} "):
        return StatementKind.FOLLOWS
    return StatementKind.BINDS if _BINDS.fullmatch(text) else StatementKind.OTHER


def calls_unknown(tokens: Sequence[str]) -> bool:
    """Whether a statement runs a function, or an operator, that is not known to only reckon."""
    indexes = tokens[:1] == ["CREATE"] and "INDEX" in tokens[1:3]
    tables = _TABLE_NEXT | ({"ON", "ONLY", "USING"} if indexes else set())
    signs, casts = "", list[bool]()
    for place, word in enumerate(tokens):
        if word in _SIGNS:
            signs += word
            continue
        if word == "(":
            casts.append(tokens[place - 1 : place] == ["CAST"])
        elif word == ")" and casts:
            casts.pop()
        into = signs == "::" or (casts[-1:] == [True] and tokens[place - 1] == "AS")
        if into and word not in _TYPES:
            return True  # into a type of somebody's, with rules of theirs
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
