"""Words for people: texts that are translated when they are shown, not when they are made.

An error or an event is kept as a template and its values, so that the journal of a site that works
in French can still be read by a Secretariat that works in English. Catalogues are gettext files
under ``locale/``; English is the template itself.
"""

from __future__ import annotations

import gettext
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

__all__ = ["DEFAULT_LANGUAGE", "N_", "Text", "language_from_environment", "translate"]

DEFAULT_LANGUAGE = "en"
DOMAIN = "ncen_updater"
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
        """Return the sentence in a language; values that are a Text or a word of ours too."""
        values = {key: _in_language(value, language) for key, value in self.values.items()}
        return translate(self.template, language).format_map(values)

    def __str__(self) -> str:
        return self.render()


def _in_language(value: object, language: str) -> object:
    if isinstance(value, Text):
        return value.render(language)
    # The words of our own enumerations ("upgrade", "undone") are in the catalogues as they stand.
    return translate(value.value, language) if isinstance(value, StrEnum) else value
