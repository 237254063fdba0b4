"""Tests of text and settings formats: accepted content, and refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncen_updater.formats.manifest import (
    OverlayFormat,
    OverlayKind,
    OverlayManifest,
    SettingRule,
)
from ncen_updater.formats.texts.catalog import TextCatalog, TextEntry, UnusableFileError
from ncen_updater.formats.texts.file_formats import FORMATS, compile_mo, read_catalog
from ncen_updater.formats.texts.overlay_files import describe_rule_violation

PO = """msgid ""
msgstr "Language: fr\\n"

#, fuzzy
#| msgid "Old"
msgctxt "menu"
msgid "Open"
msgstr "Ouvrir"

msgid "Open"
msgstr "Ouvert"

msgid "%d seizure"
msgid_plural "%d seizures"
msgstr[0] "%d saisie"
msgstr[1] "%d saisies"

#~ msgid "Gone"
#~ msgstr "Parti"
"""


def declared(form: OverlayFormat, encoding: str = "utf-8") -> OverlayManifest:
    """What a manifest says of one file of this format."""
    texts = form is OverlayFormat.PO
    place = "{lang}" if texts else "x"
    return OverlayManifest.model_validate(
        {
            "kind": OverlayKind.TRANSLATIONS if texts else OverlayKind.SETTINGS,
            "format": form, "release_path": f"app/{place}", "site_path": place,
            "encoding": encoding,
        }
    )  # fmt: skip


def test_po_contexts_plurals_and_fuzzy_entries_are_read() -> None:
    found = read_catalog(PO.encode(), declared(OverlayFormat.PO))
    assert list(found) == [("menu", "Open"), ("", "Open"), ("", "%d seizure")]
    assert found.entries["menu", "Open"].fuzzy
    assert found.entries["", "%d seizure"].forms == ("%d saisie", "%d saisies")
    written = FORMATS[OverlayFormat.PO].write(found)
    again = read_catalog(written.encode(), declared(OverlayFormat.PO))
    assert {k: e.forms for k, e in again.entries.items()} == {
        k: e.forms for k, e in found.entries.items()
    }
    assert "fuzzy" not in written  # gettext would not show it


def test_compiled_po_is_readable_by_the_standard_library(tmp_path: object) -> None:
    import gettext
    import io

    found = read_catalog(PO.encode(), declared(OverlayFormat.PO))
    texts = gettext.GNUTranslations(io.BytesIO(compile_mo(found)))
    assert texts.pgettext("menu", "Open") == "Ouvrir"
    assert texts.gettext("Open") == "Ouvert"


@pytest.mark.parametrize(
    ("form", "text", "entries"),
    [
        (OverlayFormat.PROPERTIES, "a\\:b = x\\u0020y\n# c\n", {"a:b": "x y"}),
        (OverlayFormat.PROPERTIES, "long = a\\\n  b\n", {"long": "ab"}),
        (OverlayFormat.PROPERTIES, "caf\\u00e9 = \\u4e2d\n", {"café": "中"}),
        (OverlayFormat.JSON, '{"a": {"b": "c", "d": [1]}}', {"a.b": "c", "a.d": [1]}),
        (OverlayFormat.JSON, '{"e": null}', {"e": None}),
        (OverlayFormat.INI, "[A]\nx = 1 ; y\nKey: %(z)s\n", {"A.x": "1 ; y", "A.Key": "%(z)s"}),
    ],
)  # fmt: skip
def test_each_format_is_read_as_by_its_programs(
    form: OverlayFormat, text: str, entries: dict[str, object]
) -> None:
    found = read_catalog(text.encode(), declared(form))
    assert {".".join(k): e.value for k, e in found.entries.items()} == entries
    again = read_catalog(FORMATS[form].write(found).encode(), declared(form))
    assert again.entries == found.entries


@pytest.mark.parametrize(
    ("form", "content", "why", "line"),
    [
        (OverlayFormat.PO, b'msgid "a"\nmsgstr "b"\n\nmsgid "a"\nmsgstr "c"\n', "duplicate", 4),
        (OverlayFormat.PO, b'msgid "a\nx"\nmsgstr', "line 2", None),
        (OverlayFormat.PO, b"", "empty", None),
        (OverlayFormat.PO, b"/etc/passwd", "", None),
        (OverlayFormat.PROPERTIES, b"a=1\n\na=2\n", "duplicate", 3),
        (OverlayFormat.PROPERTIES, b"a=\\u12\n", "", 1),
        (OverlayFormat.JSON, b'{"a": 1, "a": 2}', "duplicate", None),
        (OverlayFormat.JSON, b"[1]", "object", None),
        (OverlayFormat.JSON, b'{"a": NaN}', "NaN", None),
        (OverlayFormat.JSON, b"{" * 200_000, "", None),
        (OverlayFormat.JSON, b'{"a":' * 200_000, "", None),
        (OverlayFormat.INI, b"[a]\nx=1\nx=2\n", "already exists", 3),
        (OverlayFormat.INI, b"x=1\n", "section", 1),
        (OverlayFormat.INI, b"[a]\nx=\0\n", "null", None),
        (OverlayFormat.PROPERTIES, b"a=1\nb=\xff\n", "not encoded in utf-8", 2),
    ],
)
def test_lossy_content_is_refused_with_its_line(
    form: OverlayFormat, content: bytes, why: str, line: int | None
) -> None:
    with pytest.raises(UnusableFileError) as error:
        read_catalog(content, declared(form))
    assert why in str(error.value.why)
    assert line is None or error.value.line == line


def test_declared_latin_1_is_read_and_a_byte_order_mark_ignored() -> None:
    found = read_catalog("a=é\n".encode("latin-1"), declared(OverlayFormat.PROPERTIES, "latin-1"))
    assert found.entries["a",].value == "é"
    found = read_catalog(b"\xef\xbb\xbfa=1\n", declared(OverlayFormat.PROPERTIES))
    assert list(found) == [("a",)]


@given(content=st.binary(max_size=300), form=st.sampled_from(list(OverlayFormat)))
def test_arbitrary_content_is_read_or_refused(content: bytes, form: OverlayFormat) -> None:
    try:
        found = read_catalog(content, declared(form))
    except UnusableFileError as error:
        assert error.why
    else:
        assert isinstance(found, TextCatalog)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8).map(
            lambda text: f"k{text.strip()}"
        ),
        st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20).map(str.strip),
        max_size=5,
    ),
    st.sampled_from([OverlayFormat.PROPERTIES, OverlayFormat.JSON, OverlayFormat.PO]),
)
def test_written_content_round_trips(texts: dict[str, str], form: OverlayFormat) -> None:
    key = (lambda name: ("", name)) if form is OverlayFormat.PO else (lambda name: (name,))
    source = (lambda name: name) if form is OverlayFormat.PO else (lambda _: None)
    made = TextCatalog(
        {key(name): TextEntry(text, source=source(name)) for name, text in texts.items()},
        {"Language": "fr"},
    )
    again = read_catalog(FORMATS[form].write(made).encode(), declared(form))
    assert {k: e.value for k, e in again.entries.items()} == {
        k: e.value for k, e in made.entries.items()
    }


@pytest.mark.parametrize(
    ("kind", "value", "violated"),
    [
        ("number", "nan", "number"),
        ("number", "inf", "number"),
        ("number", "1e400", "number"),
        ("number", "1_0", "number"),
        ("number", "٣", "number"),
        ("integer", "9" * 400, "integer"),
        ("integer", "1_0", "integer"),
        ("integer", True, "integer"),
        ("number", "11", "<= 10"),
        ("integer", 0, ">= 1"),
        ("number", "2.5", ""),
        ("integer", "7", ""),
    ],
)  # fmt: skip
def test_number_outside_its_limits_is_refused(kind: str, value: object, violated: str) -> None:
    rule = SettingRule.model_validate({"key": "x", "type": kind, "least": 1, "most": 10})
    assert describe_rule_violation(rule, value) == violated
