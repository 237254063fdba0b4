"""Lazy texts: translated when they are shown, not when they are created.

An error or an event is stored as a template with values, so that an English-speaking Secretariat
can read the journal of a French-speaking site. Catalogues are gettext files under ``locale/``, and
in a directory of the site, which has precedence. The template itself is the English text, and
replaces any sentence that a catalogue lacks.

A template is written in the plural: ``{count} records are lost``. Its other forms are plural
entries in each catalogue, with as many forms as ``Plural-Forms`` defines and the placeholder's name
as context. English also has a catalogue, with these forms only. So a template from another process
or an old journal gets its plural forms when it is shown.
"""

from __future__ import annotations

import gettext
import logging
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from ncen_updater.common.cli.characters import (
    FIRST_STRONG_ISOLATE,
    POP_ISOLATE,
    strip_control_characters,
)

logger = logging.getLogger(__name__)

DEFAULT_LANGUAGE = "en"
Translation = TypeVar("Translation")
DOMAIN = "ncen_updater"
# Plain names only: a template from another process or of a translator cannot access attributes or
# set a width.
PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")
LOCALE_DIR = Path(__file__).parents[1] / "locale"
#: Directory of the site's own catalogues; ``NCEN_LOCALE_DIR`` overrides it.
SITE_LOCALE_DIR = "/etc/ncen-updater/locale"
#: Names of catalogue directories: fr, pt_BR, sr@latin, zh_Hant_TW.
LANGUAGE_PATTERN = re.compile(r"[a-z]{2,3}(_[A-Z][a-z]{3})?(_([A-Z]{2}|\d{3}))?(@[a-z]+)?")
#: Language names as users, browsers and locales write them: any case, ``-`` or ``_``.
_REQUESTED_LANGUAGE = re.compile(
    r"([a-z]{2,3})(?:[-_]([a-z]{4}))?(?:[-_]([a-z]{2}|\d{3}))?(?:\.[\w-]*)?(?:@([a-z]+))?",
    re.IGNORECASE,
)
#: Languages and scripts that are written from right to left.
_RIGHT_TO_LEFT = frozenset(
    {"ar", "arc", "ckb", "dv", "fa", "he", "ks", "nqo", "ps", "sd", "syr", "ug", "ur", "yi"}
)
_RIGHT_TO_LEFT_SCRIPTS = frozenset({"Adlm", "Arab", "Hebr", "Nkoo", "Rohg", "Syrc", "Thaa"})
#: Locale modifiers and their scripts.
_SCRIPT_BY_MODIFIER = {"latin": "Latn", "cyrillic": "Cyrl", "devanagari": "Deva", "arabic": "Arab"}
#: A formatted count: 1234, or with thousands separators.
_COUNT_PATTERN = re.compile(r"\d{1,3}(?:[,\u202f\u00a0]\d{3})+|\d+")
#: Counts by name, such as "C10: 53, C11: 2"; the colon is that of the language.
_COUNTS_BY_NAME = re.compile(r"[\w.-]+: \d+(?:, [\w.-]+: \d+)*(?:, \.\.\.)?")
#: Count used for an unknown number, as if it were large.
_UNKNOWN_COUNT = 100


def N_(template: str) -> str:  # noqa: N802 - the gettext name, which its tools look for
    """Mark a template for the catalogues and return it unchanged."""
    return template


# ---- languages -----------------------------------------------------------------------------------


def list_catalog_names(requested: str) -> tuple[str, ...]:
    """Return the possible catalogue names of a language, the most specific first. Pure.

    ``pt-br.UTF-8`` gives ``pt_BR``, then ``pt``; an invalid name gives none.
    """
    found = _REQUESTED_LANGUAGE.fullmatch(requested)
    if found is None:
        return ()
    language, script, country, modifier = found.groups()
    ends = [f"@{modifier.lower()}", ""] if modifier else [""]
    scripts = [f"_{script.title()}", ""] if script else [""]
    countries = [f"_{country.upper()}", ""] if country else [""]
    return tuple(
        f"{language.lower()}{middle}{last}{end}"
        for end in ends
        for middle in scripts
        for last in countries
    )


def match_language(*requested: str) -> str | None:
    """Return the first requested language that has a catalogue.

    Args:
        *requested: Languages in order of preference.
    """
    known = list_languages()
    return next(
        (name for one in requested for name in list_catalog_names(one) if name in known), None
    )


