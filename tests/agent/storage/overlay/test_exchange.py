"""Tests of exporting texts to translators and importing them."""

from __future__ import annotations

import pytest

from ncen_updater.agent.storage.overlay.layer import FileReport
from ncen_updater.agent.storage.overlay.three_way_merge import merge_texts
from ncen_updater.agent.storage.overlay.translation_exchange import (
    export_untranslated,
    import_translations,
)
from ncen_updater.formats.manifest import OverlayFormat
from ncen_updater.formats.texts.catalog import TextCatalog, UnusableFileError
from ncen_updater.formats.texts.file_formats import FORMATS
from tests.agent.storage.overlay.factories import catalogue, declared, shipped

JSON, PO = OverlayFormat.JSON, OverlayFormat.PO
BASE = shipped(JSON, {}, {"a": "A", "b": "B"})
THEIRS = shipped(JSON, {}, {"a": "A", "b": "B {x}", "c": "C"})
OWN = catalogue(JSON, a="1", b="2")


def _exported(own: TextCatalog = OWN) -> TextCatalog:
    says = declared()
    merged = merge_texts(says, BASE, THEIRS, own, {})
    report = FileReport(says, "sw", merged.keys)
    written = FORMATS[PO].write(export_untranslated(report, THEIRS, own))
    return FORMATS[PO].read(written)


def test_export_contains_only_new_outdated_and_rejected_texts() -> None:
    assert list(_exported()) == [("b", "B {x}"), ("c", "C")]


def test_imported_texts_belong_to_the_exported_release() -> None:
    came = FORMATS[PO].read(
        'msgid ""\nmsgstr "Language: sw\\n"\n\nmsgctxt "b"\nmsgid "B {x}"\nmsgstr "2 {x}"\n\n'
        'msgctxt "c"\nmsgid "C"\nmsgstr "3"\n\nmsgctxt "nowhere"\nmsgid "N"\nmsgstr "4"\n'
    )
    taken = import_translations(came, OWN, [THEIRS, BASE], is_po=False, as_po=True)
    assert (taken.added, taken.changed, taken.unknown) == ((("c",),), (("b",),), ("nowhere.N",))
    assert {k: e.value for k, e in taken.local.entries.items()} == {
        ("a",): "1", ("b",): "2 {x}", ("c",): "3",
    }  # fmt: skip
    # Imported before the upgrade: with the release of now one does not fit, one is not known yet,
    now = merge_texts(declared(), None, BASE, taken.local, taken.text_origins)
    assert {t.name: t.outcome.value for t in now.keys} == {
        "a": "unchanged", "b": "rejected", "c": "added",
    }  # fmt: skip
    # and with the one that they were made for all do.
    then = merge_texts(declared(), BASE, THEIRS, taken.local, now.text_origins)
    assert {t.name: t.outcome.value for t in then.keys} == {
        "a": "unchanged",
        "b": "unchanged",
        "c": "unchanged",
    }


def test_foreign_file_is_rejected_completely() -> None:
    came = FORMATS[JSON].read('{"x": "1", "y": "2"}')
    with pytest.raises(UnusableFileError):
        import_translations(came, OWN, [THEIRS], is_po=False, as_po=False)
