"""Mark the SQL statements of a release that a signer has to review. Pure.

A mark is no verdict: good migrations delete and change data, too. Every statement that is not known
to be harmless is marked, so that an unforeseen way to write it is marked as unusual. Data loss of a
rollback is not a matter of marks: :mod:`.data_loss` finds it, for this page, for ``lint`` and for
the sites.

A function, trigger, rule or DO is one unit with its body. The head of a trigger or rule names the
event that it waits for (``AFTER UPDATE ON cases``), which changes nothing. The statements in a body
take effect when it runs.

Statements that affect only objects of the release itself, or exactly undo such statements, are
recognised, so that fewer harmless statements are shown. In doubt a statement is not recognised. The
bodies of called functions are not analysed.

``templates/harmless.toml`` lists harmless clauses, so that an unforeseen clause is marked. A
statement is compared with it as tokens without spaces in them (:func:`tokens_of`).
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final

from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.formats.data_loss import is_plain
from ncen_updater.formats.dialects import DIALECTS, SqlStatement
from ncen_updater.formats.sql import list_lexemes, split_statements
from ncen_updater.publisher.review.file_changes import HARMLESS

_MODIFIERS: Final = {"OR", "REPLACE", "CONSTRAINT", "EVENT", "TEMP", "TEMPORARY"}
_CALLED: Final = {"FUNCTION", "PROCEDURE"}
_BY_ITSELF: Final = {"TRIGGER", "RULE"}
#: Languages whose bodies can be parsed as SQL.
_READ: Final = {"SQL", "PLPGSQL"}


@dataclass(frozen=True)
class SqlProgram:
    """The program that a statement defines or runs.

    Attributes:
        by_itself: Whether the database runs it on an event (trigger, rule).
        head: Words of the statement outside the body.
        inside: Words of each statement in the body.
        unread: Whether parts of the body cannot be parsed.
    """

    by_itself: bool
    head: tuple[str, ...]
    inside: tuple[tuple[str, ...], ...] = ()
    unread: bool = False


def parse_program(statement: SqlStatement, engine: str) -> SqlProgram | None:
    """Return the program of a statement; None if it neither defines nor runs one.

    Args:
        statement: One statement of a file.
        engine: The engine whose dialect is used.
    """
    words, thing = statement.words, _find_program_kind(statement.words)
    if thing in _BY_ITSELF:
        begin = "BEGIN" if thing == "TRIGGER" else "DO"
        body = words[words.index(begin) + 1 :] if begin in words else ()
        return SqlProgram(True, words[:2], _split_body(body))
    if thing in _CALLED:
        for place, pair in enumerate(itertools.pairwise(words)):
            if pair == ("BEGIN", "ATOMIC"):
                return SqlProgram(False, words[:place], _split_body(words[place + 2 :]))
    if thing in _CALLED or thing == "DO":
        return _parse_quoted_body(statement, engine, thing)
    return None


def supports_programs(statement: SqlStatement, engine: str) -> bool:
    """Return whether an engine supports the statement's kind of program, or refuses the file."""
    thing, bodies = _find_program_kind(statement.words), DIALECTS[engine].bodies
    if thing == "TRIGGER":  # with a body of its own, or with the name of a function
        return ("EXECUTE" in statement.words) is ("TRIGGER" not in bodies)
    return thing is None or "FUNCTION" in bodies


def _find_program_kind(words: Sequence[str]) -> str | None:
    """Return the kind of program that a statement defines or runs; None if there is none."""
    if words[:1] == ("DO",):
        return "DO"
    if words[:1] != ("CREATE",):
        return None
    named = next((word for word in words[1:] if word not in _MODIFIERS), "")
    return named if named in _CALLED | _BY_ITSELF else None


