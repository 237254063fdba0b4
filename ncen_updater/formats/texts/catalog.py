"""Contents of a file of texts or settings in any format, and the placeholders of its texts.

A translation with ``%s`` where the program passes a name ``{case}`` shows nonsense or crashes the
program, so it is not used. Known are printf's (``%s``, ``%1$s``, ``%(name)s``), braces
(``{}``, ``{0}``, ``{name}``, ``${x}``, the argument of ``{n, plural, ...}``), tags of HTML, and the
``&`` before a letter that stands for a key. Places that are filled in turn are numbered, so that
``%2$s %1$s`` fits ``%s %s``, and ``{0}`` fits ``{}``.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ncen_updater.common.i18n import LazyText

_PLACE = re.compile(
    r"""
    %%                                                                  # no place
    | (?P<printf> % (?P<name>\([^)\s]{1,100}\) | \d{1,3}\$ )?
        [-+\#0]* (?:\d{1,6}|\*)? (?:\.(?:\d{1,6}|\*))? (?:hh|h|ll|l|L|z|j|t)?
        (?P<kind>[diouxXeEfFgGcrsa@np])
        (?(name) | (?: (?<!\d%.) (?<=%.) | (?![a-z]{2}) ) ) )           # not that of "50%done"
    | (?P<brace> (?P<sign>[$%]?)
        \{ (?: \s* (?P<inner>[A-Za-z0-9_.\[\]-]{1,100}) \s* | (?=[}:!]) ) (?:[,:!][^{}]*)? [{}] )
    | < /? (?P<tag>[A-Za-z][A-Za-z0-9]{0,20}) (?:\s[^<>]*)? /? >
    | (?P<shortcut> & (?=[A-Za-z0-9]) (?![A-Za-z0-9]{1,20};) )
    """,
    re.VERBOSE,
)
#: Kinds of printf that take the same values.
_KINDS = str.maketrans("iuoxXeEFgGr", "dddddfffffs")
#: gettext's formats with braces; its others have printf's places, or none that are known here.
_BRACES = frozenset({"python-brace", "perl-brace", "csharp", "java", "c++", "rust", "smalltalk"})
#: The parts of a key, as its format has them: context and text, section and name, names of objects.
TextKey = tuple[str, ...]


class UnusableFileError(Exception):
    """A file that cannot be read as what it should be.

    Attributes:
        why: For people.
        line: Where, if that is known.
    """

    def __init__(self, why: LazyText | str, line: int | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.line = line


@dataclass(frozen=True)
class TextEntry:
    """One text or one value.

    Attributes:
        value: The text; in settings and in JSON also another value.
        plural: The forms of a text that counts, the first of them again with them.
        source: The text that it translates, where the format has it beside.
        source_plural: The same in the plural.
        fuzzy: Whether its translator was not sure.
        formats: gettext's flags of what a program fills in; None in other formats.
    """

    value: object
    plural: tuple[str, ...] = ()
    source: str | None = None
    source_plural: str | None = None
    fuzzy: bool = False
    formats: tuple[str, ...] | None = None

    @property
    def forms(self) -> tuple[str, ...]:
        """Its texts; none where it is no text."""
        if self.plural:
            return self.plural
        return (self.value,) if isinstance(self.value, str) else ()

    @property
    def is_empty(self) -> bool:
        """Return whether nobody has written anything yet."""
        return self.value in ("", None) and not any(self.plural)

    @property
    def digest(self) -> str:
        """Names what was written; short, since it only has to tell a change of it."""
        content = repr((self.value, self.plural)).encode("utf-8", "surrogatepass")
        return hashlib.sha256(content).hexdigest()[:16]

    def has_same_text(self, other: TextEntry) -> bool:
        """Tell whether it says the same."""
        return (self.value, self.plural) == (other.value, other.plural)


@dataclass(frozen=True)
class TextCatalog:
    """Everything in one file, in its order.

    Attributes:
        entries: By key.
        header: What a format has beside its entries.
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
    """Name a key for people, and for patterns of a manifest: its parts with dots between."""
    return ".".join(part.replace(".", "\\.") if len(key) > 1 else part for part in key if part)


def matches_pattern(key: TextKey, pattern: str) -> bool:
    """Tell whether a pattern of a manifest means a key."""
    return fnmatch.fnmatchcase(format_key(key), pattern)


def count_placeholders(text: str, *, gettext: bool = False) -> set[str]:
    """Return the placeholders of a text.

    Args:
        text: The text.
        gettext: Whether a doubled brace stands for itself, as in formats of gettext.
    """
    found: set[str] = set()
    turns, numbers = 0, 0
    for match in _PLACE.finditer(re.sub(r"\{\{|\}\}", "", text) if gettext else text):
        if match["printf"]:
            turns += 1 + match["printf"].count("*")  # a width takes a value, too
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
    """Compare the forms of a translation with those of what it translates.

    A form may leave out what another has ("one seizure"), never all of them what the source has in
    each; none may have what the source has nowhere.

    Args:
        own: The translation.
        theirs: What it translates.
        formats: Flags of a catalogue of gettext, such as ``python-format`` and ``no-c-format``:
            compared is what ``msgfmt --check`` compares, and where nothing is flagged, what both
            texts have. None for other files: all is compared.

    Returns:
        The places that are missing, and those that nothing fills; both empty where it fits.
    """
    gettext = formats is not None
    ours, sources = (
        [count_placeholders(form, gettext=gettext) for form in side] for side in (own, theirs)
    )
    there, known = set[str]().union(*ours), set[str]().union(*sources)
    left_out = set() if formats is None else _not_compared(frozenset(formats), there, known)
    missing, unknown = known.intersection(*sources) - there, there - known
    return _sort_placeholders(missing, left_out), _sort_placeholders(unknown, left_out)


def _not_compared(flags: frozenset[str], there: set[str], known: set[str]) -> set[str]:
    """Return which of ``%`` and ``{`` no program fills in, by the flags of a text."""
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
