"""Formats of texts and settings: what people write in them, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncen_updater.formats.manifest import CarriedFormat, CarriedKind, CarriedManifest
from ncen_updater.formats.texts.catalogue import Catalogue, TextEntry, Unusable
from ncen_updater.formats.texts.readers import FORMATS, compiled, read_texts

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


def declared(form: CarriedFormat, encoding: str = "utf-8") -> CarriedManifest:
    """What a manifest says of one file of this format."""
    texts = form is CarriedFormat.PO
    place = "{lang}" if texts else "x"
    return CarriedManifest.model_validate(
        {
            "kind": CarriedKind.TRANSLATIONS if texts else CarriedKind.SETTINGS,
            "format": form, "slot": f"app/{place}", "overlay": place, "encoding": encoding,
        }
    )  # fmt: skip


def test_po_has_contexts_plurals_and_what_its_translator_was_not_sure_of() -> None:
    found = read_texts(PO.encode(), declared(CarriedFormat.PO))
    assert list(found) == [("menu", "Open"), ("", "Open"), ("", "%d seizure")]
    assert found.entries["menu", "Open"].fuzzy
    assert found.entries["", "%d seizure"].forms == ("%d saisie", "%d saisies")
    written = FORMATS[CarriedFormat.PO].write(found)
    again = read_texts(written.encode(), declared(CarriedFormat.PO))
    assert {k: e.forms for k, e in again.entries.items()} == {
        k: e.forms for k, e in found.entries.items()
    }
    assert "fuzzy" not in written  # gettext would not show it


def test_po_is_compiled_as_the_standard_library_reads_it(tmp_path: object) -> None:
    import gettext
    import io

    found = read_texts(PO.encode(), declared(CarriedFormat.PO))
    texts = gettext.GNUTranslations(io.BytesIO(compiled(found)))
    assert texts.pgettext("menu", "Open") == "Ouvrir"
    assert texts.gettext("Open") == "Ouvert"


@pytest.mark.parametrize(
    ("form", "text", "entries"),
    [
        (CarriedFormat.PROPERTIES, "a\\:b = x\\u0020y\n# c\n", {"a:b": "x y"}),
        (CarriedFormat.PROPERTIES, "long = a\\\n  b\n", {"long": "ab"}),
        (CarriedFormat.PROPERTIES, "caf\\u00e9 = \\u4e2d\n", {"café": "中"}),
        (CarriedFormat.JSON, '{"a": {"b": "c", "d": [1]}}', {"a.b": "c", "a.d": [1]}),
        (CarriedFormat.JSON, '{"e": null}', {"e": None}),
        (CarriedFormat.INI, "[A]\nx = 1 ; y\nKey: %(z)s\n", {"A.x": "1 ; y", "A.Key": "%(z)s"}),
    ],
)  # fmt: skip
def test_each_format_is_read_as_its_programs_read_it(
    form: CarriedFormat, text: str, entries: dict[str, object]
) -> None:
    found = read_texts(text.encode(), declared(form))
    assert {".".join(k): e.value for k, e in found.entries.items()} == entries
    again = read_texts(FORMATS[form].write(found).encode(), declared(form))
    assert again.entries == found.entries


@pytest.mark.parametrize(
    ("form", "content", "why", "line"),
    [
        (CarriedFormat.PO, b'msgid "a"\nmsgstr "b"\n\nmsgid "a"\nmsgstr "c"\n', "twice", 4),
        (CarriedFormat.PO, b'msgid "a\nx"\nmsgstr', "line 2", None),
        (CarriedFormat.PO, b"", "empty", None),
        (CarriedFormat.PO, b"/etc/passwd", "", None),
        (CarriedFormat.PROPERTIES, b"a=1\n\na=2\n", "twice", 3),
        (CarriedFormat.PROPERTIES, b"a=\\u12\n", "", 1),
        (CarriedFormat.JSON, b'{"a": 1, "a": 2}', "twice", None),
        (CarriedFormat.JSON, b"[1]", "object", None),
        (CarriedFormat.JSON, b'{"a": NaN}', "NaN", None),
        (CarriedFormat.JSON, b"{" * 200_000, "", None),
        (CarriedFormat.JSON, b'{"a":' * 200_000, "", None),
        (CarriedFormat.INI, b"[a]\nx=1\nx=2\n", "already exists", 3),
        (CarriedFormat.INI, b"x=1\n", "section", 1),
        (CarriedFormat.INI, b"[a]\nx=\0\n", "zero", None),
        (CarriedFormat.PROPERTIES, b"a=1\nb=\xff\n", "utf-8", 2),
    ],
)
def test_what_would_lose_something_is_refused_with_its_line(
    form: CarriedFormat, content: bytes, why: str, line: int | None
) -> None:
    with pytest.raises(Unusable) as error:
        read_texts(content, declared(form))
    assert why in error.value.why
    assert line is None or error.value.line == line


def test_latin_1_is_read_as_declared_and_a_mark_at_the_beginning_is_no_text() -> None:
    found = read_texts("a=é\n".encode("latin-1"), declared(CarriedFormat.PROPERTIES, "latin-1"))
    assert found.entries["a",].value == "é"
    found = read_texts(b"\xef\xbb\xbfa=1\n", declared(CarriedFormat.PROPERTIES))
    assert list(found) == [("a",)]


@given(content=st.binary(max_size=300), form=st.sampled_from(list(CarriedFormat)))
def test_whatever_people_write_is_read_or_refused(content: bytes, form: CarriedFormat) -> None:
    try:
        found = read_texts(content, declared(form))
    except Unusable as error:
        assert error.why
    else:
        assert isinstance(found, Catalogue)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8).map(
            lambda text: f"k{text.strip()}"
        ),
        st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20).map(str.strip),
        max_size=5,
    ),
    st.sampled_from([CarriedFormat.PROPERTIES, CarriedFormat.JSON, CarriedFormat.PO]),
)
def test_what_is_written_is_read_back(texts: dict[str, str], form: CarriedFormat) -> None:
    key = (lambda name: ("", name)) if form is CarriedFormat.PO else (lambda name: (name,))
    source = (lambda name: name) if form is CarriedFormat.PO else (lambda _: None)
    made = Catalogue(
        {key(name): TextEntry(text, source=source(name)) for name, text in texts.items()},
        {"Language": "fr"},
    )
    again = read_texts(FORMATS[form].write(made).encode(), declared(form))
    assert {k: e.value for k, e in again.entries.items()} == {
        k: e.value for k, e in made.entries.items()
    }