def _split_body(words: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Split the body of a program, which was parsed with its statement, into statements."""
    parts = [tuple(part) for is_end, part in itertools.groupby(words, ";".__eq__) if not is_end]
    return tuple(part for part in parts if part != ("END",))


def _parse_quoted_body(statement: SqlStatement, engine: str, thing: str) -> SqlProgram:
    """Parse a program whose body is a quoted text in a declared language."""
    words, found = statement.words, list_lexemes(statement.text, engine)
    language = "PLPGSQL" if thing == "DO" else "SQL"
    if "LANGUAGE" in words[:-1]:
        language = found[words.index("LANGUAGE") + 1].strip("'\"").upper()
    for place, (before, word) in enumerate(itertools.pairwise(words), 1):
        begins = before == "AS" or (thing == "DO" and before != "LANGUAGE")
        if begins and word == "" and (text := _unquote_text(found[place])) is not None:
            more = words[place + 1 : place + 2] == ("",)  # a text that continues in the next line
            escaped = found[place][:1] not in "'$"
            head = (*words[:place], *words[place + 1 :])
            if language not in _READ:
                return SqlProgram(False, head, unread=True)
            inside = tuple(one.words for one in split_statements(text, engine))
            return SqlProgram(False, head, inside, escaped or more or _is_dynamic(inside))
    return SqlProgram(False, words)


def _is_dynamic(inside: Sequence[Sequence[str]]) -> bool:
    """Return whether a body runs dynamic SQL."""
    return any("EXECUTE" in words and "GRANT" not in words for words in inside)


def _unquote_text(token: str) -> str | None:
    """Return the content of a quoted text; None for a quoted name."""
    if token.startswith("$"):
        tag = token[: token.index("$", 1) + 1]
        return token.removeprefix(tag).removesuffix(tag)
    if token.endswith("'"):
        return token[token.index("'") + 1 : -1].replace("''", "'")
    return None


# ruff: noqa: S608 - these are patterns, and no SQL


_NAME: Final = r"[\w$]+(?: \. [\w$]+)?"
_NUMBER: Final = r"'3[0-9](?:2e|3[0-9])*'"  # a version, as a token
_MADE: Final = re.compile(rf"CREATE TABLE (?!IF NOT EXISTS )({_NAME}) (?:\(|AS ).*")
_ADDED: Final = re.compile(rf"ALTER ({_NAME}) ADD (?!IF |CONSTRAINT )([\w$]+) .*")
#: Statements, each with the statement that exactly undoes it.
_UNDONE_BY: Final = tuple(
    (re.compile(form), undo)
    for form, undo in (
        (_MADE.pattern, r"DROP TABLE \1"),
        (_ADDED.pattern, r"ALTER \1 DROP \2"),
        (rf"CREATE (?:UNIQUE )?INDEX (?:CONCURRENTLY )?(?!IF )({_NAME}) ON .*", r"DROP INDEX \1"),
        (rf"CREATE (VIEW|TYPE|SEQUENCE) (?!IF )({_NAME})(?: .*)?", r"DROP \1 \2"),
        (rf"ALTER ({_NAME}) ADD CONSTRAINT ([\w$]+) .*", r"ALTER \1 DROP CONSTRAINT \2"),
        (rf"ALTER ({_NAME}) RENAME ([\w$]+) TO ([\w$]+)", r"ALTER \1 RENAME \3 TO \2"),
        (rf"ALTER ({_NAME}) ALTER ([\w$]+) DROP NOT NULL", r"ALTER \1 ALTER \2 SET NOT NULL"),
        # A release writes its own number into the single row of the product's table.
        (rf"UPDATE (\w+_RELEASE) SET (RELEASE|VERSION) = {_NUMBER}", r"UPDATE \1 SET \2 = 0"),
    )
)
_PARKED: Final = r"NCEN_KEPT(?: \. |__)[\w$]+"
_PARKS: Final = re.compile(
    rf"(?!.* (?:CONFLICT|DELETE|INSERT|MERGE|UPDATE) )"
    rf"(?:INSERT INTO|CREATE TABLE(?: IF NOT EXISTS)?) {_PARKED} .*"
)
_WRITES: Final = re.compile(
    r"(?!.* (?:DELETE|INSERT|MERGE|UPDATE) )(?:"
    rf"(?:INSERT INTO|DELETE FROM) (?P<all>{_NAME})(?: .*)?"
    rf"|UPDATE (?P<table>{_NAME}) SET (?P<column>[\w$]+) = [^,]*)"
)


def fills_own(up: str, engine: str) -> list[bool]:
    """Return for each statement of an ``up`` file whether it writes to an object made before it."""
    statements = _read(up, engine)
    plain = is_plain(up, engine) and not _has_referential_actions(statements)
    moved, made = _find_renamed(statements), set[str]()
    found = []
    for units in statements:
        mine = False
        for unit in units if plain else ():
            made |= {undo for undo in _undoing(unit) if undo.split()[-1] not in moved}
            if unit.startswith("DROP "):
                moved.add(unit.split()[-1])  # the name may now refer to another object
            written = _WRITES.fullmatch(unit)
            if written is not None:
                into = {undo for undo in made & _places(written) if undo.split()[-1] not in moved}
                mine = bool(into)
                # From here on the object contains data that users entered.
                made -= into if "NCEN_KEPT" in unit else set()
        found.append(mine)
    return found


def undoes(up: str, down: str, engine: str) -> list[bool]:
    """Return for each statement of a ``down`` file whether it only undoes ``up``, or parks."""
    there, back = _read(up, engine), _read(down, engine)
    if not (is_plain(up, engine) and is_plain(down, engine)):
        return [False] * len(back)
    moved, writes = _find_renamed([*there, *back]), not _has_referential_actions(there)
    undoing = {
        undo
        for units in there
        for unit in units
        for undo in _undoing(unit)
        if " DROP " not in f" {undo}" or undo.split()[-1] not in moved
    }

    def is_undoing(unit: str) -> bool:
        written = _WRITES.fullmatch(unit) if writes else None
        mine = written is not None and bool(undoing & _places(written))
        known = {unit, re.sub(_NUMBER, "0", unit)}
        return mine or not undoing.isdisjoint(known) or _PARKS.fullmatch(unit) is not None

    return [all(map(is_undoing, units)) for units in back]


def made_tables(sql: str, engine: str) -> frozenset[str]:
    """Return the tables that a file certainly creates."""
    plain = is_plain(sql, engine)
    units = {unit for units in _read(sql, engine) for unit in units} if plain else set[str]()
    made = {found[1] for unit in units if (found := _MADE.fullmatch(unit))}
    return frozenset(name for name in made if f"DROP TABLE {name}" not in units)


def _places(written: re.Match[str]) -> set[str]:
    table = written["all"] or written["table"]
    return {f"DROP TABLE {table}", f"ALTER {table} DROP {written['column']}"}


def _undoing(unit: str) -> Iterator[str]:
    for form, undo in _UNDONE_BY:
        if found := form.fullmatch(unit):
            yield found.expand(undo)


def _find_renamed(statements: Sequence[list[str]]) -> set[str]:
    """Return the old and new names of renamed objects."""
    renames = [unit.split() for units in statements for unit in units if " RENAME " in unit]
    return {name for words in renames for name in (words[-1], words[-3])}


def _has_referential_actions(statements: Sequence[list[str]]) -> bool:
    """Return whether a foreign key has a referential action."""
    return any(re.search(r" ON (?:DELETE|UPDATE) ", unit) for units in statements for unit in units)


@lru_cache(maxsize=8)  # each file of a page is read several times
def _read(sql: str, engine: str) -> list[list[str]]:
    return [
        list(_units(tokens_of(statement, engine))) for statement in split_statements(sql, engine)
    ]


def _units(tokens: Sequence[str]) -> Iterator[str]:
    """Yield the actions of a statement, each as one text."""
    words = " ".join(token.strip('"') for token in tokens)
    words = words.replace(" IF EXISTS ", " ").replace(" COLUMN ", " ")
    head = re.match(rf"(ALTER) TABLE (?:ONLY )?({_NAME}) |(DROP \w+) (?!.*\()", words)
    begin = " ".join(part for part in head.groups() if part) if head else ""
    for part in split_parts(words[head.end() :].split()) if head else [words.split()]:
        yield f"{begin} {' '.join(part)}".strip()


@dataclass(frozen=True)
class StatementMark:
    """One statement to review.

    Attributes:
        line: First line, from 1.
        last_line: Last line.
        kinds: Effects of the statement.
        inside: Effects of the program that it defines or runs.
        text: Its beginning, in one line.
        own_kind: Whether it affects only objects of the release itself, or undoes such a statement.
        normalized: The normalized statement, for comparing the files of both engines.
    """

    line: int
    last_line: int
    kinds: tuple[StatementKind, ...]
    text: str
    own_kind: bool = False
    normalized: str = ""
    inside: tuple[StatementKind, ...] = ()

    @property
    def descriptions(self) -> tuple[LazyText, ...]:
        """Return its effects, one sentence each."""
        body = N_("body: {kind}")
        return (
            *(LazyText(kind.value) for kind in self.kinds),
            *(LazyText(body, {"kind": LazyText(kind.value)}) for kind in self.inside),
        )


_DROPS = {"DROP", "DETACH"}
_RIGHTS = {
    "AUTHORIZATION", "GRANT", "GROUP", "OWNED", "OWNER", "POLICY", "PRIVILEGES", "REVOKE", "ROLE",
    "SECURITY", "SECURITY_INVOKER", "USER",
}  # fmt: skip
_CODE = {
    "AGGREGATE", "CALL", "CAST", "DO", "EXECUTE", "EXTENSION", "FUNCTION", "LANGUAGE", "LOAD",
    "OPERATOR", "PROCEDURE", "PROGRAM", "PUBLICATION", "ROUTINE", "RULE", "SERVER", "SUBSCRIPTION",
    "TRIGGER", "WRAPPER",
}  # fmt: skip
#: In statements with these words, a word of the sets above counts at any position.
_DEFINES = {"ALTER", "CREATE", "DROP", "GRANT", "REVOKE", "REASSIGN", "SECURITY"}
#: Statements that only define privileges, whatever operations they name.
_RIGHTS_ONLY = {("CREATE", "POLICY"), ("ALTER", "DEFAULT")}
#: In the head of a program: it runs with other privileges.
_OF_OTHERS = {("SECURITY", "DEFINER"), ("SET", "ROLE"), ("SET", "SESSION")}
_SWITCHES = {"DISABLE", "ENABLE"}
#: The kind describes these completely; other statements are compared with known clauses.
_DESCRIBED_BY_KIND = {"DELETE", "DROP", "INSERT", "MERGE", "REPLACE", "TRUNCATE", "UPDATE"}
_ASKS: Final = {"DELETE", "INSERT", "MERGE", "SELECT", "UPDATE", "WITH"}
_QUESTIONS = {"SELECT", "WITH", "VALUES", "TABLE", "(", "PERFORM", "EXPLAIN"}
MAX_SHOWN_CHARS = 100


def find_marks(
    sql: str,
    engines: Sequence[str],
    direction: str = "up",
    *,
    up: str = "",
    names: Collection[str] = frozenset(),
) -> list[StatementMark]:
    """Return all statements to review, as each of the engines parses the text.

    Args:
        sql: An ``up``, ``down`` or ``verify`` file, or a query of the manifest.
        engines: Engines on which it may run.
        direction: The kind of file; a query is a ``verify``, which changes nothing at a site.
        up: For a ``down`` file, its ``up`` file.
        names: Names that other SQL of the release defines, from :func:`defined_names`.
    """
    found: dict[tuple[int, int, str], StatementMark] = {}
    read = {engine: _split_with_offsets(sql, engine) for engine in engines}
    for engine in engines:
        mine, harmless = fills_own(sql, engine), {StatementKind.ADDS, StatementKind.CHANGES}
        if direction == "down":
            mine, harmless = undoes(up, sql, engine), set(StatementKind) - {StatementKind.CALLS}
        made, pieces = made_tables(sql, engine), _pieces(engine, read)
        known_names = defined_names(sql, engine) | defined_names(up, engine) | frozenset(names)
        for number, (start, statement) in enumerate(read[engine]):
            before = bisect_right(pieces, (start, len(sql)))
            if before and start < pieces[before - 1][1]:
                continue
            program = parse_program(statement, engine)
            tokens = tokens_of(statement, engine)
            named = set(_find_kinds(statement, tokens, program, made, known_names))
            if direction == "verify":
                named = set(_find_query_kinds(tokens, known_names))
            elif direction == "up" and EMPTIED.fullmatch(" ".join(tokens)):
                named = {StatementKind.EMPTIES} | (named & {StatementKind.CALLS})
            inside = set(_find_body_kinds(program))
            if not named:
                continue
            last = statement.line + statement.text.count("\n")
            place = (statement.line, last, statement.text)
            own = mine[number] and not program and named <= harmless
            if known := found.get(place):  # two engines may parse it differently
                named |= set(known.kinds)
                inside |= set(known.inside)
                own = own and known.own_kind
            kinds, within = (
                tuple(k for k in StatementKind if k in text) for text in (named, inside)
            )
            same = _normalize(list_lexemes(statement.text, engine))
            short = _shorten(statement)
            found[place] = StatementMark(statement.line, last, kinds, short, own, same, within)
    return [found[place] for place in sorted(found, key=lambda place: place[:2])]


def _split_with_offsets(sql: str, engine: str) -> list[tuple[int, SqlStatement]]:
    """Return each statement with the offset of its first character."""
    found, end = [], 0
    for statement in split_statements(sql, engine):
        start = sql.index(statement.text, end)
        end = start + len(statement.text)
        found.append((start, statement))
    return found


def _pieces(
    engine: str, read: Mapping[str, Sequence[tuple[int, SqlStatement]]]
) -> list[tuple[int, int]]:
    """Return the ranges of programs that only another engine can run.

    An engine without such programs splits them at each semicolon, but runs no part: it refuses the
    program's head, and with it the file.
    """
    refused = {
        place for place, statement in read[engine] if not supports_programs(statement, engine)
    }
    return [
        (place, place + len(statement.text))
        for other, statements in read.items()
        for place, statement in statements
        if place in refused and other != engine and supports_programs(statement, other)
    ]


def _normalize(words: Sequence[str]) -> str:
    """Return the statement without differences of spacing and of the place for parked values."""
    text = " ".join(words)
    return text.replace("NCEN_KEPT . ", "NCEN_KEPT__")


def _shorten(statement: SqlStatement) -> str:
    text = " ".join(statement.text.split())
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[: MAX_SHOWN_CHARS - 3]}..."


def _find_kinds(
    statement: SqlStatement,
    tokens: Sequence[str],
    program: SqlProgram | None,
    made: Collection[str],
    names: Collection[str],
) -> Iterator[StatementKind]:
    words = statement.words
    head = words[0] if words else ""
    if program is not None:
        yield StatementKind.BY_ITSELF if program.by_itself else StatementKind.CODE
        if set(_list_pairs(program.head)) & _OF_OTHERS:
            yield StatementKind.RIGHTS
        return
    if head in ("GRANT", "REVOKE") or words[:2] in _RIGHTS_ONLY:
        yield StatementKind.RIGHTS  # it names what others may do, and does nothing itself
        return
    known = known_kinds(tokens, made)
    found = list(
        known
        if known is not None
        else (*_find_row_kinds(words), *_find_definition_kinds(head, words))
    )
    if (
        head not in ("COMMENT", "DROP")
        and StatementKind.CODE not in found
        and calls_unknown(tokens, names)
    ):
        found.append(StatementKind.CALLS)
    if (
        known is None
        and head not in _DESCRIBED_BY_KIND
        and not set(found) - {StatementKind.ADDS, StatementKind.RENAMES}
    ):
        found.append(unknown_kind(tokens))
    yield from found


def _find_query_kinds(tokens: Sequence[str], names: Collection[str]) -> Iterator[StatementKind]:
    """Yield the kinds of a query, which a site runs in a read-only transaction."""
    yield from _find_row_kinds(tuple(tokens))
    if calls_unknown(tokens, names):
        yield StatementKind.CALLS


def _find_body_kinds(program: SqlProgram | None) -> Iterator[StatementKind]:
    if program is None:
        return
    for words in program.inside:
        yield from _find_row_kinds(words)
        if "GRANT" in words or "REVOKE" in words:
            yield StatementKind.RIGHTS
    if program.unread:
        yield StatementKind.UNREAD


def _list_pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(("", *words), words, strict=False))


def _find_row_kinds(words: tuple[str, ...]) -> Iterator[StatementKind]:
    """Yield the effects of a statement on records and objects."""
    head, pairs = words[0] if words else "", _list_pairs(words)
    replaces = head != "CREATE" and any(
        word == "REPLACE" and before in ("", "OR", ")") for before, word in pairs
    )
    if any(word == "TRUNCATE" or (word == "DELETE" and before != "ON") for before, word in pairs):
        yield StatementKind.DELETES
    if replaces or any(
        word == "MERGE" or (word == "UPDATE" and before not in ("ON", "FOR", "KEY"))
        for before, word in pairs
    ):
        yield StatementKind.CHANGES
    if words[:2] == ("ALTER", "TABLE") and "TYPE" in words:  # the new type may hold fewer values
        yield StatementKind.CHANGES
    if "INSERT" in words or replaces:
        yield StatementKind.ADDS
    if _DROPS & set(words):
        code = (words[1:2] and words[1] in _CODE) or words[1:3] == ("EVENT", "TRIGGER")
        yield StatementKind.UNCODES if head == "DROP" and code else StatementKind.DROPS
    if "RENAME" in words or (head == "ALTER" and ("SET", "SCHEMA") in pairs):
        yield StatementKind.RENAMES


def _find_definition_kinds(head: str, words: tuple[str, ...]) -> Iterator[StatementKind]:
    """Yield the effects of a statement on definitions, privileges and code."""
    defines = head in _DEFINES
    if "GRANT" in words or "REVOKE" in words or (defines and _RIGHTS & set(words)):
        yield StatementKind.RIGHTS
    runs = head in ("CALL", "LOAD", "EXECUTE", "PREPARE") or "PROGRAM" in words
    if head == "ALTER" and _SWITCHES & set(words) and {"TRIGGER", "RULE"} & set(words):
        yield StatementKind.SWITCHES
    elif runs or (defines and head != "DROP" and _CODE & set(words)):
        yield StatementKind.CODE
    if head in _QUESTIONS:
        yield StatementKind.CALLS


class StatementKind(Enum):
    """Effect of a statement that a signer has to review."""

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


#: Words before the name of a table, which may be followed by a parenthesis.
_TABLE_NEXT: Final = {"AS", "EXISTS", "INTO", "REFERENCES", "TABLE", "VIEW", "WITH"}
PURE: Final = frozenset(HARMLESS["pure"].split())
_TYPES: Final = frozenset(HARMLESS["types"].split())
_BEFORE_TEXT: Final = frozenset(HARMLESS["before_text"].split())
#: These may also be names of types: an operator follows a value, a type one of these words.
_TEXT_OPERATORS: Final = {"AFTER", "BEFORE", "ESCAPE", "GLOB", "ILIKE", "IS", "LIKE"}
_PAIRS_BEFORE_TEXT: Final = {
    ("ADD", "VALUE"), ("BIT", "VARYING"), ("CHARACTER", "VARYING"), ("DOUBLE", "PRECISION"),
    ("GROUP", "BY"), ("ORDER", "BY"), ("PARTITION", "BY"), ("RENAME", "VALUE"), ("TIME", "ZONE"),
}  # fmt: skip
#: Words before a qualified name of a table or other object.
_SCHEMA_NEXT: Final = _TABLE_NEXT - {"AS", "WITH"} | {
    "COLLATE", "INDEX", "JOIN", "ONLY", "SEQUENCE", "TYPE", "UPDATE",
}  # fmt: skip
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
#: Removes values that a down migration parked, and nothing else.
EMPTIED: Final = re.compile(
    r'(?:DROP TABLE|DELETE FROM)(?: IF EXISTS)? "?NCEN_KEPT(?:"? \. |__)(?!.* CASCADE)[^,(]*'
    r"(?:\([^()]*\))?"
)
#: A write in place of a table: WITH gone AS (DELETE ... RETURNING ...).
_WRITES_INSIDE: Final = re.compile(r"[()] (?:DELETE|INSERT|MERGE|UPDATE) ")
_BINDS: Final = re.compile(
    r"CREATE UNIQUE INDEX .*|ALTER TABLE .* (?:ADD|SET|ALTER) .*"
    r"(?:CONSTRAINT|CHECK|UNIQUE|KEY|EXCLUDE|NOT NULL|REFERENCES).*"
)


def tokens_of(statement: SqlStatement, engine: str) -> list[str]:
    """Return the tokens of a statement, without spaces in them; texts and names are encoded."""
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
    """Split at commas outside parentheses; replace each parenthesis and its content by ``()``."""
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
    """Return the kinds of a statement with only known clauses; None if a clause is unknown.

    Args:
        tokens: Tokens of the statement.
        made: Tables that the release itself creates, which may have any constraints.
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
    """Return the kind of a statement with an unknown clause."""
    text = " ".join(tokens)
    if text.startswith("CREATE OR REPLACE VIEW "):
        return StatementKind.SHOWS
    if re.search(r" ON (?:DELETE|UPDATE) (?:CASCADE|SET) ", f"{text} "):
        return StatementKind.FOLLOWS
    return StatementKind.BINDS if _BINDS.fullmatch(text) else StatementKind.OTHER


def calls_unknown(tokens: Sequence[str], names: Collection[str]) -> bool:
    """Return whether a statement calls a function or operator that may do more than compute.

    Args:
        tokens: Tokens of the statement.
        names: Names of known columns: any other ``a.b`` may mean ``b(a)``.
    """
    indexes = tokens[:1] == ["CREATE"] and "INDEX" in tokens[1:3]
    return (
        _calls_by_sign(tokens)
        or any(
            after.startswith("'") and _is_name(word) and not _may_precede_text(tokens[:place])
            for place, (word, after) in enumerate(itertools.pairwise(tokens), 1)
        )
        or _calls_by_name(tokens, names, {"ON", "ONLY", "USING"} if indexes else set())
    )


def _calls_by_sign(tokens: Sequence[str]) -> bool:
    """Return whether an unknown operator, or a cast to an unknown type, may run code."""
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
            return True
        if signs and signs not in _OPERATORS and signs.rstrip("+-") not in _OPERATORS:
            return True
        signs = ""
    return False


def _calls_by_name(tokens: Sequence[str], names: Collection[str], tables: Collection[str]) -> bool:
    """Return whether a call ``b(a)``, or ``a.b``, which may mean the same, is not known as pure."""
    queries = [True]
    for place, word in enumerate(tokens):
        after = tokens[place + 1] if place + 1 < len(tokens) else ""
        if word == "(":
            queries.append(after in _ASKS)
        elif word == ")" and len(queries) > 1:
            queries.pop()
        elif word == "." and place and tokens[place - 1] in (")", "]"):
            return True  # (c).f is f(c)
        if not _is_name(word) or after == ".":
            continue
        first = place
        while first > 1 and tokens[first - 1] == ".":
            first -= 2
        before = tokens[first - 1] if first else ""
        if after == "(":
            pure = first == place and word in PURE
            if before not in _TABLE_NEXT and before not in tables and not pure:
                return True
        elif first != place and word not in names:
            # Not IS DISTINCT FROM, and not FROM inside the parentheses of a function.
            of_table = before == "FROM" and tokens[first - 2] != "DISTINCT" and queries[-1]
            if before not in _SCHEMA_NEXT and before not in tables and not of_table:
                return True
    return False


def _is_name(word: str) -> bool:
    return word[0] in '_"' or word[0].isalpha()


def _may_precede_text(tokens: Sequence[str]) -> bool:
    """Return whether a text after the last token is a plain literal or of a known type."""
    word, before = tokens[-1], tokens[-2:-1]
    if word in _TEXT_OPERATORS:
        rest = tokens[: -2 if before == ["NOT"] else -1]
        return bool(rest) and rest[-1] not in _BEFORE_TEXT and rest[-1][-1] not in "(,"
    if word in _BEFORE_TEXT or (*before, word) in _PAIRS_BEFORE_TEXT:
        return True
    return word in _TYPES and before != ["."]


#: Objects of a schema, with the names of their columns.
_DEFINED: Final = re.compile(
    _fill_clauses(
        r"CREATE (?:[A-Z]+ )*?(?:TABLE|VIEW|TYPE|SEQUENCE) (?:IF NOT EXISTS )?"
        r"(?:{NAME} \. )?({NAME})(?: AS(?= \())?(?: \((.*))?"
    )
)
_NAMED: Final = re.compile(
    _fill_clauses(
        r" (?:ADD (?:COLUMN )?(?:IF NOT EXISTS )?{NO_COLUMN}"
        r"|RENAME (?:(?:COLUMN )?{NAME} )?TO )({NAME})(?![^ ])"
    )
)
_COLUMN_NAME: Final = re.compile(_fill_clauses("^{NO_COLUMN}({NAME}) "))


def defined_names(sql: str, engine: str) -> frozenset[str]:
    """Return the names of tables, types and columns that a file defines, as tokens."""
    found = set[str]()
    for statement in split_statements(sql, engine):
        tokens = tokens_of(statement, engine)
        text = " ".join(tokens)
        if tokens[:2] == ["ALTER", "TABLE"]:
            found |= set(_NAMED.findall(text))
        elif match := _DEFINED.match(text):
            found.add(match[1])
            for line in split_parts(_take_bracket((match[2] or "").split())):
                found |= set(_COLUMN_NAME.findall(f"{' '.join(line)} "))
    return frozenset(found)


def _take_bracket(tokens: Sequence[str]) -> Sequence[str]:
    """Return the tokens before the closing parenthesis; the opening one has been consumed."""
    depth = 1
    for place, word in enumerate(tokens):
        depth += (word == "(") - (word == ")")
        if not depth:
            return tokens[:place]
    return ()
