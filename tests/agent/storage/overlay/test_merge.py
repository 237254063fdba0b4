"""Tests of the merge table, in every format: the outcome of each key."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest

from ncen_updater.agent.storage.overlay.layer import AreaCount, measure_coverage
from ncen_updater.agent.storage.overlay.three_way_merge import (
    KeyOutcome,
    TextOrigin,
    merge_settings,
    merge_texts,
)
from ncen_updater.formats.manifest import OverlayArea, OverlayFormat
from ncen_updater.formats.texts.catalog import TextCatalog, TextEntry
from ncen_updater.formats.texts.overlay_files import ShippedTexts
from tests.agent.storage.overlay.factories import catalogue, declared, shipped

TEXT_FORMATS = [OverlayFormat.JSON, OverlayFormat.PROPERTIES, OverlayFormat.INI]
Texts = dict[str, object]


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        before: Texts of the release that is left: in the language, in the source language.
        after: The same of the release that is gone to.
        own: What the country has.
        outcome: The outcome of its key; None where none is reported.
        text: What users read; None for nothing.
    """

    name: str
    before: tuple[Texts, Texts]
    after: tuple[Texts, Texts]
    own: Texts
    outcome: KeyOutcome | None
    text: object
    made: dict[str, str] = field(default_factory=dict)


ROWS = [
    Row("nothing changed", ({"k": "fr"}, {"k": "en"}), ({"k": "fr"}, {"k": "en"}),
        {"k": "mine"}, KeyOutcome.UNCHANGED, "mine"),
    Row("the release changes its text", ({"k": "fr"}, {"k": "en"}), ({"k": "fr2"}, {"k": "en"}),
        {"k": "mine"}, KeyOutcome.BOTH_CHANGED, "mine"),
    Row("the source text changed", ({"k": "fr"}, {"k": "en"}), ({"k": "fr2"}, {"k": "en2"}),
        {"k": "mine"}, KeyOutcome.OUTDATED, "mine"),
    Row("a place more", ({"k": "fr"}, {"k": "en"}), ({"k": "fr {case}"}, {"k": "en {case}"}),
        {"k": "mine"}, KeyOutcome.REJECTED, "fr {case}"),
    Row("a place that nothing fills", ({}, {"k": "en {case}"}), ({}, {"k": "en"}),
        {"k": "mine {case}"}, KeyOutcome.REJECTED, None),
    Row("gone", ({"k": "fr"}, {"k": "en"}), ({}, {}), {"k": "mine"}, KeyOutcome.REMOVED, None),
    Row("new", ({}, {}), ({}, {"k": "en"}), {}, KeyOutcome.NEW, None),
    Row("new, and the release has it", ({}, {}), ({"k": "fr"}, {"k": "en"}), {}, None, "fr"),
    Row("a key of the country's own", ({}, {}), ({}, {}), {"k": "mine"}, KeyOutcome.ADDED, "mine"),
    Row("and now the release has one", ({}, {}), ({"k": "fr"}, {"k": "en"}),
        {"k": "mine"}, KeyOutcome.COLLISION, "fr"),
    Row("translated before it came", ({}, {}), ({"k": "fr"}, {"k": "en"}),
        {"k": "mine"}, KeyOutcome.UNCHANGED, "mine", {"k": "en"}),
    Row("made for a text of two releases ago", ({"k": "fr"}, {"k": "en2"}),
        ({"k": "fr"}, {"k": "en2"}), {"k": "mine"}, KeyOutcome.OUTDATED, "mine", {"k": "en"}),
    Row("the same as the source on purpose", ({}, {"k": "OK"}), ({}, {"k": "OK"}),
        {"k": "OK"}, KeyOutcome.UNCHANGED, "OK"),
    Row("empty is none", ({"k": "fr"}, {"k": "en"}), ({"k": "fr"}, {"k": "en"}),
        {"k": ""}, None, "fr"),
    Row("a language that no release has", ({}, {"k": "en"}), ({}, {"k": "en"}),
        {"k": "mine"}, KeyOutcome.UNCHANGED, "mine"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "form"), [*itertools.product(ROWS, TEXT_FORMATS)], ids=lambda v: getattr(v, "name", v)
)
def test_each_key_has_one_outcome(row: Row, form: OverlayFormat) -> None:
    own = catalogue(form, **row.own)
    made_for = {
        key: TextOrigin(own.entries[key].digest, (text,))
        for name, text in row.made.items()
        for key in catalogue(form, **{name: text})
    }
    merged = merge_texts(
        declared(format=form), shipped(form, *row.before), shipped(form, *row.after), own, made_for
    )
    assert [item.outcome for item in merged.keys] == ([row.outcome] if row.outcome else [])
    texts = [entry.value for entry in merged.catalogue.entries.values()]
    assert texts == ([row.text] if row.text is not None else [])


