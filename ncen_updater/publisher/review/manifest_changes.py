"""The manifest of a release against that of the one before, field by field. Pure.

The fields are those of the model, so that none can be forgotten, and each that is not known to be
harmless is marked.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure
from ncen_updater.formats.manifest import Manifest
from ncen_updater.formats.sql import ENGINE_NAMES
from ncen_updater.publisher.review.statement_marks import find_marks
from ncen_updater.publisher.signing.value_format import join_texts

#: Of a list of more values than this those are told that differ.
MOST: Final = 20
#: What every release says again, or what is said elsewhere on the page.
_HARMLESS: Final = re.compile(
    r"schema|product|version|urgency|notes\.\w+\.\w+|databases\[\w+\]\.name"
    r"|databases\[\w+\]\.migrations\[\w+\]\.(?:id|up|down|verify|data_loss|irreversible)"
)
#: By these a site judges an upgrade, or no longer asks; a new probe makes it ask for something.
_GRAVE: Final = re.compile(
    r"(?:health|checks|reference_maps|compatibility|migrator|smoke)\b.*"
    r"|databases\[\w+\]\.(?:tables_without_records|self_managed)"
)
_SQL: Final = re.compile(r".*\.(?:sql|sql_after|unmapped|affected)", re.DOTALL)


@dataclass(frozen=True)
class FieldChange:
    """One value that is not as in the release before.

    Attributes:
        path: Where it stands: ``health[answers].path``.
        old: As it was; None if it was not there.
        new: As it is; None if it is gone.
    """

    path: str
    old: object = None
    new: object = None

    @property
    def item(self) -> str:
        """The part of the manifest that it belongs to, as far as it is told at once."""
        listed = re.match(r"(?:health|checks|reference_maps|files|overlays)\[.*\]", self.path)
        return listed[0] if listed else self.path

    @property
    def text(self) -> LazyText:
        """What became of it."""
        old, new = (
            LocalizedFigure(json.dumps(value, ensure_ascii=False)) for value in (self.old, self.new)
        )
        words = N_("changed: {path}: {old} to {new}")
        if self.old is None:
            words = N_("added: {path}: {new}")
        elif self.new is None:
            words = N_("removed: {path}: {old}")
        return LazyText(words, {"path": LocalizedFigure(self.path), "old": old, "new": new})


def manifest_changes(manifest: Manifest, before: Manifest | None) -> list[FieldChange]:
    """Return every value that differs, in the order of their places."""
    new, old = (
        dict(_values(one.model_dump(mode="json", by_alias=True, exclude_defaults=True), ""))
        if one is not None
        else {}
        for one in (manifest, before)
    )
    return [
        change
        for path in sorted(new.keys() | old.keys())
        if old.get(path) != new.get(path)
        for change in _changes(path, old.get(path), new.get(path))
    ]


def manifest_marks(changes: list[FieldChange]) -> Iterator[tuple[bool, LazyText]]:
    """Mark what is not known to be harmless: whether it is grave, and what differs."""
    differs = [change for change in changes if not _HARMLESS.fullmatch(change.path)]
    for item, group in itertools.groupby(differs, lambda change: change.item):
        of_item = list(group)
        new = all(change.old is None for change in of_item) and item.startswith(("ch", "ref"))
        value = join_texts([change.text for change in of_item[:MOST]])
        critical = _GRAVE.fullmatch(item) is not None and not new
        yield critical, LazyText(N_("WARNING: manifest: {changes}"), {"changes": value})
        for change in of_item:
            if _SQL.fullmatch(change.path) and isinstance(change.new, str):
                for mark in find_marks(change.new, ENGINE_NAMES, "verify"):
                    words = N_("WARNING: manifest, {path}, {kinds}: {statement}")
                    kinds = join_texts([LazyText(kind.value) for kind in mark.kinds])
                    path, statement = LocalizedFigure(change.path), LocalizedFigure(mark.text)
                    values = {"path": path, "kinds": kinds, "statement": statement}
                    yield True, LazyText(words, values)


def _values(value: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, inside in value.items():
            yield from _values(inside, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        names = list[str]()
        for number, item in enumerate(value):
            known = (item[key] for key in ("name", "id", "site_path", "key", "keys") if key in item)
            name = str(next(known, number))
            while name in names:  # one may be called "a (2)" so that the second "a" is not seen
                name += " (2)"
            names.append(name)
            yield from _values(item, f"{path}[{names[-1]}]")
        yield f"{path}[]", names
    else:
        yield path, value


def _changes(path: str, old: object, new: object) -> Iterator[FieldChange]:
    if not isinstance(old, list) or not isinstance(new, list):
        if not path.endswith("[]"):
            yield FieldChange(path, old, new)
        return
    one, other = (Counter(json.dumps(item) for item in side) for side in (old, new))
    if one == other or (len(old) + len(new) <= MOST and not path.endswith("[]")):
        yield FieldChange(path, old, new)
    elif not path.endswith("[]"):  # what is named there is told by itself
        yield from (FieldChange(path, None, json.loads(item)) for item in other - one)
        yield from (FieldChange(path, json.loads(item)) for item in one - other)
