"""What a release ships in one language, and what a signed language adds to it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ncen_updater.formats.language import LanguageFile, LanguageText
from ncen_updater.formats.manifest import CarriedFormat, CarriedKind, CarriedManifest
from ncen_updater.formats.texts.carried_files import rendered
from ncen_updater.formats.texts.catalogue import Catalogue, Key, TextEntry
from ncen_updater.formats.texts.placeholders import misfit


@dataclass(frozen=True)
class Shipped:
    """What one release ships.

    Attributes:
        own: Its file in this language, or its settings.
        source: Its texts in the language that all are written in first.
    """

    own: Catalogue = field(default_factory=Catalogue)
    source: Catalogue = field(default_factory=Catalogue)

    def keys(self) -> dict[Key, None]:
        """Every key that it knows, in the order of its own file, then of the source."""
        return dict.fromkeys((*self.own, *self.source))

    def text(self, key: Key) -> tuple[str, ...]:
        """The source text of a key in its forms; empty where the release has none."""
        entry = self.source.get(key)
        if entry is not None:
            return entry.forms
        entry = self.source.entries.get(key) or self.own.entries.get(key)
        if entry is None or entry.source is None:
            return ()
        return tuple(form for form in (entry.source, entry.source_plural) if form is not None)

    def formats(self, key: Key) -> tuple[str, ...] | None:
        """The flags of a key that say what a program fills in."""
        entry = self.source.entries.get(key) or self.own.entries.get(key)
        return entry.formats if entry is not None else None


def shipped_of(
    declared: CarriedManifest, language: str | None, read: Callable[[str], Catalogue]
) -> Shipped:
    """Gather what a release ships.

    Args:
        declared: What it says of it.
        language: Which; None for settings.
        read: Reads one of its files by its path; an empty catalogue where there is none.

    Raises:
        Unusable: If a file cannot be read.
    """
    own = read(rendered(declared.slot, language))
    if declared.kind is CarriedKind.SETTINGS:
        return Shipped(own)
    return Shipped(own, read(declared.template or rendered(declared.slot, declared.source)))


@dataclass(frozen=True)
class LaidOver:
    """What a release ships with a signed language in it.

    Attributes:
        shipped: As if the release had shipped it.
        used: Keys whose text is used.
        other: Keys of which the release has another text now, or none.
        unfit: Keys whose text lacks what the program fills in, or has what nothing fills.
    """

    shipped: Shipped
    used: tuple[Key, ...] = ()
    other: tuple[Key, ...] = ()
    unfit: tuple[Key, ...] = ()


def lay_over(declared: CarriedManifest, shipped: Shipped, signed: LanguageFile | None) -> LaidOver:
    """Put a signed language in the place of what a release ships, text by text.

    A text is used where the release has the very text that it translates, so a language that was
    made for an earlier release says nothing wrong in a later one.
    """
    if signed is None:
        return LaidOver(shipped)
    known = shipped.keys()
    entries = dict(shipped.own.entries)
    used, other, unfit = [], [], []
    for text in signed.texts:
        if text.key not in known or shipped.text(text.key) != text.source:
            other.append(text.key)
        elif any(misfit(text.text, text.source, shipped.formats(text.key))):
            unfit.append(text.key)
        else:
            entries[text.key] = _entry(declared, text)
            used.append(text.key)
    header = shipped.own.header
    if declared.format is CarriedFormat.PO and signed.plural:
        header = {**header, "Plural-Forms": signed.plural}
    laid = Shipped(Catalogue(entries, header), shipped.source)
    return LaidOver(laid, tuple(used), tuple(other), tuple(unfit))


def _entry(declared: CarriedManifest, text: LanguageText) -> TextEntry:
    counts = len(text.source) > 1 or len(text.text) > 1
    plural = text.text if counts else ()
    if declared.format is not CarriedFormat.PO:
        return TextEntry(text.text[0], plural)
    second = text.source[1] if len(text.source) > 1 else None
    return TextEntry(text.text[0], plural, text.source[0], second)
