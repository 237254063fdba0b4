"""A signed language over what a release ships: a text for the very text that it translates."""

from __future__ import annotations

import pytest

from ncen_updater.formats.language import LanguageFile, LanguageText
from ncen_updater.formats.manifest import CarriedFormat
from ncen_updater.formats.texts.catalogue import Catalogue, TextEntry
from ncen_updater.formats.texts.readers import FORMATS, read_texts
from ncen_updater.formats.texts.shipped import Shipped, lay_over
from tests.agent.overlay.making import catalogue, declared

SOURCE = catalogue(CarriedFormat.JSON, a="A", b="B {x}", c="C")
OWN = catalogue(CarriedFormat.JSON, a="fr-A")


def text(key: str, words: str, source: str) -> LanguageFile:
    made = LanguageText(key=(key,), text=(words,), source=(source,))
    return LanguageFile(overlay="i18n/{lang}.json", texts=(made,))


@pytest.mark.parametrize(
    ("signed", "used", "other", "unfit", "says"),
    [
        (text("a", "sr-A", "A"), ["a"], [], [], "sr-A"),  # over the release's own
        (text("b", "sr-B {x}", "B {x}"), ["b"], [], [], "sr-B {x}"),
        (text("b", "sr-B", "B {x}"), [], [], ["b"], None),  # {x} is missing
        (text("b", "sr-B {x} {y}", "B {x}"), [], [], ["b"], None),  # nothing fills {y}
        (text("c", "sr-C", "See"), [], ["c"], [], None),  # of another text
        (text("gone", "sr", "Gone"), [], ["gone"], [], None),
    ],
)
def test_each_text_has_one_outcome(
    signed: LanguageFile, used: list[str], other: list[str], unfit: list[str], says: str | None
) -> None:
    laid = lay_over(declared(), Shipped(OWN, SOURCE), signed)
    assert [[k[0] for k in keys] for keys in (laid.used, laid.other, laid.unfit)] == [
        used, other, unfit,
    ]  # fmt: skip
    found = laid.shipped.own.get(signed.texts[0].key)
    assert (found.value if found else None) == says
    assert laid.shipped.source is SOURCE


def test_without_one_nothing_changes() -> None:
    shipped = Shipped(OWN, SOURCE)
    assert lay_over(declared(), shipped, None).shipped is shipped


def test_a_plural_of_gettext_is_written_in_the_forms_of_its_language() -> None:
    po = declared(format="po", slot="i18n/{lang}.po", overlay="i18n/{lang}.po")
    key = ("", "%d case")
    source = Catalogue({key: TextEntry("", (), "%d case", "%d cases")})
    forms = ("%d slučaj", "%d slučaja", "%d slučajeva")
    signed = LanguageFile(
        overlay="i18n/{lang}.po", plural="nplurals=3; plural=(n%10==1 ? 0 : 1);",
        texts=(LanguageText(key=key, text=forms, source=("%d case", "%d cases")),),
    )  # fmt: skip
    laid = lay_over(po, Shipped(Catalogue(), source), signed)
    assert laid.used == (key,)
    written = FORMATS[CarriedFormat.PO].write(laid.shipped.own)
    back = read_texts(written.encode(), po)
    assert back.entries[key].plural == forms
    assert back.header["Plural-Forms"].startswith("nplurals=3")
