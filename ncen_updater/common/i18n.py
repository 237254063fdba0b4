"""Words for people: texts that are translated when they are shown, not when they are made.

An error or an event is kept as a template and its values, so that the journal of a site that works
in French can still be read by a Secretariat that works in English. Catalogues are gettext files
under ``locale/``, and in a directory of the site's own, which comes first; English is the template
itself, and stands in for every sentence that a catalogue does not have.
"""

from __future__ import annotations

import gettext
import logging
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

__all__ = [
    "DEFAULT_LANGUAGE",
    "N_",
    "Figure",
    "Text",
    "catalogue_texts",
    "language_from_environment",
    "languages",
    "translate",
]

logger = logging.getLogger(__name__)

DEFAULT_LANGUAGE = "en"
DOMAIN = "ncen_updater"
# Names alone: a template of another process, or one that a translator broke, reaches no attribute
# and sets no width.
PLACE = re.compile(r"\{([A-Za-z_]\w*)\}")
LOCALE_DIR = Path(__file__).parents[1] / "locale"
#: Catalogues of the site's own; ``NCEN_LOCALE_DIR`` names another place.
SITE_LOCALE_DIR = "/etc/ncen-updater/locale"
LANGUAGE = re.compile(r"[a-z]{2,3}")


def N_(template: str) -> str:  # noqa: N802 - the gettext name, which its tools look for
    """Mark a template for the catalogues and return it unchanged."""
    return template


def _directories() -> tuple[Path, ...]:
    return Path(os.environ.get("NCEN_LOCALE_DIR") or SITE_LOCALE_DIR), LOCALE_DIR


def _file(directory: Path, language: str) -> Path:
    return directory / language / "LC_MESSAGES" / f"{DOMAIN}.mo"


def languages() -> tuple[str, ...]:
    """Return the languages of which there is a catalogue, English first."""
    found = set()
    for directory in _directories():
        try:
            names = os.listdir(directory)  # noqa: PTH208 - names are all that is needed
        except OSError:
            continue
        found |= {n for n in names if LANGUAGE.fullmatch(n) and _file(directory, n).is_file()}
    return (DEFAULT_LANGUAGE, *sorted(found - {DEFAULT_LANGUAGE}))


@lru_cache(maxsize=16)
def _catalogue(language: str, directories: tuple[Path, ...]) -> gettext.NullTranslations:
    """Every catalogue of a language: what the first does not have, the next one may."""
    whole = gettext.NullTranslations()
    for directory in reversed(directories):
        try:
            with _file(directory, language).open("rb") as stream:
                made = gettext.GNUTranslations(stream)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, struct.error, LookupError, RuntimeError) as error:
            logger.warning("the catalogue %s in %s is left out: %s", language, directory, error)
            continue
        made.add_fallback(whole)
        whole = made
    return whole


def catalogue_texts() -> Iterator[str]:
    """Yield every sentence of this program, in every language that it came with."""
    for language in languages():
        if _file(LOCALE_DIR, language).is_file():
            with _file(LOCALE_DIR, language).open("rb") as stream:
                known = gettext.GNUTranslations(stream)._catalog  # type: ignore[attr-defined]
            for template, said in known.items():
                yield str(template)
                yield str(said)


def translate(template: str, language: str = DEFAULT_LANGUAGE) -> str:
    """Return the template in a language, or unchanged where the catalogue has no entry."""
    if language == DEFAULT_LANGUAGE or not template:
        return template
    return _catalogue(language, _directories()).gettext(template)


def language_from_environment(environment: Mapping[str, str] | None = None) -> str:
    """Return the language that the locale variables ask for, English if none is known.

    Args:
        environment: Variables to read; the process's own by default.
    """
    env = os.environ if environment is None else environment
    for variable in ("NCEN_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = env.get(variable, "").split(".")[0].split("_")[0].lower()
        if value and value not in ("c", "posix"):
            return value if value in languages() else DEFAULT_LANGUAGE
    return DEFAULT_LANGUAGE


class Figure(str):
    """A figure as English writes it, which knows how other languages do; as a value of a text."""

    __slots__ = ("forms",)

    forms: Mapping[str, str]

    def __new__(cls, english: str, /, **forms: str) -> Figure:
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
        return self.forms.get(language, str(self))


@dataclass(frozen=True)
class Text:
    """A sentence for a person: a template in English with ``{name}`` places, and their values."""

    template: str
    values: Mapping[str, object] = field(default_factory=dict)

    def render(self, language: str = DEFAULT_LANGUAGE) -> str:
        """Return the sentence in a language; values that are a Text or a word of ours too.

        Never fails: a place without a value is shown as it stands in the template.
        """

        def fill(place: re.Match[str]) -> str:
            if place[1] not in self.values:
                return place[0]
            return _shown(self.values[place[1]], language)

        return PLACE.sub(fill, translate(self.template, language))

    def __str__(self) -> str:
        return self.render()


def _shown(value: object, language: str) -> str:
    if isinstance(value, Text | Figure):
        return value.render(language)
    if isinstance(value, StrEnum):
        # Words of our own enumerations ("upgrade", "undone") are in the catalogues as they stand.
        return translate(value.value, language)
    try:
        return str(value)
    except (ValueError, RecursionError):  # a number too long for Python to write, a list in itself
        return type(value).__name__
