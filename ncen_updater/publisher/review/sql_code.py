"""Programs in SQL: functions, triggers, rules and DO, each one thing with what stands in it. Pure.

The head of a trigger or of a rule names what it waits for (``AFTER UPDATE ON cases``): that changes
nothing. What its body does, or the body of a function, happens when it runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ncen_updater.formats.dialects import DIALECTS
from ncen_updater.formats.dialects.base import Statement
from ncen_updater.formats.sql import lexemes, split

_MODIFIERS: Final = {"OR", "REPLACE", "CONSTRAINT", "EVENT", "TEMP", "TEMPORARY"}
_CALLED: Final = {"FUNCTION", "PROCEDURE"}
_BY_ITSELF: Final = {"TRIGGER", "RULE"}
#: Languages whose words are those of SQL.
_READ: Final = {"SQL", "PLPGSQL"}


@dataclass(frozen=True)
class Program:
    """What a statement defines, or runs at once.

    Attributes:
        by_itself: Whether the database runs it when something else happens.
        head: The words of the statement outside its body.
        inside: The words of each statement in its body.
        unread: Whether there is something in it that cannot be read here.
    """

    by_itself: bool
    head: tuple[str, ...]
    inside: tuple[tuple[str, ...], ...] = ()
    unread: bool = False


def program_of(statement: Statement, engine: str) -> Program | None:
    """Return the program of a statement; None where it defines and runs none.

    Args:
        statement: One statement of a file.
        engine: As which engine it is read.
    """
    words, thing = statement.words, _thing(statement.words)
    if thing in _BY_ITSELF:
        begin = "BEGIN" if thing == "TRIGGER" else "DO"
        body = words[words.index(begin) + 1 :] if begin in words else ()
        return Program(True, words[:2], _cut(body))
    if thing in _CALLED:
        for place, pair in enumerate(itertools.pairwise(words)):
            if pair == ("BEGIN", "ATOMIC"):
                return Program(False, words[:place], _cut(words[place + 2 :]))
    if thing in _CALLED or thing == "DO":
        return _written(statement, engine, thing)
    return None


def can_run(statement: Statement, engine: str) -> bool:
    """Whether an engine has such programs at all: one that has not refuses the whole file."""
    thing, bodies = _thing(statement.words), DIALECTS[engine].bodies
    if thing == "TRIGGER":  # with a body of its own, or the name of a function
        return ("EXECUTE" in statement.words) is ("TRIGGER" not in bodies)
    return thing is None or "FUNCTION" in bodies


def _thing(words: Sequence[str]) -> str | None:
    """What a statement defines or runs; None where that is no program."""
    if words[:1] == ("DO",):
        return "DO"
    if words[:1] != ("CREATE",):
        return None
    named = next((word for word in words[1:] if word not in _MODIFIERS), "")
    return named if named in _CALLED | _BY_ITSELF else None


def _cut(words: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Statements of a body that was read with the statement around it."""
    parts = [tuple(part) for is_end, part in itertools.groupby(words, ";".__eq__) if not is_end]
    return tuple(part for part in parts if part != ("END",))


def _written(statement: Statement, engine: str, thing: str) -> Program:
    """A program whose body is a text of its own, in a language that stands beside it."""
    words, found = statement.words, lexemes(statement.text, engine)
    language = "PLPGSQL" if thing == "DO" else "SQL"
    if "LANGUAGE" in words[:-1]:
        language = found[words.index("LANGUAGE") + 1].strip("'\"").upper()
    for place, (before, word) in enumerate(itertools.pairwise(words), 1):
        begins = before == "AS" or (thing == "DO" and before != "LANGUAGE")
        if begins and word == "" and (text := _text(found[place])) is not None:
            more = words[place + 1 : place + 2] == ("",)  # a text that goes on in the next line
            escaped = found[place][:1] not in "'$"
            head = (*words[:place], *words[place + 1 :])
            if language not in _READ:
                return Program(False, head, unread=True)
            inside = tuple(one.words for one in split(text, engine))
            return Program(False, head, inside, escaped or more or _dynamic(inside))
    return Program(False, words)


def _dynamic(inside: Sequence[Sequence[str]]) -> bool:
    """Whether a body runs statements that it puts together itself."""
    return any("EXECUTE" in words and "GRANT" not in words for words in inside)


def _text(token: str) -> str | None:
    """What stands between the quotes of a text; None where it is a quoted name."""
    if token.startswith("$"):
        tag = token[: token.index("$", 1) + 1]
        return token.removeprefix(tag).removesuffix(tag)
    if token.endswith("'"):
        return token[token.index("'") + 1 : -1].replace("''", "'")
    return None