PO_ROWS = [
    Row("nothing changed", ({"Open": "Ouvrir"}, {}), ({"Open": "Ouvrir"}, {}),
        {"Open": "mien"}, KeyOutcome.UNCHANGED, "mien"),
    Row("changed its text too", ({"Open": "Ouvrir"}, {}), ({"Open": "Lire"}, {}),
        {"Open": "mien"}, KeyOutcome.BOTH_CHANGED, "mien"),
    Row("a wrong place", ({"See {x}": ""}, {}), ({"See {x}": ""}, {}),
        {"See {x}": "voir"}, KeyOutcome.REJECTED, None),
    Row("gone", ({"Open": ""}, {}), ({}, {}), {"Open": "mien"}, KeyOutcome.REMOVED, None),
    Row("new", ({}, {}), ({"Open": ""}, {}), {}, KeyOutcome.NEW, None),
    Row("translated before it came", ({}, {}), ({"Open": ""}, {}),
        {"Open": "mien"}, KeyOutcome.UNCHANGED, "mien"),
    Row("of the country's own", ({}, {}), ({}, {}), {"Open": "mien"}, KeyOutcome.ADDED, "mien"),
]  # fmt: skip


@pytest.mark.parametrize("row", PO_ROWS, ids=lambda row: row.name)
def test_gettext_uses_the_text_as_key(row: Row) -> None:
    form = OverlayFormat.PO
    merged = merge_texts(
        declared(format="po", release_path="i18n/{lang}.po", site_path="{lang}.po"),
        shipped(form, *row.before), shipped(form, *row.after), catalogue(form, **row.own), {},
    )  # fmt: skip
    assert [item.outcome for item in merged.keys] == ([row.outcome] if row.outcome else [])
    texts = [entry.value for entry in merged.catalogue.entries.values()]
    assert texts == ([row.text] if row.text is not None else [])


def test_source_of_a_translation_is_preserved_over_two_releases() -> None:
    form = OverlayFormat.JSON
    first, second = shipped(form, {}, {"k": "one"}), shipped(form, {}, {"k": "two"})
    own = catalogue(form, k="mine")
    there = merge_texts(declared(), first, second, own, {})
    assert len(there.select(KeyOutcome.OUTDATED)) == 1
    again = merge_texts(declared(), second, second, own, there.text_origins)
    assert len(again.select(KeyOutcome.OUTDATED)) == 1
    # Anyone who writes it again has seen the text of now.
    rewritten = merge_texts(
        declared(), second, second, catalogue(form, k="new"), again.text_origins
    )
    assert [t.outcome for t in rewritten.keys] == [KeyOutcome.UNCHANGED]


def test_renamed_key_keeps_its_translation_in_both_directions() -> None:
    form = OverlayFormat.JSON
    old, new = shipped(form, {}, {"a": "text"}), shipped(form, {}, {"b": "text"})
    own = catalogue(form, a="mine")
    merged = merge_texts(declared(renamed={"a": "b"}), old, new, own, {})
    assert {k: e.value for k, e in merged.catalogue.entries.items()} == {("b",): "mine"}
    assert not merged.select(KeyOutcome.REMOVED, KeyOutcome.NEW)
    gone = merge_texts(declared(), old, new, own, {})
    assert [t.outcome for t in gone.keys] == [KeyOutcome.REMOVED, KeyOutcome.NEW]


def test_plural_has_the_forms_of_its_language() -> None:
    theirs = ShippedTexts(
        TextCatalog({("", "%d case"): TextEntry("", (), "%d case", "%d cases")}), TextCatalog()
    )
    arabic = tuple(f"%d {form}" for form in ("zero", "one", "two", "few", "many", "other"))
    own = TextCatalog({("", "%d case"): TextEntry(arabic[0], arabic, "%d case", "%d cases")})
    po = declared(format="po", release_path="{lang}.po", site_path="{lang}.po")
    merged = merge_texts(po, theirs, theirs, own, {})
    assert [t.outcome for t in merged.keys] == [KeyOutcome.UNCHANGED]
    assert merged.catalogue.entries["", "%d case"].forms == arabic


def test_object_in_place_of_a_text_is_replaced() -> None:
    theirs = ShippedTexts(TextCatalog({("a", "b"): TextEntry("x")}))
    for key in (("a",), ("a", "b", "c")):
        own = TextCatalog({key: TextEntry("mine")})
        merged = merge_texts(declared(), theirs, theirs, own, {})
        assert [t.outcome for t in merged.keys] == [KeyOutcome.COLLISION]
        assert list(merged.catalogue) == [("a", "b")]


def test_number_in_place_of_a_text_is_ignored() -> None:
    theirs = shipped(OverlayFormat.JSON, {"k": "fr"}, {"k": "en"})
    merged = merge_texts(declared(), theirs, theirs, catalogue(OverlayFormat.JSON, k=7), {})
    assert [t.outcome for t in merged.keys] == [KeyOutcome.REJECTED]
    assert merged.catalogue.entries["k",].value == "fr"


def test_joiners_and_direction_marks_are_preserved() -> None:
    text = "\u0d9a\u0dca\u200d\u0dbb \u2067\u0645\u0631\u062d\u0628\u2069 \u06cc\u200c\u062e"
    theirs = shipped(OverlayFormat.JSON, {}, {"k": "en"})
    merged = merge_texts(declared(), theirs, theirs, catalogue(OverlayFormat.JSON, k=text), {})
    assert merged.catalogue.entries["k",].value == text


