"""Find the line of each setting in a TOML text.

``tomllib`` returns values without positions. So the text is read again, statement by statement: a
statement ends at the first line with which ``tomllib`` accepts it. The text must be one that
``tomllib`` has accepted. If a statement is too long, the lines found so far are returned: an error
without a line is better than none.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping

SettingPath = tuple[str | int, ...]

#: Limits of one statement: it is parsed again with each of its lines.
MAX_STATEMENT_LINES, MAX_STATEMENT_CHARS = 200, 10_000


def find_line(lines: Mapping[SettingPath, int], path: SettingPath) -> int | None:
    """Return the line of a setting, or of its nearest table.

    Args:
        lines: The result of :func:`locate_settings`.
        path: Names and list positions, from the outermost table.
    """
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def locate_settings(text: str) -> dict[SettingPath, int]:
    """Return the line, from 1, of every table, key and list element."""
    lines: dict[SettingPath, int] = {}
    #: Number of tables of each array of tables.
    arrays: Counter[SettingPath] = Counter()
    table: SettingPath = ()
    statement, begin = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        statement += f"{line}\n"
        try:
            data = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            if number - begin >= MAX_STATEMENT_LINES or len(statement) > MAX_STATEMENT_CHARS:
                break
            continue
        paths = list(_iter_paths(data))
        if statement.lstrip().startswith("["):
            names = [name for name in paths[-1] if isinstance(name, str)]
            table = _resolve_table(names, arrays, new=statement.lstrip().startswith("[["))
            paths = [()]
        for path in paths:
            place = (*table, *path)
            for length in range(1, len(place) + 1):
                lines.setdefault(place[:length], begin)
        statement, begin = "", number + 1
    return lines


def _iter_paths(value: object, path: SettingPath = ()) -> Iterator[SettingPath]:
    """Yield the path of every key and element in a value, outer ones first."""
    inner = dict(enumerate(value)) if isinstance(value, list) else value
    for name, one in inner.items() if isinstance(inner, dict) else ():
        yield (*path, name)
        yield from _iter_paths(one, (*path, name))


def _resolve_table(names: list[str], arrays: Counter[SettingPath], *, new: bool) -> SettingPath:
    """Return the path of a table, with the position of the newest table of each array."""
    path: SettingPath = ()
    for index, name in enumerate(names, 1):
        path = (*path, name)
        if new and index == len(names):
            arrays[path] += 1
        if path in arrays:
            path = (*path, arrays[path] - 1)
    return path
