"""Texts and settings of a release against the one before, line by line, for who signs. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ncen_updater.common.i18n import N_, Figure, Text
from ncen_updater.formats.texts.catalogue import shown
from ncen_updater.publisher.lint.carried_changes import CarriedChange, carried_changes, printed
from ncen_updater.publisher.lint.release import path_words
from ncen_updater.publisher.review.evidence import Shown

__all__ = ["carried_lines", "quoted_forms"]

#: So many keys of one file are shown; the rest is counted.
MOST = 40


def carried_lines(release: Shown, last: Shown | None) -> Iterator[Text]:
    """Say each text or setting that is new, another one, or gone."""
    before = last.document.manifest if last else None
    if before is None:
        yield Text(N_("all of it is new, or there was nothing to compare it with"))
        return
    changes = carried_changes(
        release.document.manifest, release.texts, before, last.texts if last else {}
    )
    for change in changes:
        yield from _lines(change)


def _lines(change: CarriedChange) -> Iterator[Text]:
    sentences = (
        (change.changed, N_("changed: {path}: {key}, {old} becomes {new}")),
        (change.gone, N_("gone: {path}: {key}, {old}")),
        (change.added, N_("new: {path}: {key}, {new}")),
    )
    found = [(words, key) for keys, words in sentences for key in keys]
    path = path_words(change.declared.slot)
    for words, key in found[:MOST]:
        old, new = (quoted_forms(side.get(key, ())) for side in (change.before, change.after))
        yield Text(words, {"path": path, "key": printed(shown(key)), "old": old, "new": new})
    if len(found) > MOST:
        more = {"path": path, "more": len(found) - MOST}
        yield Text(N_("and further ones in {path}: {more}"), more)


def quoted_forms(forms: tuple[str, ...]) -> Figure:
    """Return a text in all its forms, between the quotes of the reader's language."""
    english, french = (
        " / ".join(f"{begin}{printed(form)}{end}" for form in forms) or "-"
        for begin, end in (("“", "”"), ("« ", " »"))
    )
    return Figure(english, fr=french)
