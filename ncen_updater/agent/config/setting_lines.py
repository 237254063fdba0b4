"""Find the line of each setting in a TOML text.

``tomllib`` returns values without positions. This module scans the text again and records the line
of each name. It expects text that ``tomllib`` has accepted. If it still cannot parse the text, it
stops and returns the lines found so far: an error without a line is better than none.
"""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Mapping

SettingPath = tuple[str | int, ...]

_BLANK = " \t"
_SPACE = " \t\n"
_BARE_END = " \t\n.=]#\"',"
_VALUE_END = " \t\n,]}#"


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
    scanner = _TomlScanner(text)
    # Lines found before an error are returned.
    with contextlib.suppress(IndexError, ValueError, RecursionError):
        scanner.scan_document()
    return scanner.lines


class _TomlScanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0
        self.lines: dict[SettingPath, int] = {}
        self._arrays: dict[SettingPath, int] = {}

    # ---- positions -----------------------------------------------------------------------------

    def _mark(self, path: SettingPath) -> None:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], self._line)

    def _skip(self, characters: str) -> None:
        while self._at < len(self._text) and self._text[self._at] in characters:
            self._at += 1

    def _skip_all(self) -> None:
        """Skip spaces, line ends and comments."""
        while True:
            self._skip(_SPACE)
            if not self._text.startswith("#", self._at):
                return
            end = self._text.find("\n", self._at)
            self._at = len(self._text) if end == -1 else end

    def _take(self, character: str) -> bool:
        if self._text.startswith(character, self._at):
            self._at += len(character)
            return True
        return False

    # ---- grammar -------------------------------------------------------------------------------

    def scan_document(self) -> None:
        table: SettingPath = ()
        while True:
            self._skip_all()
            if self._at >= len(self._text):
                return
            if self._take("[["):
                table = self._resolve_table_path(self._scan_key(), leave_last=True)
                number = self._arrays.get(table, -1) + 1
                self._arrays[table] = number
                table = (*table, number)
                self._mark(table)
                self._skip(_BLANK + "]")
            elif self._take("["):
                table = self._resolve_table_path(self._scan_key())
                self._mark(table)
                self._skip(_BLANK + "]")
            else:
                self._scan_pair(table)

    def _resolve_table_path(
        self, names: tuple[str, ...], *, leave_last: bool = False
    ) -> SettingPath:
        """Insert the position of the newest element where a name is an array of tables."""
        path: SettingPath = ()
        for index, name in enumerate(names):
            path = (*path, name)
            last = index == len(names) - 1
            if path in self._arrays and not (last and leave_last):
                path = (*path, self._arrays[path])
        return path

    def _scan_pair(self, table: SettingPath) -> None:
        start = self._at
        names = self._scan_key()
        end, self._at = self._at, start
        path = (*table, *names)
        self._mark(path)
        self._at = end
        if not self._take("="):
            raise ValueError("missing equals sign")
        self._scan_value(path)

    def _scan_key(self) -> tuple[str, ...]:
        parts: list[str] = []
        while True:
            self._skip(_BLANK)
            parts.append(self._scan_name())
            self._skip(_BLANK)
            if not self._take("."):
                return tuple(parts)

    def _scan_name(self) -> str:
        start = self._at
        if self._text[self._at] in "\"'":
            self._scan_string()
            value = tomllib.loads(f"k = {self._text[start : self._at]}")["k"]
            return str(value)
        while self._text[self._at] not in _BARE_END:
            self._at += 1
        if self._at == start:
            raise ValueError("missing name")
        return self._text[start : self._at]

    def _scan_value(self, path: SettingPath) -> None:
        self._skip(_BLANK)
        character = self._text[self._at]
        if character in "\"'":
            self._scan_string()
        elif character == "[":
            self._at += 1
            self._scan_array(path)
        elif character == "{":
            self._at += 1
            self._scan_inline_table(path)
        else:
            while self._at < len(self._text) and self._text[self._at] not in _VALUE_END:
                self._at += 1

    def _scan_array(self, path: SettingPath) -> None:
        index = 0
        while True:
            self._skip_all()
            if self._take("]"):
                return
            if self._take(","):
                index += 1
                continue
            self._mark((*path, index))
            before = self._at
            self._scan_value((*path, index))
            if self._at == before:
                raise ValueError("missing value")

    def _scan_inline_table(self, path: SettingPath) -> None:
        while True:
            self._skip_all()
            if self._take("}"):
                return
            if not self._take(","):
                self._scan_pair(path)

    def _scan_string(self) -> None:
        quote = self._text[self._at]
        long = quote * 3
        if self._take(long):
            self._skip_to(long, escapes=quote == '"')
            # Up to two more quotes belong to the string.
            self._skip(quote)
        else:
            self._at += 1
            self._skip_to(quote, escapes=quote == '"')

    def _skip_to(self, end: str, *, escapes: bool) -> None:
        while not self._take(end):
            if escapes and self._text[self._at] == "\\":
                self._at += 1
            self._at += 1
            if self._at > len(self._text):
                raise ValueError("unterminated string")
