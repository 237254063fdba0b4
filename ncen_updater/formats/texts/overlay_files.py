"""Files of a release that its ``[[overlays]]`` select, and rules for settings. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ncen_updater.formats.manifest import (
    LANGUAGE_PATTERN,
    LANGUAGE_PLACEHOLDER,
    OverlayKind,
    OverlayManifest,
    SettingRule,
)
from ncen_updater.formats.texts.catalog import TextCatalog, TextKey

#: Maximum bytes of a translation or settings file.
MAX_OVERLAY_FILE_BYTES = 20_000_000


@dataclass(frozen=True)
class OverlayFile:
    """One file of a release that an ``[[overlays]]`` entry selects.

    Attributes:
        declared: The entry.
        path: Path of the file in the release.
        language: Language of the file; None for settings and for a template.
    """

    declared: OverlayManifest
    path: str
    language: str | None = None


def fill_language(path: str, language: str | None) -> str:
    """Replace ``{lang}`` in a path of the manifest."""
    return path if language is None else path.replace(LANGUAGE_PLACEHOLDER, language)


def list_overlay_files(
    overlays: Iterable[OverlayManifest], paths: Iterable[str]
) -> list[OverlayFile]:
    """Return the overlay files of a release, in the order of their ``[[overlays]]`` entries.

    Args:
        overlays: The entries of the manifest.
        paths: All paths of the release.
    """
    there = sorted(paths)
    return [found for declared in overlays for found in _match_files(declared, there)]


def _match_files(declared: OverlayManifest, paths: list[str]) -> Iterator[OverlayFile]:
    if declared.kind is OverlayKind.SETTINGS:
        if declared.release_path in paths:
            yield OverlayFile(declared, declared.release_path)
        return
    if declared.template is not None and declared.template in paths:
        yield OverlayFile(declared, declared.template)
    before, _, after = declared.release_path.partition(LANGUAGE_PLACEHOLDER)
    for path in paths:
        language = path[len(before) : len(path) - len(after)]
        if path == f"{before}{language}{after}" and re.fullmatch(LANGUAGE_PATTERN, language):
            yield OverlayFile(declared, path, language)


BOOLEANS = frozenset({"true", "false", "yes", "no", "1", "0"})


def describe_rule_violation(rule: SettingRule, value: object) -> str:
    """Return the rule that a value violates, without the value itself; empty if none."""
    number = _parse_number(rule, value)
    if rule.type in ("integer", "number") and number is None:
        return f"{rule.type}"
    if rule.type == "boolean" and str(value).lower() not in BOOLEANS:
        return "boolean"
    size = number if number is not None else float(len(str(value)))
    if rule.least is not None and size < rule.least:
        return f">= {rule.least:g}"
    if rule.most is not None and size > rule.most:
        return f"<= {rule.most:g}"
    if rule.one_of and str(value) not in rule.one_of:
        return " | ".join(rule.one_of)
    return ""


def _parse_number(rule: SettingRule, value: object) -> float | None:
    if rule.type not in ("integer", "number") or isinstance(value, bool):
        return None
    text = str(value)
    if "_" in text or not text.isascii():  # only Python reads these as numbers
        return None
    try:
        number = float(int(text) if rule.type == "integer" else text)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None  # no limit excludes NaN


@dataclass(frozen=True)
class ShippedTexts:
    """The texts or settings that a release ships for one ``[[overlays]]`` entry.

    Attributes:
        own: The texts in one language, or the settings.
        source: The texts in the source language.
    """

    own: TextCatalog = field(default_factory=TextCatalog)
    source: TextCatalog = field(default_factory=TextCatalog)

    def list_keys(self) -> dict[TextKey, None]:
        """Return all keys: in the order of ``own``, then further ones of ``source``."""
        return dict.fromkeys((*self.own, *self.source))

    def get_source_text(self, key: TextKey) -> tuple[str, ...]:
        """Return the source text of a key in its plural forms; empty if there is none."""
        entry = self.source.find_entry(key)
        if entry is not None:
            return entry.forms
        entry = self.source.entries.get(key) or self.own.entries.get(key)
        if entry is None or entry.source is None:
            return ()
        return tuple(form for form in (entry.source, entry.source_plural) if form is not None)

    def formats(self, key: TextKey) -> tuple[str, ...] | None:
        """Return gettext's ``*-format`` flags of a key; None in other formats."""
        entry = self.source.entries.get(key) or self.own.entries.get(key)
        return entry.formats if entry is not None else None


def collect_shipped_texts(
    declared: OverlayManifest, language: str | None, read: Callable[[str], TextCatalog]
) -> ShippedTexts:
    """Read the texts or settings that a release ships for one ``[[overlays]]`` entry.

    Args:
        declared: The entry.
        language: The language; None for settings.
        read: Reads one of the release's files by its path; returns an empty catalogue if absent.

    Raises:
        UnusableFileError: If a file cannot be parsed.
    """
    own = read(fill_language(declared.release_path, language))
    if declared.kind is OverlayKind.SETTINGS:
        return ShippedTexts(own)
    return ShippedTexts(
        own, read(declared.template or fill_language(declared.release_path, declared.source))
    )
