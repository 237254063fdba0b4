"""Parse SQL statements as lists of words: tables, columns, assignments, row changes. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ncen_updater.formats.sql import list_lexemes, split_statements

_DEFAULT_SCHEMAS: Final = ("PUBLIC.", "MAIN.")
NO_COLUMNS: Final = frozenset(
    {"CHECK", "CONSTRAINT", "EXCLUDE", "FOREIGN", "LIKE", "NOT", "PRIMARY", "UNIQUE"}
)
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True)
class TokenizedStatement:
    """The tokens of one statement."""

    line: int
    words: list[str]

    def starts(self, *words: str) -> bool:
        """Return whether the statement starts with these words."""
        return tuple(self.words[: len(words)]) == words

    def at(self, place: int) -> str:
        """Return the word at a position; an empty string after the last word."""
        return self.words[place] if place < len(self.words) else ""


def read_statements(sql: str, engine: str) -> list[TokenizedStatement]:
    """Return the statements of a file, each as a list of words."""
    return [
        TokenizedStatement(s.line, list_lexemes(s.text, engine))
        for s in split_statements(sql, engine)
    ]


def parse_name(words: Sequence[str], place: int) -> tuple[str, int]:
    """Return the name at a position, without the schemas ``public`` and ``main``, and its end."""
    parts = []
    while place < len(words):
        parts.append(unquote(words[place]))
        place += 1
        if words[place : place + 1] != ["."]:
            break
        place += 1
    name = ".".join(parts)
    for schema in _DEFAULT_SCHEMAS:
        name = name.removeprefix(schema)
    return name, place


def unquote(word: str) -> str:
    """Return a name without quotation marks; a quoted name is converted to upper case."""
    return word[1:-1].upper() if len(word) > 2 and word[0] in '"`[' else word


def skip_words(words: Sequence[str], place: int, *skipped: str) -> int:
    """Return the position after any of some words."""
    while place < len(words) and words[place] in skipped:
        place += 1
    return place


def split_at_commas(words: Sequence[str]) -> Iterator[list[str]]:
    """Split at commas outside brackets."""
    depth = 0
    part: list[str] = []
    for word in words:
        depth += (word in "([") - (word in ")]")
        if word == "," and not depth:
            yield part
            part = []
        else:
            part.append(word)
    yield part


def is_literal(word: str) -> bool:
    """Return whether a word is a string or a number."""
    return word.startswith("'") or bool(_NUMBER.fullmatch(word))


def parse_alter_table(statement: TokenizedStatement) -> tuple[str, list[list[str]]]:
    """Return the table of an ALTER TABLE, and its actions."""
    place = skip_words(statement.words, 2, "IF", "EXISTS", "ONLY")
    table, place = parse_name(statement.words, place)
    place = skip_words(statement.words, place, "*")
    return table, list(split_at_commas(statement.words[place:]))


def parse_created_table(statement: TokenizedStatement) -> tuple[str, int] | None:
    """Return the table that a statement creates, and the position after its name."""
    if not statement.starts("CREATE") or "TABLE" not in statement.words[:4]:
        return None
    place = statement.words.index("TABLE") + 1
    return parse_name(statement.words, skip_words(statement.words, place, "IF", "NOT", "EXISTS"))


def parse_columns(statement: TokenizedStatement, place: int) -> frozenset[str]:
    """Return the columns of a CREATE TABLE (...)."""
    if statement.at(place) != "(":
        return frozenset()
    inside, depth = [], 0
    for word in statement.words[place:]:
        depth += (word == "(") - (word == ")")
        if not depth:
            break
        inside.append(word)
    heads = [part[0] for part in split_at_commas(inside[1:]) if part]
    return frozenset(unquote(head) for head in heads if head not in NO_COLUMNS)


@dataclass(frozen=True)
class Assignment:
    """One ``column = value`` of an UPDATE."""

    column: str
    value: list[str]


@dataclass(frozen=True)
class Update:
    """Values that a statement writes into existing rows.

    Attributes:
        table: The table.
        sets: The assignments.
        where: Words of the WHERE condition.
        called: Names by which the condition may refer to the table.
        replaces: Whether conflicting rows are deleted (``OR REPLACE``).
    """

    table: str
    sets: list[Assignment]
    where: list[str]
    called: frozenset[str] = frozenset()
    replaces: bool = False


def parse_update(statement: TokenizedStatement) -> Update | None:
    """Return the values that an UPDATE writes; None for another statement."""
    words = statement.words
    if not statement.starts("UPDATE") or "SET" not in words:
        return None
    replaces = statement.starts("UPDATE", "OR", "REPLACE")
    table, place = parse_name(
        words, skip_words(words, 3 if statement.starts("UPDATE", "OR") else 1, "ONLY")
    )
    called = {get_last_part(table), *words[skip_words(words, place, "*", "AS") :][:1]}
    sets, where = parse_assignments(words[words.index("SET") + 1 :])
    return Update(table, sets, where, frozenset(called), replaces)


def parse_assignments(words: Sequence[str]) -> tuple[list[Assignment], list[str]]:
    """Return the assignments after SET, and the words of the WHERE condition."""
    depth = 0
    sets, where = list[str](), list[str]()
    part = sets
    for place, word in enumerate(words):
        depth += (word == "(") - (word == ")")
        # In SQLite an INSERT may have several ON CONFLICT clauses.
        if not depth and (word == "RETURNING" or take_pair(words, place) == _CONFLICT):
            break
        if not depth and word == "WHERE":
            part = where
        elif not depth and word == "FROM" and part is sets and words[place - 1] != "DISTINCT":
            part = []
        else:
            part.append(word)
    found = []
    for one in split_at_commas(sets):
        if "=" not in one:
            continue
        left, right = one[: one.index("=")], one[one.index("=") + 1 :]
        listed = left[:1] == ["("]
        names = split_at_commas(left[1:-1] if listed else left)
        # The name may be followed by an index or a field.
        columns = [unquote(name[0]) for name in names if name]
        found += [Assignment(column, [] if listed else right) for column in columns]
    return found, where


_CONFLICT: Final = ("ON", "CONFLICT")


def take_pair(words: Sequence[str], place: int) -> tuple[str, ...]:
    """Return the word at a position and the next one."""
    return tuple(words[place : place + 2])


def iter_conflict_updates(statement: TokenizedStatement) -> Iterator[Update]:
    """Yield the updates that an INSERT ... ON CONFLICT makes to existing rows."""
    words = statement.words
    table, place = parse_inserted_table(words)
    called = {get_last_part(table)}
    if words[place : place + 1] == ["AS"]:
        called |= set(words[place + 1 : place + 2])
    for clause in _iter_clauses(words, "DO", "UPDATE", "SET"):
        sets, where = parse_assignments(clause)
        yield Update(table, sets, where, frozenset(called))


def _iter_clauses(words: Sequence[str], *opening: str) -> Iterator[Sequence[str]]:
    """Yield the words after each occurrence of an opening, up to the next one."""
    size = len(opening)
    starts = [p + size for p in range(len(words)) if tuple(words[p : p + size]) == opening]
    for start, end in itertools.pairwise([*starts, len(words)]):
        yield words[start:end]


def parse_inserted_table(words: Sequence[str]) -> tuple[str, int]:
    """Return the table of an INSERT or REPLACE, and the position after its name."""
    return parse_name(words, words.index("INTO") + 1) if "INTO" in words[:4] else ("", len(words))


def parse_merge(statement: TokenizedStatement) -> tuple[str, bool, list[Assignment]]:
    """Return the table of a MERGE, whether it deletes rows, and its assignments."""
    words = statement.words
    table, _ = parse_name(words, skip_words(words, 1, "INTO", "ONLY"))
    sets: list[Assignment] = []
    for clause in _iter_clauses(words, "THEN", "UPDATE", "SET"):
        depth, end = 0, 0
        while end < len(clause) and (depth or clause[end] not in ("WHEN", "RETURNING")):
            depth += (clause[end] in ("(", "CASE")) - (clause[end] in (")", "END"))
            end += 1
        sets += parse_assignments(clause[:end])[0]
    return table, ("THEN", "DELETE") in itertools.pairwise(words), sets


#: Pairs of words with which a row-changing statement, or a part of one, begins.
_ACTS: Final = frozenset(
    {
        ("DELETE", "FROM"), ("INSERT", "INTO"), ("INSERT", "OR"), ("MERGE", "INTO"),
        ("REPLACE", "INTO"),
    }
)  # fmt: skip


def split_row_changes(statement: TokenizedStatement) -> list[TokenizedStatement]:
    """Return the row-changing parts of a statement: of WITH, EXPLAIN, COPY and PREPARE."""
    words = statement.words
    # The body of a trigger, rule or function does not run now.
    if words[:1] == ["CREATE"] and parse_created_table(statement) is None:
        return [statement]
    found = []
    end = 0  # no part contains another
    sets = len(words) - words[::-1].index("SET") if "SET" in words else 0
    for place, word in enumerate(words):
        before = words[place - 1] if place else "("
        begins = before in ("(", ")", "AS") or words[0] == "EXPLAIN"
        act = take_pair(words, place) in _ACTS or (word == "UPDATE" and place < sets)
        act = act or (word == "SELECT" and words[0] == "WITH" and before == ")")
        if place >= end and begins and act:
            found.append(TokenizedStatement(statement.line, take_to_bracket_end(words, place)))
            end = place + len(found[-1].words)
    whole = not found or words[0] not in ("COPY", "EXPLAIN", "PREPARE", "WITH", found[0].words[0])
    return [statement, *found] if whole else found


def take_to_bracket_end(words: Sequence[str], place: int) -> list[str]:
    """Return the words from a position to the end of the enclosing brackets."""
    depth = 0
    for number in range(place, len(words)):
        depth += (words[number] == "(") - (words[number] == ")")
        if depth < 0:
            return list(words[place:number])
    return list(words[place:])


def parse_with_parts(statement: TokenizedStatement) -> dict[str, list[str]]:
    """Return the parts of a WITH by name."""
    words = statement.words
    found: dict[str, list[str]] = {}
    for place, word in enumerate(words):
        if word != "(" or words[0] != "WITH":
            continue
        before = place - 1
        while before > 0 and words[before] in ("MATERIALIZED", "NOT"):
            before -= 1
        if words[before] != "AS":
            continue
        name = before - 1
        if words[name] == ")":  # skip the list of column names
            while name > 0 and words[name] != "(":
                name -= 1
            name -= 1
        found[unquote(words[name])] = take_to_bracket_end(words, place + 1)
    return found


def get_last_part(name: str) -> str:
    """Return a name without its schema."""
    return name.rpartition(".")[2]