def read_language_from_environment(environment: Mapping[str, str] | None = None) -> str:
    """Return the language of the locale variables; English if none has a catalogue.

    As in the C library: the first of LC_ALL, LC_MESSAGES and LANG that is set, preceded by the list
    in LANGUAGE unless the locale is C. ``NCEN_LANG`` has precedence.

    Args:
        environment: The variables; by default those of the process.
    """
    env = os.environ if environment is None else environment
    own = env.get("NCEN_LANG", "")
    names = (env.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    locale = next((name for name in names if name), "C")
    listed = [] if locale in ("C", "POSIX") else env.get("LANGUAGE", "").split(":")
    return match_language(own, *listed, locale) or DEFAULT_LANGUAGE


def is_right_to_left(language: str) -> bool:
    """Return whether a language is written from right to left. Pure."""
    found = _REQUESTED_LANGUAGE.fullmatch(language)
    if found is None:
        return False
    script = _SCRIPT_BY_MODIFIER.get(found[4] or "", (found[2] or "").title())
    return script in _RIGHT_TO_LEFT_SCRIPTS if script else found[1].lower() in _RIGHT_TO_LEFT


def make_language_tag(language: str) -> str:
    """Return the BCP 47 tag of a language for HTML, such as ``pt-BR``. Pure."""
    name, _, modifier = language.partition("@")
    first, *rest = name.split("_")
    script = [_SCRIPT_BY_MODIFIER[modifier]] if modifier in _SCRIPT_BY_MODIFIER else []
    return "-".join([first, *script, *rest])


def choose_translation(
    translations: Mapping[str, Translation], language: str
) -> Translation | None:
    """Return the translation in a language, else in English, else None. Pure."""
    names = (*list_catalog_names(language), DEFAULT_LANGUAGE)
    return next((translations[name] for name in names if name in translations), None)


# ---- catalogues ----------------------------------------------------------------------------------


class _EmptyCatalog(gettext.NullTranslations):
    """A fallback that returns an empty string for a missing entry instead of the template."""

    def gettext(self, message: str) -> str:
        del message
        return ""

    def npgettext(self, context: str, msgid1: str, msgid2: str, n: int) -> str:
        del context, msgid1, msgid2, n
        return ""


def _list_locale_directories() -> tuple[Path, ...]:
    return Path(os.environ.get("NCEN_LOCALE_DIR") or SITE_LOCALE_DIR), LOCALE_DIR


def _get_catalog_path(directory: Path, language: str, domain: str = DOMAIN) -> Path:
    return directory / language / "LC_MESSAGES" / f"{domain}.mo"


def find_locale_directory(language: str, domain: str) -> Path:
    """Return the directory of a domain's catalogue: the site's own, or this program's."""
    found = (
        place
        for place in _list_locale_directories()
        if _get_catalog_path(place, language, domain).is_file()
    )
    return next(found, LOCALE_DIR)


def list_languages() -> tuple[str, ...]:
    """Return the languages that have a catalogue, English first."""
    found = set()
    for directory in _list_locale_directories():
        try:
            names = os.listdir(directory)  # noqa: PTH208 - names are all that is needed
        except OSError:
            continue
        found |= {
            n
            for n in names
            if LANGUAGE_PATTERN.fullmatch(n) and _get_catalog_path(directory, n).is_file()
        }
    return (DEFAULT_LANGUAGE, *sorted(found - {DEFAULT_LANGUAGE}))


@lru_cache(maxsize=16)
def _load_catalogs(
    language: str, directories: tuple[Path, ...]
) -> tuple[gettext.GNUTranslations, ...]:
    """Return all catalogues of a language, the most specific first."""
    found = []
    for name in list_catalog_names(language):
        for directory in directories:
            try:
                with _get_catalog_path(directory, name).open("rb") as stream:
                    catalogue = gettext.GNUTranslations(stream)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, struct.error, LookupError, RuntimeError) as error:
                logger.warning("ignoring catalogue %s in %s: %s", name, directory, error)
                continue
            catalogue.add_fallback(_EmptyCatalog())
            found.append(catalogue)
    return tuple(found)


def iter_catalog_texts() -> Iterator[str]:
    """Yield the templates of all catalogues of this program, and their translations."""
    for language in list_languages():
        if _get_catalog_path(LOCALE_DIR, language).is_file():
            with _get_catalog_path(LOCALE_DIR, language).open("rb") as stream:
                known = gettext.GNUTranslations(stream)._catalog  # type: ignore[attr-defined]
            for key, value in known.items():
                yield (key[0] if isinstance(key, tuple) else key).rpartition("\x04")[2]
                yield str(value)


