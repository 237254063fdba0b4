"""File formats of translations and settings: strict parsing, complete writing.

Duplicate keys are refused, because one of the two values would be lost silently.
"""

from __future__ import annotations

import configparser
import io
import json
from collections.abc import Mapping
from typing import Any, Protocol

from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.errors import InvalidValueError, get_error_text
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.formats.manifest import OverlayFormat, OverlayManifest
from ncen_updater.formats.texts.catalog import TextCatalog, TextEntry, TextKey, UnusableFileError

MAX_ENTRIES = 200_000


class TextFileFormat(Protocol):
    """A parser and writer of one format."""

    def read(self, text: str) -> TextCatalog:
        """Parse a file.

        Raises:
            UnusableFileError: If it is malformed or has a duplicate key.
        """

    def write(self, catalogue: TextCatalog) -> str:
        """Return the content of the file."""


class PoFormat:
    """gettext catalogues; the key is context and text, or the text alone."""

    def read(self, text: str) -> TextCatalog:
        """Parse a ``.po`` or ``.pot`` file, without obsolete entries."""
        import polib

        if not text.strip():
            raise UnusableFileError("empty file")
        try:
            # polib takes an argument that is not a file name as content; the line end ensures that.
            found = polib.pofile(text + "\n", check_for_duplicates=False, encoding="utf-8")
        except (OSError, ValueError, UnicodeError) as error:
            raise UnusableFileError(_describe_po_error(error)) from error
        entries: dict[TextKey, TextEntry] = {}
        for item in found:
            if item.obsolete:
                continue
            key = (item.msgctxt or "", item.msgid)
            if key in entries:
                raise UnusableFileError(
                    LazyText(N_("duplicate entry {name}"), {"name": repr(item.msgid)}), item.linenum
                )
            plural = tuple(item.msgstr_plural[n] for n in sorted(item.msgstr_plural))
            value = plural[0] if plural else item.msgstr
            entries[key] = TextEntry(
                value, plural if any(plural) else (), item.msgid, item.msgid_plural or None,
                item.fuzzy, tuple(flag for flag in item.flags if flag.endswith("-format")),
            )  # fmt: skip
        if not entries and not found.metadata:
            raise UnusableFileError("not text")
        return TextCatalog(_limit_entries(entries), dict(found.metadata))

    def write(self, catalogue: TextCatalog) -> str:
        """Return the ``.po`` file; fuzzy translations are included."""
        return str(self._make_polib_file(catalogue)) + "\n"

    def compile_mo(self, catalogue: TextCatalog) -> bytes:
        """Return the compiled catalogue (``.mo``)."""
        content: bytes = self._make_polib_file(catalogue).to_binary()
        return content

    @staticmethod
    def _make_polib_file(catalogue: TextCatalog) -> Any:  # noqa: ANN401 - the library has no types
        import polib

        made = polib.POFile()
        made.metadata = {**catalogue.header, "Content-Type": "text/plain; charset=UTF-8"}
        for key, entry in catalogue.entries.items():
            plural = dict(enumerate(entry.plural)) if entry.source_plural else {}
            made.append(
                polib.POEntry(
                    msgid=entry.source if entry.source is not None else key[-1],
                    msgctxt=key[0] or None,
                    msgid_plural=entry.source_plural or "",
                    msgstr="" if plural else str(entry.value or ""),
                    msgstr_plural=plural,
                )
            )
        return made


class PropertiesFormat:
    """Java's ``.properties``."""

    def read(self, text: str) -> TextCatalog:
        """Parse a file, without its comments."""
        import javaproperties

        entries: dict[TextKey, TextEntry] = {}
        line = 1
        try:
            for item in javaproperties.parse(text):
                if isinstance(item, javaproperties.KeyValue):
                    if (item.key,) in entries:
                        raise UnusableFileError(
                            LazyText(N_("duplicate entry {name}"), {"name": repr(item.key)}), line
                        )
                    entries[item.key,] = TextEntry(item.value)
                line += item.source.count("\n")
        except javaproperties.InvalidUEscapeError as error:
            raise UnusableFileError(str(error), line) from error
        return TextCatalog(_limit_entries(entries))

    def write(self, catalogue: TextCatalog) -> str:
        """Return the file, with characters beyond ASCII escaped for every reader."""
        import javaproperties

        pairs = [(key[-1], str(entry.value)) for key, entry in catalogue.entries.items()]
        return str(javaproperties.dumps(pairs, timestamp=False))


