"""Coverage of a language by an application's texts, before and after a release. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ncen_updater.agent.storage.overlay.three_way_merge import KeyOutcome, MergeResult
from ncen_updater.formats.manifest import OverlayArea
from ncen_updater.formats.texts.catalog import TextCatalog, TextKey, matches_pattern
from ncen_updater.formats.texts.overlay_files import ShippedTexts


@dataclass(frozen=True)
class AreaCount:
    """New texts without a translation in one place.

    Attributes:
        label: Where people meet them.
        count: How many.
    """

    label: str
    count: int


@dataclass(frozen=True)
class TranslationCoverage:
    """Texts of one language.

    Attributes:
        language: Which.
        translated: So many have a translation, by the country or by the release,
        total: of so many.
        translated_before: The same with the release that is left.
        total_before: The same.
        new: New texts that nobody has translated yet.
        areas: Those of them in places that the release names.
    """

    language: str
    translated: int
    total: int
    translated_before: int
    total_before: int
    new: int
    areas: tuple[AreaCount, ...] = ()

    @property
    def percent(self) -> int:
        """How much is translated; 100 only where all is."""
        return _compute_percent(self.translated, self.total)

    @property
    def percent_before(self) -> int:
        """The same with the release that is left."""
        return _compute_percent(self.translated_before, self.total_before)


def _compute_percent(part: int, whole: int) -> int:
    return 100 if part >= whole else part * 100 // whole


def _count_translated(shipped: ShippedTexts, own: TextCatalog, keys: Sequence[TextKey]) -> int:
    return sum(1 for key in keys if own.find_entry(key) or shipped.own.find_entry(key))


def measure_coverage(
    language: str,
    areas: Sequence[OverlayArea],
    base: ShippedTexts | None,
    shipped: ShippedTexts,
    local: TextCatalog,
    merged: MergeResult,
) -> TranslationCoverage:
    """Count one language; texts of the country that cannot be used do not count.

    Where no release is left, nothing was otherwise before.
    """
    keys = tuple(shipped.list_keys())
    translated = sum(1 for key in keys if key in merged.catalogue.entries)
    old_keys = tuple(base.list_keys()) if base is not None else keys
    new = [item.key for item in merged.select(KeyOutcome.NEW)]
    counted = [AreaCount(a.label, sum(matches_pattern(key, a.keys) for key in new)) for a in areas]
    return TranslationCoverage(
        language,
        translated,
        len(keys),
        _count_translated(base, local, old_keys) if base is not None else translated,
        len(old_keys),
        len(new),
        tuple(item for item in counted if item.count),
    )