SETTINGS = {"kind": "settings", "release_path": "app/s", "site_path": "s"}
SETTING_ROWS = [
    ("kept", {"k": "1"}, {"k": "1"}, {"k": "5"}, [KeyOutcome.UNCHANGED], {"k": "5"}),
    ("default", {"k": "1"}, {"k": "2"}, {"k": "5"}, [KeyOutcome.DEFAULT_CHANGED], {"k": "5"}),
    ("gone", {"k": "1"}, {}, {"k": "5"}, [KeyOutcome.REMOVED], {}),
    ("own", {}, {}, {"k": "5"}, [KeyOutcome.ADDED], {"k": "5"}),
    ("name is used now", {}, {"k": "2"}, {"k": "5"}, [KeyOutcome.COLLISION], {"k": "5"}),
    ("only theirs", {"k": "1"}, {"k": "2"}, {}, [], {"k": "2"}),
    ("empty on purpose", {"k": "1"}, {"k": "1"}, {"k": ""}, [KeyOutcome.UNCHANGED], {"k": ""}),
]


@pytest.mark.parametrize("form", TEXT_FORMATS)
@pytest.mark.parametrize(
    ("before", "after", "own", "outcomes", "merged"),
    [row[1:] for row in SETTING_ROWS],
    ids=[row[0] for row in SETTING_ROWS],
)
def test_local_settings_replace_those_of_the_release(
    form: OverlayFormat, before: Texts, after: Texts, own: Texts, outcomes: list[KeyOutcome],
    merged: Texts,
) -> None:  # fmt: skip
    found = merge_settings(
        declared(**SETTINGS, format=form), shipped(form, before), shipped(form, after),
        catalogue(form, **own),
    )  # fmt: skip
    assert [item.outcome for item in found.keys] == outcomes
    assert {key[-1]: entry.value for key, entry in found.catalogue.entries.items()} == merged


@pytest.mark.parametrize(
    ("rule", "value", "outcome"),
    [
        ({"type": "integer", "least": 1, "most": 65535}, "8080", None),
        ({"type": "integer", "least": 1, "most": 65535}, "0", KeyOutcome.INVALID),
        ({"type": "integer", "most": 65535}, "70000", KeyOutcome.INVALID),
        ({"type": "integer"}, "8080.5", KeyOutcome.INVALID),
        ({"type": "number"}, "8080.5", None),
        ({"type": "boolean"}, "perhaps", KeyOutcome.INVALID),
        ({"type": "boolean"}, "yes", None),
        ({"type": "text", "least": 3}, "ab", KeyOutcome.INVALID),
        ({"one_of": ["a", "b"]}, "c", KeyOutcome.INVALID),
        ({"one_of": ["a", "b"]}, "b", None),
        ({"type": "integer"}, True, KeyOutcome.INVALID),
    ],
)
def test_rejected_setting_is_reported_without_its_value(
    rule: dict[str, object], value: object, outcome: KeyOutcome | None
) -> None:
    form = OverlayFormat.JSON
    says = declared(**SETTINGS, rules=[{"key": "k", **rule}])
    theirs = shipped(form, {"k": "1"})
    found = merge_settings(says, theirs, theirs, catalogue(form, k=value))
    told = [item for item in found.keys if item.outcome is not KeyOutcome.UNCHANGED]
    assert [item.outcome for item in told] == ([outcome] if outcome else [])
    assert all(str(value) not in item.problem for item in told)


def test_missing_required_setting_is_reported() -> None:
    form = OverlayFormat.INI
    says = declared(**SETTINGS, format=form, required=["all.host"])
    theirs = shipped(form, {"host": ""})
    missed = merge_settings(says, theirs, theirs, TextCatalog())
    assert [item.outcome for item in missed.keys] == [KeyOutcome.MISSING]
    there = merge_settings(says, theirs, theirs, catalogue(form, host="here"))
    assert not there.select(KeyOutcome.MISSING)


def test_coverage_counts_new_and_translated_texts() -> None:
    form = OverlayFormat.JSON
    base = shipped(form, {}, {"a": "A", "b": "B"})
    theirs = shipped(form, {}, {"a": "A", "b": "B {x}", "seize1": "S", "seize2": "T", "d": "D"})
    own = catalogue(form, a="1", b="2")
    merged = merge_texts(declared(), base, theirs, own, {})
    areas = [OverlayArea(keys="seize*", label="where officers enter seizures")]
    found = measure_coverage(areas, base, theirs, own, merged)
    assert (found.translated_before, found.total_before, found.percent_before) == (2, 2, 100)
    assert (found.translated, found.total, found.percent) == (1, 5, 20)
    assert found.new == 3
    assert found.areas == (AreaCount("where officers enter seizures", 2),)
    alone = measure_coverage(areas, None, theirs, own, merged)
    assert (alone.translated_before, alone.total_before) == (1, 5), "no release is left"