class JsonFormat:
    """Nested JSON objects; a list is one value."""

    def read(self, text: str) -> TextCatalog:
        """Parse one object."""
        try:
            parse_json(text)  # refuses too deep nesting
            data = json.loads(
                text, object_pairs_hook=_refuse_duplicate_keys, parse_constant=_refuse_constant
            )
        except (ValueError, RecursionError) as error:
            raise UnusableFileError(
                get_error_text(error), getattr(error, "lineno", None)
            ) from error
        if not isinstance(data, dict):
            raise UnusableFileError("not an object")
        entries: dict[TextKey, TextEntry] = {}
        _flatten(data, (), entries)
        return TextCatalog(_limit_entries(entries))

    def write(self, catalogue: TextCatalog) -> str:
        """Return the object, indented for readers."""
        data: dict[str, Any] = {}
        for key, entry in catalogue.entries.items():
            place = data
            for part in key[:-1]:
                place = place.setdefault(part, {})
            place[key[-1]] = entry.value
        return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


class IniFormat:
    """Sections with names and values; values are not interpolated."""

    def read(self, text: str) -> TextCatalog:
        """Parse an INI file."""
        parser = _make_ini_parser()
        try:
            parser.read_string(text)
        except configparser.Error as error:
            why = str(error).replace("\n", " ").replace("'<string>'", "").replace("  ", " ")
            raise UnusableFileError(why, getattr(error, "lineno", None)) from error
        entries: dict[TextKey, TextEntry] = {
            (section, name): TextEntry(value)
            for section in parser.sections()
            for name, value in parser.items(section)
        }
        return TextCatalog(_limit_entries(entries))

    def write(self, catalogue: TextCatalog) -> str:
        """Return the INI file."""
        parser = _make_ini_parser()
        for (section, name), entry in ((k, e) for k, e in catalogue.entries.items()):
            if not parser.has_section(section):
                parser.add_section(section)
            parser.set(section, name, str(entry.value))
        written = io.StringIO()
        parser.write(written)
        return written.getvalue()


FORMATS: Mapping[OverlayFormat, TextFileFormat] = {
    OverlayFormat.PO: PoFormat(),
    OverlayFormat.PROPERTIES: PropertiesFormat(),
    OverlayFormat.JSON: JsonFormat(),
    OverlayFormat.INI: IniFormat(),
}


def read_catalog(content: bytes, declared: OverlayManifest) -> TextCatalog:
    """Return the content of a file that a manifest declares.

    Raises:
        UnusableFileError: If it is not in the declared format or encoding.
    """
    if b"\0" in content:
        raise UnusableFileError("null byte")
    try:
        # utf-8-sig removes a byte order mark, which some editors write.
        encoding = "utf-8-sig" if declared.encoding == "utf-8" else declared.encoding
        return FORMATS[declared.format].read(content.decode(encoding))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnusableFileError(
            LazyText(N_("not encoded in {encoding}"), {"encoding": declared.encoding}), line
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        # Unexpected exceptions of a library on unusual input.
        raise UnusableFileError(
            LazyText(N_("cannot be read ({reason})"), {"reason": type(error).__name__})
        ) from error


def compile_mo(catalogue: TextCatalog) -> bytes:
    """Return a catalogue in the compiled form (``.mo``)."""
    return PoFormat().compile_mo(catalogue)


def _limit_entries(entries: dict[TextKey, TextEntry]) -> dict[TextKey, TextEntry]:
    if len(entries) > MAX_ENTRIES:
        raise UnusableFileError("too many entries")
    return entries


def _describe_po_error(error: Exception) -> LazyText | str:
    # polib names the whole content as the file's name.
    words = str(error)
    _, found, line = words.rpartition("(line ")
    return (
        LazyText(N_("line {line} cannot be read"), {"line": line.split(")", 1)[0]})
        if found
        else words[-200:]
    )


def _refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise InvalidValueError(N_("duplicate entry {name}"), name=repr(name))
            seen.add(name)
    return found


def _refuse_constant(name: str) -> Any:  # noqa: ANN401 - never returns
    raise InvalidValueError(N_("{name} is not a value"), name=name)


def _flatten(data: dict[str, Any], above: TextKey, entries: dict[TextKey, TextEntry]) -> None:
    for name, value in data.items():
        key = (*above, name)
        if isinstance(value, dict) and value:
            _flatten(value, key, entries)
        else:
            entries[key] = TextEntry(value)


def _make_ini_parser() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(
        strict=True, default_section="\0", allow_no_value=False, comment_prefixes=("#", ";"),
        delimiters=("=", ":"), empty_lines_in_values=False,
    )  # fmt: skip
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    return parser
