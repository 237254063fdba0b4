"""Parts of a bundle, and the search for values of the databases in them before anything is written.

Distinctive values are sampled from every text column of every live database, within a limit of time
and number: a name of a person, a number of a passport. A value is looked for as whole words,
whatever stands between them and however they are written: large or small, with or without accents,
escaped, the digits of a number in groups. A value all of whose words this program uses itself
("finished", "in progress") says nothing and is not looked for.
"""

from __future__ import annotations

import json
import logging
import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

from ncen_updater.agent.adapters.databases.base import DatabaseEngine, LiveDatabase
from ncen_updater.agent.adapters.databases.engines import get_engine_descriptor
from ncen_updater.common.errors import UpdaterError

logger = logging.getLogger(__name__)

#: No part is larger; of a longer one the end is kept, since that is where it broke.
MAX_PART_CHARS = 1_000_000
WORD_PATTERN = re.compile(r"[^\W_]+")
ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
#: A value is known by its first words; more would not make it more distinctive.
MAX_KEY_WORDS = 4
MIN_KEY_CHARS, LEAST_DIGITS = 4, 6
DATE = re.compile(r"\d{4}-\d\d-\d\d\b")
MAX_ROWS, MAX_TABLES, MAX_VALUES = 1000, 500, 300_000
QUERY_TIMEOUT_S, TOTAL_TIMEOUT_S = 5.0, 60.0

ValueKey = tuple[str, ...]


@dataclass(frozen=True)
class ValueSample:
    """Values that were looked at.

    Attributes:
        values: First words of each to the column that it is from.
        unread_databases: Databases of which not every column could be looked at, with the reason.
    """

    values: Mapping[ValueKey, str]
    unread_databases: Mapping[str, str]


@dataclass(frozen=True)
class Leak:
    """A value of a column that stands in a part. The value itself is not told."""

    part: str
    column: str


def split_words(text: str) -> list[str]:
    """Return the words of a text, folded: without accents, escapes and differences of case."""
    plain = ESCAPED.sub(lambda found: chr(int(found[1], 16)), unquote(text))
    folded = unicodedata.normalize("NFKD", plain.casefold())
    return WORD_PATTERN.findall("".join(c for c in folded if not unicodedata.combining(c)))


def _build_key(value: str, own: Set[str]) -> ValueKey | None:
    words = split_words(value[:400])[:MAX_KEY_WORDS]
    if all(map(str.isdecimal, words)):  # a number, however it is grouped
        number = "".join(words)
        return (number,) if len(number) >= LEAST_DIGITS and not DATE.match(value) else None
    letters = sum(character.isalpha() for word in words for character in word)
    characters = sum(map(len, words))
    if letters < 1 or characters < MIN_KEY_CHARS or all(word in own for word in words):
        return None
    return tuple(words)


def _iterate_texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        if value[:1] in "{[":
            try:
                yield from _iterate_texts(json.loads(value))
                return
            except ValueError:  # an array as a server writes it, or just text
                yield from filter(None, re.split(r'[{},"]+', value[:10_000]))
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _iterate_texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _iterate_texts(inner)


def sample_values(
    engine: DatabaseEngine,
    own: Set[str],
    monotonic: Callable[[], float] = time.monotonic,
) -> ValueSample:
    """Look at the live databases.

    Args:
        engine: Theirs.
        own: Words that this program uses itself.
        monotonic: A clock.
    """
    values: dict[ValueKey, str] = {}
    unread: dict[str, str] = {}
    ends = monotonic() + TOTAL_TIMEOUT_S
    for name in engine.names:
        try:
            for table, columns in _list_text_columns(engine, name).items():
                if monotonic() > ends or len(values) > MAX_VALUES:
                    unread[name] = "too large"
                    break
                for rows in _read_rows(engine, name, table, columns):
                    for row in rows:
                        for column, cell in zip(columns, row, strict=True):
                            for text in _iterate_texts(cell):
                                key = _build_key(text, own)
                                if key is not None:
                                    values.setdefault(key, f"{name}: {table}.{column}")
        except UpdaterError as error:
            unread[name] = error.code
        except OSError as error:  # a file of it is not there: what is sent tells of that
            unread[name] = type(error).__name__
    return ValueSample(values, unread)


def _list_text_columns(engine: DatabaseEngine, name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    asked = get_engine_descriptor(engine.engine_name).text_columns_query
    for table, column, _ in engine.run_query(LiveDatabase(name), asked, timeout_s=QUERY_TIMEOUT_S):
        found.setdefault(str(table), []).append(str(column))
    return dict(list(found.items())[:MAX_TABLES])


def _read_rows(
    engine: DatabaseEngine,
    name: str,
    table: str,
    columns: list[str],
) -> Iterator[list[tuple[object, ...]]]:
    """Yield the first rows of a table and its last ones; an error is most likely to quote these."""
    kind = get_engine_descriptor(engine.engine_name)
    cells, tails = kind.build_sample_query(
        partial(engine.run_query, LiveDatabase(name), timeout_s=QUERY_TIMEOUT_S),
        table,
        columns,
        MAX_ROWS,
    )
    for tail in tails:
        sql = f"SELECT {cells} FROM {table} {tail}"  # noqa: S608 - names quoted by the server
        yield engine.run_query(LiveDatabase(name), sql, timeout_s=QUERY_TIMEOUT_S)


def find_leaks(parts: Iterable[BundlePart], values: Mapping[ValueKey, str]) -> tuple[Leak, ...]:
    """Return the values that stand in the parts, one for each part and column; pure."""
    found: dict[Leak, None] = {}
    for part in parts:
        words = split_words(part.text or "")
        for at in range(len(words)):
            for length in range(1, MAX_KEY_WORDS + 1):
                here = tuple(words[at : at + length])
                number = ("".join(here),) if all(map(str.isdecimal, here)) else here
                column = values.get(number)
                if column is not None:
                    found[Leak(part.name, column)] = None
    return tuple(found)


@dataclass(frozen=True)
class BundlePart:
    """One file of a bundle.

    Attributes:
        name: Its name.
        text: What it holds; None where it could not be had.
        missing_reason: Why it could not be had.
    """

    name: str
    text: str | None
    missing_reason: str | None = None


def render_json(data: object) -> str:
    """Return data as a part holds them."""
    return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False, default=str) + "\n"


def collect_part(name: str, gather: Callable[[], str]) -> BundlePart:
    """Gather one part; whatever goes wrong, the others go on.

    Args:
        name: Its name.
        gather: Returns its text.
    """
    try:
        text = gather()
    except UpdaterError as error:
        return BundlePart(name, None, error.code)
    except Exception as error:
        logger.debug("part %s", name, exc_info=True)
        return BundlePart(name, None, type(error).__name__)
    if len(text) > MAX_PART_CHARS:
        text = "[...]\n" + text[-MAX_PART_CHARS:]
    return BundlePart(name, text, None)
