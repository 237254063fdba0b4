"""What a release ships in one language, and the texts that it translates. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ncen_updater.formats.manifest import CarriedKind, CarriedManifest
from ncen_updater.formats.texts.carried_files import rendered
from ncen_updater.formats.texts.catalogue import Catalogue, Key


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
