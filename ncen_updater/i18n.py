"""Words for people: texts that are translated when they are shown, not when they are made.

An error or an event is kept as a template and its values, so that the journal of a site that works
in French can still be read by a Secretariat that works in English. Catalogues are gettext files
under ``locale/``; English is the template itself.
"""

from __future__ import annotations

import gettext
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

__all__ = ["DEFAULT_LANGUAGE", "N_", "Text", "language_from_environment", "translate"]

DEFAULT_LANGUAGE = "en"
DOMAIN = "ncen_updater"
# Names alone: a template of another process, or one that a translator broke, reaches no attribute
# and sets no width.
PLACE = re.compile(r"\{([A-Za-z_]\w*)\}")
LOCALE_DIR = Path(__file__).parent / "locale"


def N_(template: str) -> str:  # noqa: N802 - the gettext name, which its tools look for
    """Mark a template for the catalogues and return it unchanged."""
    return template


@lru_cache(maxsize=8)
def _catalogue(language: str) -> gettext.NullTranslations:
    return gettext.translation(DOMAIN, LOCALE_DIR, [language], fallback=True)


def translate(template: str, language: str = DEFAULT_LANGUAGE) -> str:
    """Return the template in a language, or unchanged where the catalogue has no entry."""
    if language == DEFAULT_LANGUAGE or not template:
        return template
    return _catalogue(language).gettext(template)


def language_from_environment(environment: Mapping[str, str] | None = None) -> str:
    """Return the two-letter language that the locale variables ask for, English if none is known.

    Args:
        environment: Variables to read; the process's own by default.
    """
    env = os.environ if environment is None else environment
    for variable in ("NCEN_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = env.get(variable, "").split(".")[0].split("_")[0].lower()
        if value and value not in ("c", "posix"):
            known = value == DEFAULT_LANGUAGE or (LOCALE_DIR / value).is_dir()
            return value if known else DEFAULT_LANGUAGE
    return DEFAULT_LANGUAGE


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
    if isinstance(value, Text):
        return value.render(language)
    if isinstance(value, StrEnum):
        # Words of our own enumerations ("upgrade", "undone") are in the catalogues as they stand.
        return translate(value.value, language)
    try:
        return str(value)
    except (ValueError, RecursionError):  # a number too long for Python to write, a list in itself
        return type(value).__name__
