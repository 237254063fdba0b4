"""What a release has otherwise than the one before, of what countries word and set anew. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ncen_updater.formats.manifest import CarriedKind, CarriedManifest, Manifest
from ncen_updater.formats.texts.carried_files import carried_files
from ncen_updater.formats.texts.catalogue import Catalogue, Key, TextEntry, Unusable, shown
from ncen_updater.formats.texts.placeholders import misfit
from ncen_updater.formats.texts.readers import read_texts

#: So much of one text or name is shown.
LONGEST = 100
#: So many names are listed.
MOST = 5
Forms = tuple[str, ...]


@dataclass(frozen=True)
class CarriedChange:
    """One ``[[carried]]`` against that of the release before, in the words that all are made for.

    Attributes:
        declared: What the release says of it.
        then: What the release before said of it.
        after: Every key of the release, with its text or value.
        before: The same of the release before.
        renamed: Gone keys with the new key that says the same, and that nobody declared.
    """

    declared: CarriedManifest
    then: CarriedManifest
    after: Mapping[Key, Forms]
    before: Mapping[Key, Forms]
    renamed: Mapping[Key, Key] = field(default_factory=dict)

    @property
    def added(self) -> tuple[Key, ...]:
        """Keys that are new, also by another name."""
        old = {shown(key) for key in self.before}
        names = {new for was, new in self.declared.renamed.items() if was in old}
        return tuple(k for k in self.after if k not in self.before and shown(k) not in names)

    @property
    def gone(self) -> tuple[Key, ...]:
        """Keys that are no longer there, under no name that is declared."""
        new = {shown(key) for key in self.after}
        return tuple(
            key
            for key in self.before
            if key not in self.after and self.declared.renamed.get(shown(key)) not in new
        )

    @property
    def changed(self) -> tuple[Key, ...]:
        """Keys whose text or value is another one."""
        return tuple(k for k in self.after if k in self.before and self.after[k] != self.before[k])

    @property
    def refitted(self) -> tuple[Key, ...]:
        """Keys of a text that has other places than before: no translation of before fits."""
        return tuple(k for k in self.changed if any(misfit(self.before[k], self.after[k])))

    def named(self, keys: Sequence[Key]) -> str:
        """Some keys for people: the first of them, and that there are more."""
        return some([shown(key) for key in keys])


def some(names: Sequence[str]) -> str:
    """List the first of some names, and that there are more."""
    return ", ".join([*map(printed, names[:MOST]), *(["..."] if len(names) > MOST else [])])


def printed(text: str, longest: int | None = LONGEST) -> str:
    """One line of text for people, without what would write over what stands around it."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if longest is None or len(line) <= longest else f"{line[: longest - 3]}..."


def carried_changes(
    manifest: Manifest,
    texts: Mapping[str, bytes],
    before: Manifest | None,
    texts_before: Mapping[str, bytes],
) -> Iterator[CarriedChange]:
    """Compare what both releases carry and can be read; the country's path says what is the same.

    Args:
        manifest: The release.
        texts: Its carried files, by path.
        before: The release before.
        texts_before: Its carried files.
    """
    old = {item.overlay: item for item in before.carried} if before else {}
    for declared in manifest.carried:
        then = old.get(declared.overlay)
        if then is None or then.kind is not declared.kind:
            continue
        after, was = source_forms(declared, texts), source_forms(then, texts_before)
        if after is not None and was is not None:
            found = CarriedChange(declared, then, after, was)
            yield CarriedChange(declared, then, after, was, _renamed(found))


def _renamed(change: CarriedChange) -> dict[Key, Key]:
    """Gone keys whose text stands under one new key alone."""
    if change.declared.kind is CarriedKind.SETTINGS:
        return {}  # many settings have the same value
    gone = {key: change.before[key] for key in change.gone if any(change.before[key])}
    added = {key: change.after[key] for key in change.added if any(change.after[key])}
    once = Counter(gone.values()), Counter(added.values())
    by_text = {forms: key for key, forms in added.items() if once[1][forms] == 1}
    return {
        key: by_text[forms]
        for key, forms in gone.items()
        if once[0][forms] == 1 and forms in by_text
    }


def shipped_texts(declared: CarriedManifest, content: bytes | None) -> Catalogue | None:
    """Read one file; None where it is not there or cannot be read: another rule says so."""
    try:
        return read_texts(content, declared) if content is not None else None
    except Unusable:
        return None


def source_forms(declared: CarriedManifest, texts: Mapping[str, bytes]) -> dict[Key, Forms] | None:
    """Every key with the text that it is translated from, or its value; None where none is known.

    It is the template, else the file of the source language, else (gettext's files tell it beside)
    all languages together.
    """
    files = carried_files([declared], texts)
    first = [file for file in files if file.language is None]
    first += [file for file in files if file.language == declared.source]
    chosen = first[:1] or (files if declared.kind is CarriedKind.TRANSLATIONS else [])
    found: dict[Key, Forms] = {}
    read = 0
    for file in chosen:
        catalogue = shipped_texts(declared, texts[file.path])
        if catalogue is not None:
            read += 1
            for key, entry in catalogue.entries.items():
                found.setdefault(key, _forms(declared, entry, own=bool(first)))
    return found if read else None


def _forms(declared: CarriedManifest, entry: TextEntry, *, own: bool) -> Forms:
    if declared.kind is CarriedKind.SETTINGS:
        return () if entry.empty else (str(entry.value),)
    if own and not entry.empty:
        return entry.forms
    return tuple(form for form in (entry.source, entry.source_plural) if form is not None)
