"""Lazy texts: translated when they are shown, not when they are made.

An error or an event is stored as a template and its values, so that the journal of a site that
works in French can be read by a Secretariat that works in English. Catalogues are gettext files
under ``locale/``, and in a directory of the site's own, which comes first; English is the template
itself, and stands in for every sentence that a catalogue does not have.

A template is written for many: ``{count} records are lost``. How a language says it of another
number is in its catalogue, as a plural entry with as many forms as its ``Plural-Forms`` has; its
context is the name of the place that counts. English, too, has a catalogue, which holds these forms
alone. So a template that another process or an old journal holds gets its forms when it is shown.
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
# Names alone: a template of another process, or one that a translator broke, reaches no attribute
# and sets no width.
PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")
LOCALE_DIR = Path(__file__).parents[1] / "locale"
#: Catalogues of the site's own; ``NCEN_LOCALE_DIR`` names another place.
SITE_LOCALE_DIR = "/etc/ncen-updater/locale"
#: As the directories of catalogues are named: fr, pt_BR, sr@latin, zh_Hant_TW.
LANGUAGE_PATTERN = re.compile(r"[a-z]{2,3}(_[A-Z][a-z]{3})?(_([A-Z]{2}|\d{3}))?(@[a-z]+)?")
#: What people, browsers and locales write: any case, and either line between the parts.
_REQUESTED_LANGUAGE = re.compile(
    r"([a-z]{2,3})(?:[-_]([a-z]{4}))?(?:[-_]([a-z]{2}|\d{3}))?(?:\.[\w-]*)?(?:@([a-z]+))?",
    re.IGNORECASE,
)
#: Languages and scripts that are written from right to left.
_RIGHT_TO_LEFT = frozenset(
    {"ar", "arc", "ckb", "dv", "fa", "he", "ks", "nqo", "ps", "sd", "syr", "ug", "ur", "yi"}
)
_RIGHT_TO_LEFT_SCRIPTS = frozenset({"Adlm", "Arab", "Hebr", "Nkoo", "Rohg", "Syrc", "Thaa"})
#: Modifiers of locales to the script that they stand for.
_SCRIPT_BY_MODIFIER = {"latin": "Latn", "cyrillic": "Cyrl", "devanagari": "Deva", "arabic": "Arab"}
#: A count as a text has it: 1234, or with its thousands apart.
_COUNT_PATTERN = re.compile(r"\d{1,3}(?:[,\u202f\u00a0]\d{3})+|\d+")
#: In place of a number that is not known: as of very many.
_UNKNOWN_COUNT = 100


def N_(template: str) -> str:  # noqa: N802 - the gettext name, which its tools look for
    """Mark a template for the catalogues and return it unchanged."""
    return template


# ---- which language ------------------------------------------------------------------------------


def list_catalog_names(requested: str) -> tuple[str, ...]:
    """Return the names under which a language may have a catalogue, the nearest first; pure.

    ``pt-br.UTF-8`` is ``pt_BR``, then ``pt``; what is no language at all has none.
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
    """Return the first language that is asked for and of which there is a catalogue.

    Args:
        *requested: In the order in which they are liked.
    """
    known = list_languages()
    return next(
        (name for one in requested for name in list_catalog_names(one) if name in known), None
    )


def read_language_from_environment(environment: Mapping[str, str] | None = None) -> str:
    """Return the language that the locale variables ask for, English if none is known.

    As the C library reads them: the first of LC_ALL, LC_MESSAGES and LANG that is set, and the list
    of LANGUAGE before it, unless the locale is C. ``NCEN_LANG`` comes before all.

    Args:
        environment: Variables to read; the process's own by default.
    """
    env = os.environ if environment is None else environment
    own = env.get("NCEN_LANG", "")
    names = (env.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    locale = next((name for name in names if name), "C")
    listed = [] if locale in ("C", "POSIX") else env.get("LANGUAGE", "").split(":")
    return match_language(own, *listed, locale) or DEFAULT_LANGUAGE


def is_right_to_left(language: str) -> bool:
    """Tell whether a language is written from right to left; pure."""
    found = _REQUESTED_LANGUAGE.fullmatch(language)
    if found is None:
        return False
    script = _SCRIPT_BY_MODIFIER.get(found[4] or "", (found[2] or "").title())
    return script in _RIGHT_TO_LEFT_SCRIPTS if script else found[1].lower() in _RIGHT_TO_LEFT


def make_language_tag(language: str) -> str:
    """Return the tag of a language as pages have it (BCP 47), such as ``pt-BR``; pure."""
    name, _, modifier = language.partition("@")
    first, *rest = name.split("_")
    script = [_SCRIPT_BY_MODIFIER[modifier]] if modifier in _SCRIPT_BY_MODIFIER else []
    return "-".join([first, *script, *rest])


def choose_translation(
    translations: Mapping[str, Translation], language: str
) -> Translation | None:
    """Return what was written in a language, or in English, by who wrote in several; pure."""
    names = (*list_catalog_names(language), DEFAULT_LANGUAGE)
    return next((translations[name] for name in names if name in translations), None)


# ---- catalogues ----------------------------------------------------------------------------------


class _EmptyCatalog(gettext.NullTranslations):
    """Stands behind a catalogue: what that does not have is nothing, and not the template."""

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


def locale_directory(language: str, domain: str) -> Path:
    """Return where the catalogue of a domain is: of the site's own, or those of this program."""
    found = (
        place
        for place in _list_locale_directories()
        if _get_catalog_path(place, language, domain).is_file()
    )
    return next(found, LOCALE_DIR)


def list_languages() -> tuple[str, ...]:
    """Return the languages of which there is a catalogue, English first."""
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
    """Return every catalogue of a language: what the first does not have, the next one may."""
    found = []
    for name in list_catalog_names(language):
        for directory in directories:
            try:
                with _get_catalog_path(directory, name).open("rb") as stream:
                    made = gettext.GNUTranslations(stream)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, struct.error, LookupError, RuntimeError) as error:
                logger.warning("the catalogue %s in %s is left out: %s", name, directory, error)
                continue
            made.add_fallback(_EmptyCatalog())
            found.append(made)
    return tuple(found)


