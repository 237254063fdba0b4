"""The file of a signed language: what it may say, and what no site reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ncen_updater.common.canonical_json import canonical_json
from ncen_updater.formats.document import Withdrawal
from ncen_updater.formats.errors import BadLanguage
from ncen_updater.formats.language import (
    MAX_LANGUAGE_BYTES,
    LanguageOffer,
    newest_languages,
    parse_language_document,
)

TEXT = {"key": ["a"], "text": ["sr-A"], "source": ["A"]}
WHOLE: dict[str, Any] = {
    "schema": 1, "product": "ncen", "version": "3.3.0", "language": "sr", "revision": 1,
    "translated": 1, "total": 2, "files": [{"overlay": "i18n/{lang}.json", "texts": [TEXT]}],
}  # fmt: skip


def offer(language: str, revision: int, version: str = "3.3.0", reason: str = "") -> LanguageOffer:
    return LanguageOffer(
        product="ncen", version=version, language=language, revision=revision, translated=1,
        total=2, withdrawn=Withdrawal(reason=reason) if reason else None,
    )  # fmt: skip


def test_it_reads_as_it_was_written() -> None:
    document = parse_language_document(canonical_json(WHOLE), "x")
    assert document.canonical() == canonical_json(WHOLE)
    assert document.offer().target == "languages/ncen/3.3.0.sr.1.json"
    assert parse_language_document(document.canonical(), "x") == document
    file = document.texts_of("i18n/{lang}.json")
    assert file is not None
    assert file.texts[0].text == ("sr-A",)
    assert document.texts_of("other.json") is None


def test_what_newer_publishers_write_is_passed_over_by_sites_alone() -> None:
    newer = canonical_json({**WHOLE, "translators": ["one"]})
    assert parse_language_document(newer, "x", lenient=True).language == "sr"
    with pytest.raises(BadLanguage):
        parse_language_document(newer, "x")


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2}, {"language": "../etc"}, {"language": "SR"}, {"version": "3.3.0/x"},
        {"revision": 0}, {"revision": 10_000}, {"product": "../x"}, {"files": []},
        {"files": [{"overlay": "/etc/passwd", "texts": [TEXT]}]},
        {"files": [{"overlay": "../x", "texts": [TEXT]}]},
        {"files": [{"overlay": "a", "texts": []}]},
        {"files": [{"overlay": "a", "texts": [TEXT, TEXT]}]},
        {"files": [{"overlay": "a", "texts": [TEXT]}, {"overlay": "a", "texts": [TEXT]}]},
        {"files": [{"overlay": "a", "texts": [{**TEXT, "text": ["zero \0"]}]}]},
        {"files": [{"overlay": "a", "texts": [{**TEXT, "text": []}]}]},
        {"files": [{"overlay": "a", "texts": [{**TEXT, "key": []}]}]},
        {"files": [{"overlay": "a", "plural": "a\nb", "texts": [TEXT]}]},
    ],
    ids=lambda change: json.dumps(change)[:60],
)  # fmt: skip
def test_what_no_language_may_say_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadLanguage):
        parse_language_document(canonical_json({**WHOLE, **change}), "x", lenient=True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        canonical_json(WHOLE) + b" " * MAX_LANGUAGE_BYTES,
    ],
    ids=["nothing", "cut", "a list", "null", "no text", "nested", "too large"],
)
def test_what_is_no_language_is_refused(content: bytes) -> None:
    with pytest.raises(BadLanguage):
        parse_language_document(content, "x", lenient=True)


def test_the_last_revision_that_was_not_taken_back_is_on_offer() -> None:
    offers = (
        offer("sr", 1), offer("sr", 3, reason="wrong"), offer("sr", 2), offer("pt_BR", 1),
        offer("ar", 1, reason="wrong"), offer("sw", 1, "3.4.0"),
    )  # fmt: skip
    found = newest_languages(offers, "3.3.0")
    assert [(o.language, o.revision) for o in found] == [("pt_BR", 1), ("sr", 2)]
