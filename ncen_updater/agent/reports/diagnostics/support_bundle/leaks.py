"""Parts of a support bundle, and the search for database values in them before it is written.

Distinctive values, such as names of persons or passport numbers, are sampled from every text column
of every live database, within limits of time and number. A value is searched by its first words,
regardless of separators, case, accents, escapes and the grouping of digits. A value that
consists only of words that the agent itself uses ("finished", "in progress") is not distinctive and
is not searched.
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

#: Size limit of a part; of a longer text the end is kept, since it shows the latest failure.
MAX_PART_CHARS = 1_000_000
WORD_PATTERN = re.compile(r"[^\W_]+")
ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
#: Values are compared by their first words; more would not make them more distinctive.
MAX_KEY_WORDS = 4
MIN_KEY_CHARS, MIN_DIGITS = 4, 6
DATE = re.compile(r"\d{4}-\d\d-\d\d\b")
MAX_ROWS, MAX_TABLES, MAX_VALUES = 1000, 500, 300_000
QUERY_TIMEOUT_S, TOTAL_TIMEOUT_S = 5.0, 60.0

ValueKey = tuple[str, ...]


@dataclass(frozen=True)
class ValueSample:
    """Sampled values.

    Attributes:
        values: Column of each value, by the value's first words.
        unread_databases: Databases that were not completely sampled, with the reason.
    """

    values: Mapping[ValueKey, str]
    unread_databases: Mapping[str, str]


@dataclass(frozen=True)
class Leak:
    """A value of a column in a part. The value itself is not stored."""

    part: str
    column: str


def split_words(text: str) -> list[str]:
    """Return the words of a text, casefolded and without accents and escapes."""
    plain = ESCAPED.sub(lambda found: chr(int(found[1], 16)), unquote(text))
    folded = unicodedata.normalize("NFKD", plain.casefold())
    return WORD_PATTERN.findall("".join(c for c in folded if not unicodedata.combining(c)))


def _build_key(value: str, own: Set[str]) -> ValueKey | None:
    words = split_words(value[:400])[:MAX_KEY_WORDS]
    if all(map(str.isdecimal, words)):  # a number, regardless of grouping
        number = "".join(words)
        return (number,) if len(number) >= MIN_DIGITS and not DATE.match(value) else None
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
            # An array in the server's text format, plain text, or text nested too deeply.
            except (ValueError, RecursionError):
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
    """Sample the live databases.

    Args:
        engine: The database engine.
        own: Words that the agent itself uses.
        monotonic: A monotonic clock.
    """
    values: dict[ValueKey, str] = {}
    unread: dict[str, str] = {}
    deadline = monotonic() + TOTAL_TIMEOUT_S
    for name in engine.names:
        try:
            for table, columns in _list_text_columns(engine, name).items():
                if monotonic() > deadline or len(values) > MAX_VALUES:
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
        # a missing file of the engine; another part of the bundle reports it
        except OSError as error:
            unread[name] = type(error).__name__
    return ValueSample(values, unread)


def _list_text_columns(engine: DatabaseEngine, name: str) -> dict[str, list[str]]:
    columns_by_table: dict[str, list[str]] = {}
    query = get_engine_descriptor(engine.engine_name).text_columns_query
    for table, column, _ in engine.run_query(LiveDatabase(name), query, timeout_s=QUERY_TIMEOUT_S):
        columns_by_table.setdefault(str(table), []).append(str(column))
    return dict(list(columns_by_table.items())[:MAX_TABLES])


def _read_rows(
    engine: DatabaseEngine,
    name: str,
    table: str,
    columns: list[str],
) -> Iterator[list[tuple[object, ...]]]:
    """Yield the first and the last rows of a table, which errors are most likely to quote."""
    descriptor = get_engine_descriptor(engine.engine_name)
    cells, tails = descriptor.build_sample_query(
        partial(engine.run_query, LiveDatabase(name), timeout_s=QUERY_TIMEOUT_S),
        table,
        columns,
        MAX_ROWS,
    )
    for tail in tails:
        sql = f"SELECT {cells} FROM {table} {tail}"  # noqa: S608 - names quoted by the server
        yield engine.run_query(LiveDatabase(name), sql, timeout_s=QUERY_TIMEOUT_S)


def find_leaks(parts: Iterable[BundlePart], values: Mapping[ValueKey, str]) -> tuple[Leak, ...]:
    """Return the values found in the parts, one per part and column. Pure."""
    leaks: dict[Leak, None] = {}
    for part in parts:
        words = split_words(part.text or "")
        for start in range(len(words)):
            for length in range(1, MAX_KEY_WORDS + 1):
                key = tuple(words[start : start + length])
                candidate = ("".join(key),) if all(map(str.isdecimal, key)) else key
                column = values.get(candidate)
                if column is not None:
                    leaks[Leak(part.name, column)] = None
    return tuple(leaks)


@dataclass(frozen=True)
class BundlePart:
    """One file of a bundle.

    Attributes:
        name: Its name.
        text: Its content; None if it could not be collected.
        missing_reason: Why it could not be collected.
    """

    name: str
    text: str | None
    missing_reason: str | None = None


def render_json(data: object) -> str:
    """Return data as JSON text of a part."""
    return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False, default=str) + "\n"


def collect_part(name: str, gather: Callable[[], str]) -> BundlePart:
    """Collect one part; any failure is recorded in the part.

    Args:
        name: Name of the part.
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
