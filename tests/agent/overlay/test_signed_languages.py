"""Signed languages at a site: a base between the release's texts and the country's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from ncen_updater.agent.overlay.layer import FileReport
from ncen_updater.agent.overlay.signed_languages import SignedLanguages, TakenLanguage
from ncen_updater.agent.overlay.withdrawn import withdrawn_languages
from ncen_updater.agent.overlay.words import layer_json, sentences
from ncen_updater.common.canonical_json import canonical_json
from ncen_updater.common.errors import UpdaterError
from ncen_updater.formats.document import Withdrawal
from ncen_updater.formats.language import LanguageDocument, parse_language_document
from ncen_updater.formats.texts.catalogue import Unusable
from tests.agent.overlay.making import TEXTS
from tests.agent.overlay.test_layer import NEW, OLD, Place, place  # noqa: F401 - a fixture

SOURCES = {"3.2.4": {"a": "A", "b": "B"}, "3.3.0": {"a": "A", "b": "B {x}", "c": "C"}}


def language(
    name: str = "sr", version: str = "3.3.0", revision: int = 1, **texts: str
) -> LanguageDocument:
    """A language as officers signed it."""
    rows = [
        {"key": [key], "text": [text], "source": [SOURCES[version][key]]}
        for key, text in texts.items()
    ]
    data: dict[str, Any] = {
        "schema": 1, "product": "ncen", "version": version, "language": name,
        "revision": revision, "translated": len(rows), "total": len(SOURCES[version]),
        "files": [{"overlay": "i18n/{lang}.json", "texts": rows}],
    }  # fmt: skip
    return parse_language_document(canonical_json(data), "test")


def report(place: Place, origin: Version | None, target: Version, name: str = "sr") -> FileReport:  # noqa: F811
    return next(f for f in place.layer.report(origin, target).files if f.language == name)


def test_it_lies_between_the_release_s_texts_and_the_country_s(place: Place) -> None:  # noqa: F811
    place.layer.signed.keep(language(a="sr-A", b="sr-B {x}"))
    place.layer.signed.keep(language("fr", a="better", c="fr-C"))
    place.write("i18n/sr.json", '{"b": "mine {x}"}')
    place.layer.choose(place.layer.build(OLD, NEW))
    assert place.merged("app/i18n/sr.json") == {"a": "sr-A", "b": "mine {x}"}
    assert place.merged("app/i18n/fr.json") == {"a": "better", "c": "fr-C"}
    assert place.merged("app/i18n/en.json") == {"a": "A", "b": "B {x}", "c": "C"}
    cover = report(place, OLD, NEW).coverage
    assert cover is not None
    assert (cover.translated, cover.total, cover.translated_before) == (2, 3, 1)
    said = [words.render("en") for words in sentences(place.layer.report(OLD, NEW))]
    assert "  2 texts are of the signed language for 3.3.0 (revision 1)" in said
    told = {item["language"]: item["signed"] for item in layer_json(place.layer.report(OLD, NEW))}
    assert told["sr"] == {
        "version": "3.3.0", "revision": 1, "used": 2, "other": 0, "unfit": 0, "why": None,
    }  # fmt: skip
    assert told["en"] is None


def test_it_goes_and_comes_with_the_release(place: Place) -> None:  # noqa: F811
    """The way back merges without a language of a later release, and without loss of the own."""
    place.layer.signed.keep(language(a="sr-A", c="sr-C"))
    place.layer.choose(place.layer.build(None, OLD))
    before = place.layer.chosen()
    assert not (place.layer.merged / "current/app/i18n/sr.json").exists()
    place.layer.choose(place.layer.build(OLD, NEW))
    assert place.merged("app/i18n/sr.json") == {"a": "sr-A", "c": "sr-C"}
    place.layer.choose(place.layer.build(NEW, OLD))
    assert place.layer.chosen() == before


def test_one_for_an_earlier_release_says_what_stayed_the_same(place: Place) -> None:  # noqa: F811
    place.layer.signed.keep(language(version="3.2.4", a="sr-A", b="sr-B"))
    place.layer.choose(place.layer.build(None, OLD))
    assert place.merged("app/i18n/sr.json") == {"a": "sr-A", "b": "sr-B"}
    place.layer.choose(place.layer.build(OLD, NEW))
    assert place.merged("app/i18n/sr.json") == {"a": "sr-A"}
    said = [words.render("en") for words in sentences(place.layer.report(OLD, NEW))]
    assert (
        "  1 text is of the signed language for 3.2.4 (revision 1), which is an earlier release"
    ) in said
    assert "  1 text of it is of another text than the release's, and is not used" in said
    cover = report(place, OLD, NEW).coverage
    assert cover is not None
    assert (cover.percent, cover.percent_before) == (33, 100)


def test_a_placeholder_that_does_not_fit_is_not_used_whoever_signed_it(place: Place) -> None:  # noqa: F811
    place.layer.signed.keep(language(a="sr-A", b="sr-B"))
    place.layer.choose(place.layer.build(OLD, NEW))
    assert place.merged("app/i18n/sr.json") == {"a": "sr-A"}
    use = report(place, OLD, NEW).signed
    assert use is not None
    assert (use.used, use.unfit) == (1, 1)


def test_a_better_one_takes_the_place_and_dropping_brings_back_what_was(place: Place) -> None:  # noqa: F811
    place.write("i18n/fr.json", '{"c": "mine"}')
    plain = place.layer.build(None, NEW)
    place.layer.signed.keep(language("fr", a="first"))
    first = place.layer.build(None, NEW)
    taken = place.layer.signed.keep(language("fr", revision=2, a="second"))
    place.layer.choose(place.layer.build(None, NEW))
    assert place.merged("app/i18n/fr.json") == {"a": "second", "c": "mine"}
    assert place.layer.signed.revision(taken) == 2
    place.layer.signed.drop(taken)
    place.layer.signed.drop(taken)
    assert place.layer.build(None, NEW) == plain != first
    assert place.layer.signed.taken() == ()


@pytest.mark.parametrize("how", ["cut", "another", "a link", "a pipe", "large", "gone"])
def test_what_lies_there_otherwise_is_not_used_and_told(
    place: Place,  # noqa: F811
    how: str,
    tmp_path: Path,
) -> None:
    place.write("i18n/sr.json", '{"a": "mine"}')
    taken = place.layer.signed.keep(language(c="sr-C"))
    path = place.layer.merged / "languages" / taken.name
    content = path.read_bytes()
    path.unlink()
    if how == "cut":
        path.write_bytes(content[:-20])
    elif how == "another":
        path.write_bytes(language("sw", a="sw-A").canonical())
    elif how == "a link":
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere")
    elif how == "a pipe":
        os.mkfifo(path)
    elif how == "large":
        path.write_bytes(content + b" " * 10_000_000)
    place.layer.choose(place.layer.build(OLD, NEW))
    assert place.merged("app/i18n/sr.json") == {"a": "mine"}
    assert place.layer.report(OLD, NEW).blocking == ()
    said = [words.render("en") for words in sentences(place.layer.report(OLD, NEW))]
    told = [line for line in said if "the signed language for 3.3.0 cannot be read" in line]
    assert (len(told), place.layer.signed.revision(taken)) == (0 if how == "gone" else 1, None)


def test_a_file_of_which_it_has_nothing_is_as_without_it(place: Place) -> None:  # noqa: F811
    other = {**TEXTS, "slot": "app/more/{lang}.json", "overlay": "more/{lang}.json"}
    files = {"app/i18n/en.json": '{"c": "C"}', "app/more/en.json": '{"x": "X"}'}
    newest = Version("3.4.0")
    place.ship(newest, [TEXTS, other], files)
    place.layer.signed.keep(language(c="sr-C"))
    place.layer.choose(place.layer.build(NEW, newest))
    assert place.merged("app/i18n/sr.json") == {"c": "sr-C"}
    assert not (place.layer.merged / "current/app/more/sr.json").exists()
    found = {f.path: f.signed for f in place.layer.report(NEW, newest).files if f.language == "sr"}
    assert found["app/more/sr.json"] is None
    assert found["app/i18n/sr.json"] is not None


def test_an_own_file_that_cannot_be_read_leaves_the_signed_language(place: Place) -> None:  # noqa: F811
    place.layer.signed.keep(language(a="sr-A"))
    place.write("i18n/sr.json", "{")
    place.layer.choose(place.layer.build(OLD, NEW))
    assert place.merged("app/i18n/sr.json") == {"a": "sr-A"}


def test_names_that_are_none_of_ours_are_passed_over(tmp_path: Path) -> None:
    found = SignedLanguages(tmp_path)
    for name in (
        "x.json",
        "3.3.sr.json.partial",
        "3.3.0.SR.json",
        "03.3.0.sr.json",
        ".3.3.0.sr.json",
    ):
        (tmp_path / name).write_bytes(b"{}")
    assert found.taken() == ()
    assert SignedLanguages(tmp_path / "missing").taken() == ()
    with pytest.raises(Unusable):
        SignedLanguages(tmp_path / "missing").read(TakenLanguage(NEW, "sr"))


def test_it_goes_when_no_release_that_is_here_would_use_it(place: Place) -> None:  # noqa: F811
    kept = [
        place.layer.signed.keep(language(version="3.2.4", a="x")),
        place.layer.signed.keep(language(version="3.3.0", a="x")),
        place.layer.signed.keep(language("sw", version="3.2.4", a="x")),
    ]
    place.layer.collect()
    assert set(place.layer.signed.taken()) == set(kept)
    place.layer.signed.collect((NEW,))
    # 'sw' is what 3.3.0 has of that language.
    assert set(place.layer.signed.taken()) == set(kept[1:])
    place.layer.signed.collect(())
    assert len(place.layer.signed.taken()) == 2


def test_one_that_was_taken_back_since_is_told(tmp_path: Path) -> None:
    signed = SignedLanguages(tmp_path / "languages")
    taken = signed.keep(language(revision=2, a="x"))
    gone = Withdrawal(reason="wrong terms")
    offers = [language(revision=number, a="x").offer() for number in (1, 2, 3)]
    assert list(withdrawn_languages(signed, offers)) == []
    back = [offers[0].model_copy(update={"withdrawn": gone}), *offers[1:]]
    assert list(withdrawn_languages(signed, back)) == []  # another revision
    back = [offers[0], offers[1].model_copy(update={"withdrawn": gone})]
    assert list(withdrawn_languages(signed, back)) == [(taken, gone)]


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "languages").write_text("a file in its place")
    with pytest.raises(UpdaterError, match="NU-3301"):
        SignedLanguages(tmp_path / "languages").keep(language(a="x"))