def get_plural_count(value: object) -> int:
    """Return the number that selects the plural form for a value. Pure."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value)
    found = _COUNT_PATTERN.fullmatch(value) if isinstance(value, str) else None
    return (
        int(re.sub(r"\D", "", found[0]))
        if found and len(found[0]) < _UNKNOWN_COUNT
        else _UNKNOWN_COUNT
    )


def _translate_with_plural(
    catalogues: Sequence[gettext.GNUTranslations], template: str, values: Mapping[str, object]
) -> str | None:
    """Translate a template with its values, using the first catalogue that has it."""
    places = [place for place in PLACEHOLDER.findall(template) if place in values] if values else []
    for catalogue in catalogues:
        try:
            forms = [
                catalogue.npgettext(place, template, template, get_plural_count(values[place]))
                for place in places
            ]
            text = next(filter(None, forms), "") or catalogue.gettext(template)
        except ArithmeticError:  # a plural rule that divides by zero
            continue
        if text:
            return text
    return None


def translate(
    template: str, language: str = DEFAULT_LANGUAGE, values: Mapping[str, object] | None = None
) -> str:
    """Return a template in a language; in English if no catalogue has it.

    Args:
        template: English text in the plural.
        language: One of :func:`list_languages`.
        values: Values of its placeholders, which select the plural form.
    """
    if not template or (language == DEFAULT_LANGUAGE and not values):
        return template
    directories = _list_locale_directories()
    known = _load_catalogs(language, directories)
    if language != DEFAULT_LANGUAGE:
        known += _load_catalogs(DEFAULT_LANGUAGE, directories)
    return _translate_with_plural(known, template, values or {}) or template


class LocalizedFigure(str):
    """A figure in English format that also has the formats of other languages."""

    __slots__ = ("forms",)

    forms: Mapping[str, str]

    def __new__(cls, english: str, /, **forms: str) -> LocalizedFigure:
        """Create a figure.

        Args:
            english: The English format.
            forms: Formats of other languages, by language code.
        """
        figure = super().__new__(cls, english)
        figure.forms = forms
        return figure

    def render(self, language: str) -> str:
        """Return the figure in a language's format; in English format if there is none."""
        found = (self.forms[name] for name in list_catalog_names(language) if name in self.forms)
        return next(found, str(self))


@dataclass(frozen=True)
class LazyText:
    """A sentence for display: an English template with ``{name}`` placeholders, and values."""

    template: str
    values: Mapping[str, object] = field(default_factory=dict)

    def render(self, language: str = DEFAULT_LANGUAGE) -> str:
        """Return the sentence in a language.

        Values are translated, too, if they are lazy texts, members of enumerations, or texts with
        a space that a catalogue has: values from another process are plain texts.

        Never raises: a placeholder without a value is shown unchanged. An integer whose
        placeholder's name ends in ``bytes`` is formatted as a size. After a quotation mark (``"``)
        a value is an SQL name, and quotation marks in it are doubled. In a right-to-left language
        each value is enclosed in isolates, so that a path, version or name keeps its order and does
        not reorder the rest.
        """
        right_to_left = is_right_to_left(language)

        def fill(place: re.Match[str]) -> str:
            if place[1] not in self.values:
                return place[0]
            value = self.values[place[1]]
            if place[1].endswith("bytes") and type(value) is int:
                # imported here: it imports this module
                from ncen_updater.common.cli.render import format_bytes

                value = format_bytes(value)
            text = _render_value(value, language)
            if place.string[: place.start()].endswith('"'):
                text = text.replace('"', '""')
            if not right_to_left or isinstance(value, LazyText | StrEnum):
                return text
            return "\n".join(
                f"{FIRST_STRONG_ISOLATE}{part}{POP_ISOLATE}"
                for part in strip_control_characters(text).split("\n")
            )

        return PLACEHOLDER.sub(fill, translate(self.template, language, self.values))

    def __str__(self) -> str:
        return self.render()


def join_texts(texts: Iterable[LazyText | str], between: str = N_("; ")) -> LazyText:
    """Join several sentences to one. Pure."""
    values = {f"text{number}": text for number, text in enumerate(texts)}
    template = "{between}".join(f"{{{name}}}" for name in values)
    return LazyText(
        template, {**values, "between": LazyText(between)} if len(values) > 1 else values
    )


def _render_value(value: object, language: str) -> str:
    if isinstance(value, LazyText | LocalizedFigure):
        return value.render(language)
    if isinstance(value, StrEnum):
        # Members of our enumerations ("upgrade", "undone") have entries in the catalogues.
        return translate(value.value, language)
    try:
        text = str(value)
    # too many digits for Python, or a list that contains itself
    except (ValueError, RecursionError):
        return type(value).__name__
    if _COUNTS_BY_NAME.fullmatch(text):
        return text.replace(": ", translate("{name}: {text}", language).format(name="", text=""))
    # A text with spaces may be a translatable sentence; a single word is a name.
    return translate(text, language) if " " in text else text
