"""Tests of plural forms by the rules of each language."""

from __future__ import annotations

import runpy
from pathlib import Path

import polib
import pytest

from ncen_updater.common.cli.render import format_count
from ncen_updater.common.i18n import LOCALE_DIR, LazyText, get_plural_count, translate

SCRIPT = Path(__file__).resolve().parents[2] / "script" / "messages.py"
HELD = "Cannot terminate {count} sessions in database {database}"
#: As gettext's manual has them.
RULES = {
    "ar": "nplurals=6; plural=(n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : n%100>=3 && n%100<=10 ? 3"
    " : n%100>=11 ? 4 : 5);",
    "ru": "nplurals=3; plural=(n%10==1 && n%100!=11 ? 0"
    " : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2);",
    "ja": "nplurals=1; plural=0;",
    "fr": "nplurals=2; plural=(n > 1);",
    "pt_BR": "nplurals=2; plural=(n > 1);",
}


def catalogue(directory: Path, language: str, rule: str, *entries: polib.POEntry) -> Path:
    """Write one as a country does, with its own tools."""
    made = polib.POFile()
    made.metadata = {"Content-Type": "text/plain; charset=UTF-8", "Plural-Forms": rule}
    made.extend(entries)
    path = directory / language / "LC_MESSAGES" / "ncen_updater.mo"
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as_mofile(str(path))
    return path


def forms(language: str) -> polib.POEntry:
    """A text whose plural form shows its number."""
    how_many = int(RULES[language][len("nplurals=")])
    said = {number: f"{{count}}:{number}" for number in range(how_many)}
    return polib.POEntry(msgctxt="count", msgid=HELD, msgid_plural=HELD, msgstr_plural=said)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "locale"
    monkeypatch.setenv("NCEN_LOCALE_DIR", str(made))
    return made


TABLE = [
    ("fr", {0: 0, 1: 0, 2: 1, 1_000_000: 1}),
    ("pt_BR", {0: 0, 1: 0, 2: 1}),
    ("ja", {0: 0, 1: 0, 2: 0, 100: 0}),
    ("ru", {0: 2, 1: 0, 2: 1, 4: 1, 5: 2, 11: 2, 12: 2, 21: 0, 22: 1, 111: 2, 1001: 0}),
    ("ar", {0: 0, 1: 1, 2: 2, 3: 3, 10: 3, 11: 4, 99: 4, 100: 5, 102: 5, 103: 3, 111: 4}),
]


@pytest.mark.parametrize(
    ("language", "number", "form"),
    [(language, number, form) for language, rows in TABLE for number, form in rows.items()],
)
def test_plural_rule_of_the_language_applies(
    directory: Path, language: str, number: int, form: int
) -> None:
    catalogue(directory, language, RULES[language], forms(language))
    assert LazyText(HELD, {"count": number}).render(language).endswith(f":{form}")
    # The same of what crossed between processes, and of a number with its thousands apart.
    assert (
        LazyText(HELD, {"count": str(format_count(number))}).render(language).endswith(f":{form}")
    )


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1), (-1, 1), (0, 0), ("1", 1), (format_count(1234), 1234), ("1\u202f234", 1234),
        (True, 100), (1.0, 100), (None, 100), ("1.5 GB", 100), ("1, 2", 100), ("", 100),
        ("9" * 200, 100),
    ],
)  # fmt: skip
def test_plural_count_of_a_value_is_determined(value: object, number: int) -> None:
    assert get_plural_count(value) == number


@pytest.mark.parametrize(
    ("count", "english", "french"),
    [
        (
            0,
            "Cannot terminate 0 sessions in database a",
            "Impossible de fermer 0 session sur la base a",
        ),
        (
            1,
            "Cannot terminate 1 session in database a",
            "Impossible de fermer 1 session sur la base a",
        ),
        (
            2,
            "Cannot terminate 2 sessions in database a",
            "Impossible de fermer 2 sessions sur la base a",
        ),
    ],
)
def test_bundled_plurals_are_rendered(count: int, english: str, french: str) -> None:
    text = LazyText(HELD, {"count": count, "database": "a"})
    assert (text.render("en"), text.render("fr")) == (english, french)


def test_unknown_number_uses_the_plural(directory: Path) -> None:
    catalogue(directory, "ar", RULES["ar"], forms("ar"))
    assert LazyText(HELD, {"count": "?"}).render("ar") == "\u2068?\u2069:5"
    assert translate(HELD) == HELD


def test_placeholder_named_by_the_catalogue_decides() -> None:
    template = "  table {table}: {before} rows before, {after} after"
    of_one = LazyText(template, {"table": "x", "before": 1, "after": 3})
    assert of_one.render() == "  table x: 1 row before, 3 after"


def test_catalogue_without_plural_forms_is_read(directory: Path) -> None:
    catalogue(directory, "sw", RULES["fr"], polib.POEntry(msgid=HELD, msgstr="vikao {count}"))
    assert LazyText(HELD, {"count": 1}).render("sw") == "vikao 1"


def test_untranslated_text_uses_english_plural_rules(directory: Path) -> None:
    catalogue(directory, "ja", RULES["ja"], polib.POEntry(msgid="no", msgstr="いいえ"))
    said = LazyText(HELD, {"count": 1, "database": "a"}).render("ja")
    assert said == "Cannot terminate 1 session in database a"


@pytest.mark.parametrize(
    "rule", ["nplurals=2; plural=(1/n);", "nplurals=2; plural=9;", "nplurals=2; plural=(n%0);"]
)
def test_wrong_plural_rule_is_harmless(directory: Path, rule: str) -> None:
    catalogue(directory, "sw", rule, forms("fr"))
    assert (
        LazyText(HELD, {"count": 0, "database": "a"}).render("sw")
        == "Cannot terminate 0 sessions in database a"
    )


def test_invalid_plural_rule_disables_the_catalogue(directory: Path) -> None:
    catalogue(directory, "sw", "nplurals=2; plural=__import__('os');", forms("fr"))
    assert (
        LazyText(HELD, {"count": 1, "database": "a"}).render("sw")
        == "Cannot terminate 1 session in database a"
    )


def test_catalogues_have_all_plural_forms() -> None:
    for language in ("en", "fr"):
        po = polib.pofile(str(LOCALE_DIR / language / "LC_MESSAGES" / "ncen_updater.po"))
        how_many = int(po.metadata["Plural-Forms"][len("nplurals=")])
        rows = [row for row in po if row.msgid_plural]
        assert rows, language
        for row in rows:
            assert sorted(row.msgstr_plural) == list(range(how_many)), row.msgid


def test_counting_text_without_forms_is_detected() -> None:
    counts = runpy.run_path(str(SCRIPT))["counts"]
    assert counts("'{name}': new code for {count} records.")
    assert counts("kept for {days} more days")
    assert not counts("{bytes} bytes are free; {name} needs more")
    assert not counts("Available: {version}")


def test_no_text_has_a_plural_in_brackets() -> None:
    found = runpy.run_path(str(SCRIPT))
    said = [form for row in found["read_po"]().values()
            for form in (row.forms if not isinstance(row, str) else (row,))]  # fmt: skip
    for text in (*found["read_source"]().templates, *said):
        for end in ("(s)", "(es)", "(e)", "(e)s", "(x)", "1 records"):
            assert end not in text, text
