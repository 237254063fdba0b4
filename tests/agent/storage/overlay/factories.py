"""Files of texts and slots that carry them, for the tests of this room."""

from __future__ import annotations

from typing import Any

from ncen_updater.formats.manifest import OverlayFormat, OverlayManifest
from ncen_updater.formats.texts.catalog import TextCatalog, TextEntry, TextKey
from ncen_updater.formats.texts.overlay_files import ShippedTexts

TEXTS: dict[str, Any] = {
    "kind": "translations", "format": "json", "release_path": "app/i18n/{lang}.json",
    "site_path": "i18n/{lang}.json",
}  # fmt: skip


def declared(**more: Any) -> OverlayManifest:
    """A manifest's declaration; translations as JSON by default."""
    return OverlayManifest.model_validate({**TEXTS, **more})


def catalogue(form: OverlayFormat, **texts: object) -> TextCatalog:
    """A file with these texts; a pair is a plural. Keys are in the form's own way."""
    entries: dict[TextKey, TextEntry] = {}
    for name, value in texts.items():
        plural = tuple(value) if isinstance(value, tuple) else ()
        source = name if form is OverlayFormat.PO else None
        context = {OverlayFormat.PO: ("",), OverlayFormat.INI: ("all",)}.get(form, ())
        entries[*context, name] = TextEntry(plural[0] if plural else value, plural, source)
    return TextCatalog(entries)


def shipped(
    form: OverlayFormat, own: dict[str, object], source: dict[str, object] | None = None
) -> ShippedTexts:
    """What one release ships in a language, and in its source language."""
    return ShippedTexts(catalogue(form, **own), catalogue(form, **(source or {})))
