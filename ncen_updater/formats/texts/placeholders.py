"""Placeholders of texts: what a translation must neither lose nor invent. Pure.

A translation with ``%s`` where the program passes a name ``{case}`` shows nonsense or crashes the
program, so it is not used. Known are printf's (``%s``, ``%1$s``, ``%(name)s``), braces
(``{}``, ``{0}``, ``{name}``, ``${x}``, the argument of ``{n, plural, ...}``), tags of HTML, and the
``&`` before a letter that stands for a key. Places that are filled in turn are numbered, so that
``%2$s %1$s`` fits ``%s %s``, and ``{0}`` fits ``{}``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

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
