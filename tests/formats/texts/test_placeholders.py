"""Tests of placeholders: found in every notation, and compared without false alarms."""

from __future__ import annotations

import pytest

from ncen_updater.formats.texts.catalog import compare_placeholders, find_placeholders


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("no place, and 100 % of it, 50% done", set()),
        ("50%done and a%20dossier", set()),
        ("%d of %s, %% and %.2f", {"%1$d", "%2$s", "%3$f"}),
        ("%(name)s, %1$s and %2$s", {"%(name)s", "%1$s", "%2$s"}),
        ("%(link_start)supload it%(link_end)s", {"%(link_start)s", "%(link_end)s"}),
        ("%slla on %@", {"%1$s", "%2$@"}),
        ("{0}, {name}, {name} and ${x}", {"{0}", "{name}", "${x}"}),
        ("{} of {:>5}, {!r}", {"{0}", "{1}", "{2}"}),
        ("{n, plural, one {# case} other {# cases}}", {"{n}"}),
        ("{when:>10} {who!r}", {"{when}", "{who}"}),
        ("{{name}} and %{name}", {"{name}", "%{name}"}),
        ("<b>Bold</b>, <a href='x'>there</a><br/>", {"<b>", "<a>", "<br>"}),
        ("&File, A & B, &nbsp;", {"&"}),
        ("1 < 2 > 0, { }", set()),
    ],
)
def test_placeholders_are_found(text: str, found: set[str]) -> None:
    assert find_placeholders(text) == found


def test_doubled_brace_in_gettext_is_literal() -> None:
    assert find_placeholders("{{name}} {{{0}}}", gettext=True) == {"{0}"}


@pytest.mark.parametrize(
    ("own", "theirs", "missing", "unknown"),
    [
        (["Affaire {case}"], ["Case {case}"], (), ()),
        (["Affaire"], ["Case {case}"], ("{case}",), ()),
        (["Affaire {cas}"], ["Case {case}"], ("{case}",), ("{cas}",)),
        (["État"], ["State: {}"], ("{0}",), ()),
        (["État : {0}"], ["State: {}"], (), ()),
        (["%s %s"], ["%s and %s"], (), ()),
        (["%s"], ["%s and %s"], ("%2$s",), ()),
        (["%s %s %s"], ["%s and %s"], (), ("%3$s",)),
        (["%2$s %1$s %1$s"], ["%1$s %2$s"], (), ()),
        (["%2$s sur %1$d"], ["%i of %s"], (), ()),
        (["%s sur %d"], ["%d of %s"], ("%1$d", "%2$s"), ("%1$s", "%2$d")),
        (["une saisie", "%d saisies"], ["one seizure", "%d seizures"], (), ()),
        (["une", "deux"], ["%d seizure", "%d seizures"], ("%1$d",), ()),
        (["<i>x</i>"], ["<b>x</b>"], ("<b>",), ("<i>",)),
        (["%s"], ["none"], (), ("%1$s",)),
        (["%n"], ["none"], (), ("%1$n",)),
        (["%*d"], ["%d"], ("%1$d",), ("%2$d",)),
    ],
)
def test_missing_and_unknown_placeholders_are_found(
    own: list[str], theirs: list[str], missing: tuple[str, ...], unknown: tuple[str, ...]
) -> None:
    assert compare_placeholders(own, theirs) == (missing, unknown)


#: Texts of Weblate 5.14.3 that were refused, and what msgfmt --check says of each.
CATALOGUE = [
    ("python-format", "and %(start)supload it%(end)s.", "y %(start)scárguelo%(end)s.", True),
    ("python-format", "to the %(start)sWeblate%(end)s", "do %(start)ssledování%(end)s", True),
    ("python-format", "using %(link)s, a tool", "%(link)slla, työkalulla", True),
    ("python-format", "<b>%(n)s%% complete</b>", "<b>%(n)s%% completo</b>", True),
    ("python-format", "%(n)s of {all}", "%(n)s", True),
    ("python-format", "%s of %d", "%d de %s", False),
    ("python-format", "%(name)s", "%(nom)s", False),
    ("python-format", "by %(name)s", "par", False),
    ("python-brace-format", "State: {0}", "Estado: {1}", False),
    ("python-brace-format", "{name}: 5 %s", "{name} : 5", True),
    ("python-brace-format", "{name}", "{nom}", False),
    ("c-format", "%s of %s", "%2$s, %1$s", True),
    ("c-format", "%d of %s", "%2$s, %1$i", True),
    ("c-format", "%s of %s", "%s", False),
    ("c-format", "none", "%n", False),
    ("c-format", "%d", "%*d", False),
    ("no-python-format", "Write %s for it", "Écrivez %d", True),
    ("", "Unsupported state: {}", "Estado no admitido: {0}", True),
    ("", "Hook", "Le script %1$s", True),
    ("", "Invalid regular expression: {}", "Expression régulière invalide: %s", True),
    ("", "use {{branch}} for branch", "notaðu {{grein}} fyrir grein", True),
]


@pytest.mark.parametrize(("flag", "source", "own", "fits"), CATALOGUE)
def test_gettext_flags_are_judged_as_by_gettext(
    flag: str, source: str, own: str, fits: bool
) -> None:
    assert (compare_placeholders([own], [source], [flag] if flag else []) == ((), ())) is fits


def test_unflagged_gettext_text_needs_equal_placeholders() -> None:
    """gettext looks at none of these; a program that fills one in would end at the other."""
    assert compare_placeholders(["Affaire {cas}"], ["Case {case}"], []) == (("{case}",), ("{cas}",))
    assert compare_placeholders(["Affaire {cas}"], ["Case {case}"], ["no-python-brace-format"]) == (
        (),
        (),
    )