def iter_catalog_texts() -> Iterator[str]:
    """Yield every sentence of this program, in every language that it came with."""
    for language in list_languages():
        if _get_catalog_path(LOCALE_DIR, language).is_file():
            with _get_catalog_path(LOCALE_DIR, language).open("rb") as stream:
                known = gettext.GNUTranslations(stream)._catalog  # type: ignore[attr-defined]
            for key, value in known.items():
                yield (key[0] if isinstance(key, tuple) else key).rpartition("\x04")[2]
                yield str(value)


def get_plural_count(value: object) -> int:
    """Return the number that decides how a sentence counts a value; pure."""
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
    """Translate a template with its values, from the first catalogue that has it."""
    places = [place for place in PLACEHOLDER.findall(template) if place in values] if values else []
    for catalogue in catalogues:
        try:
            forms = [
                catalogue.npgettext(place, template, template, get_plural_count(values[place]))
                for place in places
            ]
            text = next(filter(None, forms), "") or catalogue.gettext(template)
        except ArithmeticError:  # a rule that divides by nothing
            continue
        if text:
            return text
    return None


def translate(
    template: str, language: str = DEFAULT_LANGUAGE, values: Mapping[str, object] | None = None
) -> str:
    """Return the template in a language, or unchanged where no catalogue has an entry.

    Args:
        template: In English, written for many.
        language: As :func:`list_languages` names it.
        values: Of its places, by which the form of a plural is chosen.
    """
    if not template or (language == DEFAULT_LANGUAGE and not values):
        return template
    directories = _list_locale_directories()
    known = _load_catalogs(language, directories)
    if language != DEFAULT_LANGUAGE:
        known += _load_catalogs(DEFAULT_LANGUAGE, directories)
    return _translate_with_plural(known, template, values or {}) or template


class LocalizedFigure(str):
    """A figure as English writes it, which knows how other languages do; as a value of a text."""

    __slots__ = ("forms",)

    forms: Mapping[str, str]

    def __new__(cls, english: str, /, **forms: str) -> LocalizedFigure:
        """Make one.

        Args:
            english: As English writes it.
            forms: As another language does, by its two letters.
        """
        made = super().__new__(cls, english)
        made.forms = forms
        return made

    def render(self, language: str) -> str:
        """Return it in a language, as English writes it where nothing else is known."""
        found = (self.forms[name] for name in list_catalog_names(language) if name in self.forms)
        return next(found, str(self))


@dataclass(frozen=True)
class LazyText:
    """A sentence for a person: a template in English with ``{name}`` places, and their values."""

    template: str
    values: Mapping[str, object] = field(default_factory=dict)

    def render(self, language: str = DEFAULT_LANGUAGE) -> str:
        """Return the sentence in a language; values that are a Text or a sentence of ours too.

        Never fails: a place without a value is shown as it stands in the template. A number in a
        place whose name ends in ``bytes`` is a size, and written as people read sizes. In a
        language that is written from right to left each value is isolated, so that a path, a
        version or a name stays whole, and turns nothing round.
        """
        turned = is_right_to_left(language)

        def fill(place: re.Match[str]) -> str:
            if place[1] not in self.values:
                return place[0]
            value = self.values[place[1]]
            if place[1].endswith("bytes") and type(value) is int:
                from ncen_updater.common.cli.render import format_bytes  # which needs this room

                value = format_bytes(value)
            text = _render_value(value, language)
            if not turned or isinstance(value, LazyText | StrEnum):
                return text
            return "\n".join(
                f"{FIRST_STRONG_ISOLATE}{part}{POP_ISOLATE}"
                for part in strip_control_characters(text).split("\n")
            )

        return PLACEHOLDER.sub(fill, translate(self.template, language, self.values))

    def __str__(self) -> str:
        return self.render()


def join_texts(texts: Iterable[LazyText | str], between: str = N_("; ")) -> LazyText:
    """Return several sentences as one; pure."""
    values = {f"text{number}": text for number, text in enumerate(texts)}
    template = "{between}".join(f"{{{name}}}" for name in values)
    return LazyText(
        template, {**values, "between": LazyText(between)} if len(values) > 1 else values
    )


def _render_value(value: object, language: str) -> str:
    if isinstance(value, LazyText | LocalizedFigure):
        return value.render(language)
    if isinstance(value, StrEnum):
        # Words of our own enumerations ("upgrade", "undone") are in the catalogues as they stand.
        return translate(value.value, language)
    try:
        text = str(value)
    except (ValueError, RecursionError):  # a number too long for Python to write, a list in itself
        return type(value).__name__
    # A reason may be a sentence of ours without places; a word alone is a name.
    return translate(text, language) if " " in text else text
