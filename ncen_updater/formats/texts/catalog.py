"""Contents of a translation or settings file in any format, and the placeholders of its texts.

A translation with ``%s`` for a text with ``{case}`` shows nonsense or crashes the program, so it is
not used. The placeholders are printf's (``%s``, ``%1$s``, ``%(name)s``), braces (``{}``, ``{0}``,
``{name}``, ``${x}``, the argument of ``{n, plural, ...}``), HTML tags, and the ``&`` before an
access key. Unnumbered placeholders are numbered in order, so that ``%2$s %1$s`` matches ``%s %s``,
and ``{0}`` matches ``{}``.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ncen_updater.common.i18n import LazyText

_PLACEHOLDER = r"""(?x)
    %%                                                                  # a literal percent sign
    | (?P<printf> % (?P<name>\([^)\s]{1,100}\) | \d{1,3}\$ )?
        [-+\#0]* (?:\d{1,6}|\*)? (?:\.(?:\d{1,6}|\*))? (?:hh|h|ll|l|L|z|j|t)?
        (?P<kind>[diouxXeEfFgGcrsa@np])
        (?(name) | (?: (?<!\d%.) (?<=%.) | (?![a-z]{2}) ) ) )           # not that of "50%done"
    | (?P<brace> (?P<sign>[$%]?)
        \{ (?: \s* (?P<inner>[A-Za-z0-9_.\[\]-]{1,100}) \s* | (?=[}:!]) ) (?:[,:!][^{}]*)? [{}] )
    | < /? (?P<tag>[A-Za-z][A-Za-z0-9]{0,20}) (?:\s[^<>]*)? /? >
    | (?P<shortcut> & (?=[A-Za-z0-9]) (?![A-Za-z0-9]{1,20};) )
    """
#: Maps printf conversions that take the same values to one letter.
_KINDS = str.maketrans("iuoxXeEFgGr", "dddddfffffs")
#: gettext's format flags with braces; other flags mean printf's or unsupported placeholders.
_BRACES = frozenset({"python-brace", "perl-brace", "csharp", "java", "c++", "rust", "smalltalk"})
#: Parts of a key, by format: context and text, section and name, or nested object names.
TextKey = tuple[str, ...]


class UnusableFileError(Exception):
    """A file that cannot be parsed in its declared format.

    Attributes:
        why: The reason, for display.
        line: The line, if known.
    """

    def __init__(self, why: LazyText | str, line: int | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.line = line


@dataclass(frozen=True)
class TextEntry:
    """One text or one setting.

    Attributes:
        value: The text; in settings and in JSON also a value of another type.
        plural: All plural forms, including the first.
        source: The source text, if the format has it beside the translation.
        source_plural: The source text's plural.
        fuzzy: Whether the translation is marked as fuzzy.
        formats: gettext's ``*-format`` flags; None in other formats.
    """

    value: object
    plural: tuple[str, ...] = ()
    source: str | None = None
    source_plural: str | None = None
    fuzzy: bool = False
    formats: tuple[str, ...] | None = None

    @property
    def forms(self) -> tuple[str, ...]:
        """Return the forms of the text; empty if the value is not a text."""
        if self.plural:
            return self.plural
        return (self.value,) if isinstance(self.value, str) else ()

    @property
    def is_empty(self) -> bool:
        """Return whether the entry has no text yet."""
        return self.value in ("", None) and not any(self.plural)

    @property
    def digest(self) -> str:
        """Return a short digest of the text, to detect a change."""
        content = repr((self.value, self.plural)).encode("utf-8", "surrogatepass")
        return hashlib.sha256(content).hexdigest()[:16]

    def has_same_text(self, other: TextEntry) -> bool:
        """Return whether both entries have the same text."""
        return (self.value, self.plural) == (other.value, other.plural)


@dataclass(frozen=True)
class TextCatalog:
    """All entries of one file, in its order.

    Attributes:
        entries: Entries by key.
        header: Metadata of the file, if its format has any.
    """

    entries: Mapping[TextKey, TextEntry] = field(default_factory=dict)
    header: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[TextKey]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def find_entry(self, key: TextKey) -> TextEntry | None:
        """Return the entry of a key; None if it is missing or empty."""
        found = self.entries.get(key)
        return None if found is None or found.is_empty else found


def format_key(key: TextKey) -> str:
    """Return a key for display and for patterns of a manifest: its parts, joined with dots."""
    return ".".join(part.replace(".", "\\.") if len(key) > 1 else part for part in key if part)


def matches_pattern(key: TextKey, pattern: str) -> bool:
    """Return whether a key matches a pattern of a manifest."""
    return fnmatch.fnmatchcase(format_key(key), pattern)


def find_placeholders(text: str, *, gettext: bool = False) -> set[str]:
    """Return the placeholders of a text.

    Args:
        text: The text.
        gettext: Whether a doubled brace is a literal brace, as in gettext's formats.
    """
    found: set[str] = set()
    turns, numbers = 0, 0
    for match in re.finditer(_PLACEHOLDER, re.sub(r"\{\{|\}\}", "", text) if gettext else text):
        if match["printf"]:
            turns += 1 + match["printf"].count("*")  # a width given as * takes a value, too
            found.add(f"%{match['name'] or f'{turns}$'}{match['kind'].translate(_KINDS)}")
        elif match["brace"]:
            inner = match["inner"] or str(numbers)
            numbers += not match["inner"]
            found.add(f"{match['sign']}{{{inner}}}")
        elif match["tag"]:
            found.add(f"<{match['tag'].lower()}>")
        elif match["shortcut"]:
            found.add("&")
    return found


def compare_placeholders(
    own: Iterable[str], theirs: Iterable[str], formats: Iterable[str] | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Compare the placeholders of a translation with those of its source text.

    A plural form may omit a placeholder ("one seizure"), but not every form may omit one that every
    source form has. No form may have a placeholder that the source lacks.

    Args:
        own: Forms of the translation.
        theirs: Forms of the source text.
        formats: Flags of a gettext catalogue, such as ``python-format`` and ``no-c-format``: the
            comparison is that of ``msgfmt --check``; without flags, only kinds of placeholders
            that both texts have are compared. None for other file formats: all are compared.

    Returns:
        The missing and the unknown placeholders; both empty if the translation matches.
    """
    gettext = formats is not None
    ours, sources = (
        [find_placeholders(form, gettext=gettext) for form in side] for side in (own, theirs)
    )
    there, known = set[str]().union(*ours), set[str]().union(*sources)
    left_out = set() if formats is None else _not_compared(frozenset(formats), there, known)
    missing, unknown = known.intersection(*sources) - there, there - known
    return _sort_placeholders(missing, left_out), _sort_placeholders(unknown, left_out)


def _not_compared(flags: frozenset[str], there: set[str], known: set[str]) -> set[str]:
    """Return the kinds of placeholders (``%``, ``{``) that the flags exclude from comparison."""
    names = {flag.removesuffix("-format") for flag in flags if flag.endswith("-format")}
    used = {_notation(name) for name in names if not name.startswith("no-")}
    unused = {_notation(name.removeprefix("no-")) for name in names if name.startswith("no-")}
    both = {*map(_family, there)} & {*map(_family, known)}
    return {"%", "{"} - (used or both - unused)


def _notation(name: str) -> str:
    return "{" if name in _BRACES else "%"


def _sort_placeholders(found: set[str], left_out: set[str]) -> tuple[str, ...]:
    return tuple(sorted(place for place in found if _family(place) not in left_out))


def _family(place: str) -> str:
    return "{" if place[0] == "$" else place[0]
