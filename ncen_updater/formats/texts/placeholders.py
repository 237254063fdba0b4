"""Placeholders of texts: what a translation must neither lose nor invent. Pure.

A translation with ``%s`` where the program gives a name ``{case}`` shows nonsense or ends the
program, so such a one is not used. Known are printf's (``%s``, ``%1$s``, ``%(name)s``), braces
(``{0}``, ``{name}``, ``${x}``, the argument of ``{n, plural, ...}``), tags of HTML, and the ``&``
before a letter that stands for a key.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

__all__ = ["misfit", "places"]

_PLACE = re.compile(
    r"""
    %%                                                                  # no place
    | (?P<printf> % (?:\([^)\s]{1,100}\) | \d{1,3}\$ )?
        [-+\#0]* (?:\d{1,6}|\*)? (?:\.(?:\d{1,6}|\*))? (?:hh|h|ll|l|L|z|j|t)?
        [diouxXeEfFgGcrsa@] (?![a-z]{2}) )
    | (?P<brace> \$?\{ \s* (?P<name>[A-Za-z0-9_.\[\]-]{1,100}) \s* (?:[,:!][^{}]*)? (?P<open>[{}]) )
    | < /? (?P<tag>[A-Za-z][A-Za-z0-9]{0,20}) (?:\s[^<>]*)? /? >
    | (?P<shortcut> & (?=[A-Za-z0-9]) (?![A-Za-z0-9]{1,20};) )
    """,
    re.VERBOSE,
)
_PRINTF_KIND = re.compile(r"%(\([^)]*\)|\d+\$)?.*?([a-zA-Z@])$")


def places(text: str) -> Counter[str]:
    """Return the placeholders of a text and how often each stands there."""
    found: Counter[str] = Counter()
    for match in _PLACE.finditer(text):
        if match["printf"]:
            name = _PRINTF_KIND.match(match["printf"])
            found[f"%{name[1] or ''}{name[2]}" if name else match["printf"]] += 1
        elif match["brace"]:
            sign = "$" if match[0].startswith("$") else ""
            found[f"{sign}{{{match['name']}}}"] += 1
        elif match["tag"]:
            found[f"<{match['tag'].lower()}>"] += 1
        elif match["shortcut"]:
            found["&"] += 1
    return found


def misfit(own: Iterable[str], theirs: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Compare the forms of a translation with those of what it translates.

    A form may leave out what another has ("one seizure"), never all of them what the source has in
    each; none may have what the source has nowhere. A named place may stand twice.

    Returns:
        The places that are missing, and those that nothing fills; both empty where it fits.
    """
    ours, sources = [places(form) for form in own], [places(form) for form in theirs]
    known: Counter[str] = Counter()
    for source in sources:
        known |= source
    always = set(sources[0]).intersection(*sources) if sources else set()
    there: Counter[str] = Counter()
    for form in ours:
        there |= form
    missing = {p for p in always if p not in there or (_by_order(p) and there[p] < known[p])}
    unknown = {p for p in there if p not in known or (_by_order(p) and there[p] > known[p])}
    return tuple(sorted(missing)), tuple(sorted(unknown))


def _by_order(place: str) -> bool:
    """Whether a place is filled by its turn, so that their number counts."""
    return place.startswith("%") and "(" not in place and "$" not in place
