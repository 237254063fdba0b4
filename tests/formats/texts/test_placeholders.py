"""Placeholders: found in every notation, and compared without refusing what is right."""

from __future__ import annotations

import pytest

from ncen_updater.formats.texts.placeholders import misfit, places


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("no place, and 100 % of it, 50% done", {}),
        ("%d of %s, %% and %.2f", {"%d": 1, "%s": 1, "%f": 1}),
        ("%(name)s, %1$s and %2$s", {"%(name)s": 1, "%1$s": 1, "%2$s": 1}),
        ("{0}, {name}, {name} and ${x}", {"{0}": 1, "{name}": 2, "${x}": 1}),
        ("{n, plural, one {# case} other {# cases}}", {"{n}": 1}),
        ("{when:>10} {who!r}", {"{when}": 1, "{who}": 1}),
        ("<b>Bold</b>, <a href='x'>there</a><br/>", {"<b>": 2, "<a>": 2, "<br>": 1}),
        ("&File, A & B, &nbsp;", {"&": 1}),
        ("1 < 2 > 0, { }", {}),
    ],
)
def test_what_a_program_fills_in_is_found(text: str, found: dict[str, int]) -> None:
    assert dict(places(text)) == found


@pytest.mark.parametrize(
    ("own", "theirs", "missing", "unknown"),
    [
        (["Affaire {case}"], ["Case {case}"], (), ()),
        (["Affaire"], ["Case {case}"], ("{case}",), ()),
        (["Affaire {cas}"], ["Case {case}"], ("{case}",), ("{cas}",)),
        (["%s %s"], ["%s and %s"], (), ()),
        (["%s"], ["%s and %s"], ("%s",), ()),
        (["%s %s %s"], ["%s and %s"], (), ("%s",)),
        (["%2$s %1$s %1$s"], ["%1$s %2$s"], (), ()),
        (["une saisie", "%d saisies"], ["one seizure", "%d seizures"], (), ()),
        (["une", "deux"], ["%d seizure", "%d seizures"], ("%d",), ()),
        (["<i>x</i>"], ["<b>x</b>"], ("<b>",), ("<i>",)),
    ],
)
def test_a_translation_neither_loses_nor_invents_a_place(
    own: list[str], theirs: list[str], missing: tuple[str, ...], unknown: tuple[str, ...]
) -> None:
    assert misfit(own, theirs) == (missing, unknown)
