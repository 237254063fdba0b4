"""Files of texts and slots that carry them, for the tests of this room."""

from __future__ import annotations

from typing import Any

from ncen_updater.formats.manifest import CarriedFormat, CarriedManifest
from ncen_updater.formats.texts.catalogue import Catalogue, Key, TextEntry
from ncen_updater.formats.texts.shipped import Shipped

TEXTS: dict[str, Any] = {
    "kind": "translations", "format": "json", "slot": "app/i18n/{lang}.json",
    "overlay": "i18n/{lang}.json",
}  # fmt: skip


def declared(**more: Any) -> CarriedManifest:
    """What a manifest says; translations as JSON unless said otherwise."""
    return CarriedManifest.model_validate({**TEXTS, **more})


def catalogue(form: CarriedFormat, **texts: object) -> Catalogue:
    """A file with these texts; a pair is a plural. Keys are in the form's own way."""
    entries: dict[Key, TextEntry] = {}
    for name, value in texts.items():
        plural = tuple(value) if isinstance(value, tuple) else ()
        source = name if form is CarriedFormat.PO else None
        context = {CarriedFormat.PO: ("",), CarriedFormat.INI: ("all",)}.get(form, ())
        entries[*context, name] = TextEntry(plural[0] if plural else value, plural, source)
    return Catalogue(entries)


def shipped(
    form: CarriedFormat, own: dict[str, object], source: dict[str, object] | None = None
) -> Shipped:
    """What one release ships in a language, and in its source language."""
    return Shipped(catalogue(form, **own), catalogue(form, **(source or {})))
