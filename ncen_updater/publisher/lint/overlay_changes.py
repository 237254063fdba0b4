"""Differences between two releases in what a local overlay replaces. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ncen_updater.formats.manifest import Manifest, OverlayKind, OverlayManifest
from ncen_updater.formats.texts.catalog import (
    TextCatalog,
    TextEntry,
    TextKey,
    UnusableFileError,
    format_key,
)
from ncen_updater.formats.texts.file_formats import read_catalog
from ncen_updater.formats.texts.overlay_files import list_overlay_files
from ncen_updater.formats.texts.placeholders import compare_placeholders

#: So much of one text or name is shown.
MAX_LINE_CHARS = 100
#: So many names are listed.
MOST = 5
Forms = tuple[str, ...]


@dataclass(frozen=True)
class OverlayChange:
    """One ``[[overlays]]`` against that of the release before, in the words that all are made for.

    Attributes:
        declared: What the release says of it.
        previous: What the release before said of it.
        after: Every key of the release, with its text or value.
        before: The same of the release before.
        renamed: Gone keys with the new key that says the same, and that nobody declared.
    """

    declared: OverlayManifest
    previous: OverlayManifest
    after: Mapping[TextKey, Forms]
    before: Mapping[TextKey, Forms]
    renamed: Mapping[TextKey, TextKey] = field(default_factory=dict)

    @property
    def added(self) -> tuple[TextKey, ...]:
        """Keys that are new, also by another name."""
        old = {format_key(key) for key in self.before}
        names = {new for was, new in self.declared.renamed.items() if was in old}
        return tuple(k for k in self.after if k not in self.before and format_key(k) not in names)

    @property
    def removed(self) -> tuple[TextKey, ...]:
        """Keys that are no longer there, under no name that is declared."""
        new = {format_key(key) for key in self.after}
        return tuple(
            key
            for key in self.before
            if key not in self.after and self.declared.renamed.get(format_key(key)) not in new
        )

    @property
    def changed(self) -> tuple[TextKey, ...]:
        """Keys whose text or value is another one."""
        return tuple(k for k in self.after if k in self.before and self.after[k] != self.before[k])

    @property
    def placeholders_changed(self) -> tuple[TextKey, ...]:
        """Keys of a text that has other places than before: no translation of before fits."""
        return tuple(
            k for k in self.changed if any(compare_placeholders(self.before[k], self.after[k]))
        )

    def format_keys(self, keys: Sequence[TextKey]) -> str:
        """Format keys for people: the first ones, and whether there are more."""
        return format_names([format_key(key) for key in keys])


def format_names(names: Sequence[str]) -> str:
    """List the first of some names, and that there are more."""
    return ", ".join([*map(format_line, names[:MOST]), *(["..."] if len(names) > MOST else [])])


def format_line(text: str, longest: int | None = MAX_LINE_CHARS) -> str:
    """One line of text for people, without what would write over what stands around it."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if longest is None or len(line) <= longest else f"{line[: longest - 3]}..."


def compare_overlays(
    manifest: Manifest,
    texts: Mapping[str, bytes],
    before: Manifest | None,
    texts_before: Mapping[str, bytes],
) -> Iterator[OverlayChange]:
    """Compare what both releases carry and can be read; the country's path says what is the same.

    Args:
        manifest: The release.
        texts: Its carried files, by path.
        before: The release before.
        texts_before: Its carried files.
    """
    old = {item.site_path: item for item in before.overlays} if before else {}
    for declared in manifest.overlays:
        then = old.get(declared.site_path)
        if then is None or then.kind is not declared.kind:
            continue
        after, was = list_source_forms(declared, texts), list_source_forms(then, texts_before)
        if after is not None and was is not None:
            found = OverlayChange(declared, then, after, was)
            yield OverlayChange(declared, then, after, was, _find_renamed_keys(found))


def _find_renamed_keys(change: OverlayChange) -> dict[TextKey, TextKey]:
    """Gone keys whose text stands under one new key alone."""
    if change.declared.kind is OverlayKind.SETTINGS:
        return {}  # many settings have the same value
    gone = {key: change.before[key] for key in change.removed if any(change.before[key])}
    added = {key: change.after[key] for key in change.added if any(change.after[key])}
    once = Counter(gone.values()), Counter(added.values())
    by_text = {forms: key for key, forms in added.items() if once[1][forms] == 1}
    return {
        key: by_text[forms]
        for key, forms in gone.items()
        if once[0][forms] == 1 and forms in by_text
    }


def read_shipped_catalog(declared: OverlayManifest, content: bytes | None) -> TextCatalog | None:
    """Read one file; None where it is not there or cannot be read: another rule says so."""
    try:
        return read_catalog(content, declared) if content is not None else None
    except UnusableFileError:
        return None


def list_source_forms(
    declared: OverlayManifest, texts: Mapping[str, bytes]
) -> dict[TextKey, Forms] | None:
    """Every key with the text that it is translated from, or its value; None where none is known.

    It is the template, else the file of the source language, else (gettext's files tell it beside)
    all languages together.
    """
    files = list_overlay_files([declared], texts)
    first = [file for file in files if file.language is None]
    first += [file for file in files if file.language == declared.source]
    chosen = first[:1] or (files if declared.kind is OverlayKind.TRANSLATIONS else [])
    found: dict[TextKey, Forms] = {}
    read = 0
    for file in chosen:
        catalogue = read_shipped_catalog(declared, texts[file.path])
        if catalogue is not None:
            read += 1
            for key, entry in catalogue.entries.items():
                found.setdefault(key, _get_forms(declared, entry, own=bool(first)))
    return found if read else None


def _get_forms(declared: OverlayManifest, entry: TextEntry, *, own: bool) -> Forms:
    if declared.kind is OverlayKind.SETTINGS:
        return () if entry.is_empty else (str(entry.value),)
    if own and not entry.is_empty:
        return entry.forms
    return tuple(form for form in (entry.source, entry.source_plural) if form is not None)
