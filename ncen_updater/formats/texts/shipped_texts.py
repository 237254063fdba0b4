"""What a release ships in one language, and the texts that it translates. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ncen_updater.formats.manifest import OverlayKind, OverlayManifest
from ncen_updater.formats.texts.catalog import TextCatalog, TextKey
from ncen_updater.formats.texts.overlay_files import fill_language


@dataclass(frozen=True)
class ShippedTexts:
    """What one release ships.

    Attributes:
        own: Its file in this language, or its settings.
        source: Its texts in the language that all are written in first.
    """

    own: TextCatalog = field(default_factory=TextCatalog)
    source: TextCatalog = field(default_factory=TextCatalog)

    def list_keys(self) -> dict[TextKey, None]:
        """Every key that it knows, in the order of its own file, then of the source."""
        return dict.fromkeys((*self.own, *self.source))

    def get_source_text(self, key: TextKey) -> tuple[str, ...]:
        """Return the source text of a key in its forms; empty where the release has none."""
        entry = self.source.find_entry(key)
        if entry is not None:
            return entry.forms
        entry = self.source.entries.get(key) or self.own.entries.get(key)
        if entry is None or entry.source is None:
            return ()
        return tuple(form for form in (entry.source, entry.source_plural) if form is not None)

    def formats(self, key: TextKey) -> tuple[str, ...] | None:
        """Return the flags of a key that say what a program fills in."""
        entry = self.source.entries.get(key) or self.own.entries.get(key)
        return entry.formats if entry is not None else None


def collect_shipped_texts(
    declared: OverlayManifest, language: str | None, read: Callable[[str], TextCatalog]
) -> ShippedTexts:
    """Gather what a release ships.

    Args:
        declared: What it says of it.
        language: Which; None for settings.
        read: Reads one of its files by its path; an empty catalogue where there is none.

    Raises:
        UnusableFileError: If a file cannot be read.
    """
    own = read(fill_language(declared.release_path, language))
    if declared.kind is OverlayKind.SETTINGS:
        return ShippedTexts(own)
    return ShippedTexts(
        own, read(declared.template or fill_language(declared.release_path, declared.source))
    )
