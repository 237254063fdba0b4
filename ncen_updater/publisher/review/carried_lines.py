"""Texts and settings of a release against the one before, line by line, for who signs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ncen_updater.common.i18n import N_, Figure, Text
from ncen_updater.formats.texts.carried_files import carried_files
from ncen_updater.formats.texts.catalogue import TextEntry, shown
from ncen_updater.publisher.lint.carried_changes import printed, shipped_texts
from ncen_updater.publisher.review.evidence import Shown

Forms = tuple[str, ...]


def carried_lines(release: Shown, last: Shown | None) -> Iterator[Text]:
    """Say each text or setting that is new, another one, or gone, in every language."""
    after, before = (_texts(one) if one is not None else {} for one in (release, last))
    for path in sorted(after.keys() | before.keys()):
        now, then = after.get(path, {}), before.get(path, {})
        for key in dict.fromkeys((*now, *then)):
            if now.get(key) != then.get(key):
                old, new = (quoted_forms(side.get(key, ())) for side in (then, now))
                values = {"path": path, "key": printed(key, None), "old": old, "new": new}
                yield Text(_difference(key in then, key in now), values)


def _difference(before: bool, after: bool) -> str:
    """Return the sentence for what was, or is, there."""
    if not before:
        return N_("new: {path}: {key}, {new}")
    if not after:
        return N_("gone: {path}: {key}, {old}")
    return N_("changed: {path}: {key}, {old} becomes {new}")


def _texts(release: Shown) -> dict[str, Mapping[str, Forms]]:
    found: dict[str, Mapping[str, Forms]] = {}
    for file in carried_files(release.document.manifest.carried, release.texts):
        catalogue = shipped_texts(file.declared, release.texts[file.path])
        if catalogue is not None:
            entries = {shown(key): _forms(entry) for key, entry in catalogue.entries.items()}
            header = {name: (value,) for name, value in catalogue.header.items()}
            found[file.path] = header | entries
    return found


def _forms(entry: TextEntry) -> Forms:
    if entry.empty:
        return tuple(form for form in (entry.source, entry.source_plural) if form is not None)
    return entry.plural or (str(entry.value),)


def quoted_forms(forms: tuple[str, ...]) -> Figure:
    """Return a text in all its forms, between the quotes of the reader's language."""
    english, french = (
        " / ".join(f"{begin}{printed(form, None)}{end}" for form in forms) or "-"
        for begin, end in (("“", "”"), ("« ", " »"))
    )
    return Figure(english, fr=french)
