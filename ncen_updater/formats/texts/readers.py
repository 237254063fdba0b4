"""The formats of texts and settings: read strictly, written whole.

A key that stands twice is refused, since one of the two would be lost in silence.
"""

from __future__ import annotations

import configparser
import io
import json
from collections.abc import Mapping
from typing import Any, Protocol

from ncen_updater.common.bounded_io import parse_json
from ncen_updater.formats.manifest import CarriedFormat, CarriedManifest
from ncen_updater.formats.texts.catalogue import Catalogue, Key, TextEntry, Unusable

MOST_ENTRIES = 200_000


class Format(Protocol):
    """How one format is read and written."""

    def read(self, text: str) -> Catalogue:
        """Read a file.

        Raises:
            Unusable: If it is not what the format says, or names a key twice.
        """

    def write(self, catalogue: Catalogue) -> str:
        """Return a file."""


class Po:
    """gettext's catalogues; the key is context and text, or the text alone."""

    def read(self, text: str) -> Catalogue:
        """Read a ``.po`` or ``.pot``; what is obsolete is none of it."""
        import polib

        if not text.strip():
            raise Unusable("the file is empty")
        try:
            # Polib takes what names no file for the content itself; a line end makes that sure.
            found = polib.pofile(text + "\n", check_for_duplicates=False, encoding="utf-8")
        except (OSError, ValueError, UnicodeError) as error:
            raise Unusable(_po_words(error)) from error
        entries: dict[Key, TextEntry] = {}
        for item in found:
            if item.obsolete:
                continue
            key = (item.msgctxt or "", item.msgid)
            if key in entries:
                raise Unusable(f"it has {item.msgid!r} twice", item.linenum)
            plural = tuple(item.msgstr_plural[n] for n in sorted(item.msgstr_plural))
            value = plural[0] if plural else item.msgstr
            entries[key] = TextEntry(
                value, plural if any(plural) else (), item.msgid, item.msgid_plural or None,
                item.fuzzy, tuple(flag for flag in item.flags if flag.endswith("-format")),
            )  # fmt: skip
        if not entries and not found.metadata:
            raise Unusable("it holds no text")
        return Catalogue(_bounded(entries), dict(found.metadata))

    def write(self, catalogue: Catalogue) -> str:
        """Write a ``.po``; a text of whose translation its translator was not sure is used."""
        return str(self._file(catalogue)) + "\n"

    def compiled(self, catalogue: Catalogue) -> bytes:
        """Return the same as programs read it (``.mo``)."""
        content: bytes = self._file(catalogue).to_binary()
        return content

    @staticmethod
    def _file(catalogue: Catalogue) -> Any:  # noqa: ANN401 - the library has no types
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


class Properties:
    """Java's ``.properties``."""

    def read(self, text: str) -> Catalogue:
        """Read one; comments are not kept."""
        import javaproperties

        entries: dict[Key, TextEntry] = {}
        line = 1
        try:
            for item in javaproperties.parse(text):
                if isinstance(item, javaproperties.KeyValue):
                    if (item.key,) in entries:
                        raise Unusable(f"it has {item.key!r} twice", line)
                    entries[item.key,] = TextEntry(item.value)
                line += item.source.count("\n")
        except javaproperties.InvalidUEscapeError as error:
            raise Unusable(str(error), line) from error
        return Catalogue(_bounded(entries))

    def write(self, catalogue: Catalogue) -> str:
        """Write one; what is not ASCII is escaped, as every reader understands."""
        import javaproperties

        pairs = [(key[-1], str(entry.value)) for key, entry in catalogue.entries.items()]
        return str(javaproperties.dumps(pairs, timestamp=False))


class Json:
    """Objects within objects; a list is one value."""

    def read(self, text: str) -> Catalogue:
        """Read one object."""
        try:
            parse_json(text)  # refuses what is nested too deeply
            data = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise Unusable(str(error), getattr(error, "lineno", None)) from error
        if not isinstance(data, dict):
            raise Unusable("it holds no object")
        entries: dict[Key, TextEntry] = {}
        _flatten(data, (), entries)
        return Catalogue(_bounded(entries))

    def write(self, catalogue: Catalogue) -> str:
        """Write one object; readable, since people look at it."""
        data: dict[str, Any] = {}
        for key, entry in catalogue.entries.items():
            place = data
            for part in key[:-1]:
                place = place.setdefault(part, {})
            place[key[-1]] = entry.value
        return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


class Ini:
    """Sections with names and values; nothing in a value stands for anything else."""

    def read(self, text: str) -> Catalogue:
        """Read one."""
        parser = _parser()
        try:
            parser.read_string(text)
        except configparser.Error as error:
            why = str(error).replace("\n", " ").replace("'<string>'", "").replace("  ", " ")
            raise Unusable(why, getattr(error, "lineno", None)) from error
        entries: dict[Key, TextEntry] = {
            (section, name): TextEntry(value)
            for section in parser.sections()
            for name, value in parser.items(section)
        }
        return Catalogue(_bounded(entries))

    def write(self, catalogue: Catalogue) -> str:
        """Write one."""
        parser = _parser()
        for (section, name), entry in ((k, e) for k, e in catalogue.entries.items()):
            if not parser.has_section(section):
                parser.add_section(section)
            parser.set(section, name, str(entry.value))
        written = io.StringIO()
        parser.write(written)
        return written.getvalue()


FORMATS: Mapping[CarriedFormat, Format] = {
    CarriedFormat.PO: Po(),
    CarriedFormat.PROPERTIES: Properties(),
    CarriedFormat.JSON: Json(),
    CarriedFormat.INI: Ini(),
}


def read_texts(content: bytes, declared: CarriedManifest) -> Catalogue:
    """Return what a file holds that a manifest declares.

    Raises:
        Unusable: If it is not what is declared, for whatever reason.
    """
    if b"\0" in content:
        raise Unusable("it holds a zero byte")
    try:
        # A mark at the beginning, which some editors write, is no text.
        encoding = "utf-8-sig" if declared.encoding == "utf-8" else declared.encoding
        return FORMATS[declared.format].read(content.decode(encoding))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unusable(f"it is not {declared.encoding}", line) from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        # A reader of a library's that was not made for what people may write.
        raise Unusable(f"it cannot be understood ({type(error).__name__})") from error


def compiled(catalogue: Catalogue) -> bytes:
    """Return a catalogue of gettext's as programs read it."""
    return Po().compiled(catalogue)


def _bounded(entries: dict[Key, TextEntry]) -> dict[Key, TextEntry]:
    if len(entries) > MOST_ENTRIES:
        raise Unusable(f"it has more than {MOST_ENTRIES} entries")
    return entries


def _po_words(error: Exception) -> str:
    # The library tells the whole content as the name of the file.
    words = str(error)
    _, found, line = words.rpartition("(line ")
    return f"line {line.split(')', 1)[0]} cannot be read" if found else words[-200:]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"it has {name!r} twice")
            seen.add(name)
    return found


def _no_constant(name: str) -> Any:  # noqa: ANN401 - never returns
    raise ValueError(f"{name} is no value")


def _flatten(data: dict[str, Any], above: Key, entries: dict[Key, TextEntry]) -> None:
    for name, value in data.items():
        key = (*above, name)
        if isinstance(value, dict) and value:
            _flatten(value, key, entries)
        else:
            entries[key] = TextEntry(value)


def _parser() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(
        strict=True, default_section="\0", allow_no_value=False, comment_prefixes=("#", ";"),
        delimiters=("=", ":"), empty_lines_in_values=False,
    )  # fmt: skip
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    return parser
