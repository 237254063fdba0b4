"""Three ways, by key: what the country wrote, what the release ships, and what it shipped before.

Pure. The slots are immutable and signed, so what was shipped before is there for nothing. A merge
never asks and translations never stop it: each key has one outcome, which people read before they
agree. What comes out is the same wherever it is done, so it is done once more in the stop, on what
lies there then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ncen_updater.formats.manifest import CarriedFormat, CarriedManifest
from ncen_updater.formats.texts.catalogue import Catalogue, Key, TextEntry, shown
from ncen_updater.formats.texts.placeholders import misfit
from ncen_updater.formats.texts.rules import breach
from ncen_updater.formats.texts.shipped import Shipped


class KeyOutcome(StrEnum):
    """What became of one key."""

    KEPT = "kept"  # the country's own, nothing to say
    BOTH = "both"  # the country's own; the release words it anew too
    OUTDATED = "outdated"  # the country's own, made for a text that has changed
    REFUSED = "refused"  # the release's: the country's does not fit what the program fills in
    GONE = "gone"  # in no file: the release has no such key any more
    NEW = "new"  # nobody has translated it yet
    COLLISION = "collision"  # the release's: the country had a key of its own of that name
    ADDED = "added"  # a key of the country's own, which no release has
    DEFAULT_CHANGED = "default-changed"  # a setting of the country's whose default changed
    MISSING = "missing"  # a setting that must have a value
    INVALID = "invalid"  # a value that the release does not take


#: Texts of the country that the application reads.
USED = frozenset({KeyOutcome.KEPT, KeyOutcome.BOTH, KeyOutcome.OUTDATED, KeyOutcome.ADDED})
#: Settings that the release cannot run with.
BLOCKING = frozenset({KeyOutcome.MISSING, KeyOutcome.INVALID})


@dataclass(frozen=True)
class Made:
    """What one text of the country was written for.

    Attributes:
        digest: Of what the country wrote.
        source: The source text of then.
    """

    digest: str
    source: tuple[str, ...]


MadeFor = Mapping[Key, Made]


@dataclass(frozen=True)
class Told:
    """One key that people may want to know of.

    Attributes:
        key: Which.
        outcome: What became of it.
        own: What the country has; never told of a setting.
        theirs: What the release has; the same.
        before: The source text that the country's was made for, where it changed.
        missing: Placeholders that the country's lacks.
        unknown: Placeholders in the country's that nothing fills.
        why: What is wrong with a setting, without its value.
    """

    key: Key
    outcome: KeyOutcome
    own: tuple[str, ...] = ()
    theirs: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    why: str = ""

    @property
    def name(self) -> str:
        """The key for people."""
        return shown(self.key)


@dataclass(frozen=True)
class Merged:
    """One merged file.

    Attributes:
        catalogue: What the application reads.
        told: Every key with an outcome, in order.
        made_for: What the country's texts were made for, to be kept beside the file.
    """

    catalogue: Catalogue
    told: tuple[Told, ...]
    made_for: MadeFor = field(default_factory=dict)

    def of(self, *outcomes: KeyOutcome) -> tuple[Told, ...]:
        """The keys of some outcomes."""
        return tuple(item for item in self.told if item.outcome in outcomes)


def _renamed(
    own: Catalogue, names: Mapping[str, str], known: Iterable[Key]
) -> Iterator[tuple[Key, Key, TextEntry]]:
    """Yield the country's entries: the key of now, that of before, and what it says."""
    by_name = {shown(key): key for key in known} if names else {}
    for key, entry in own.entries.items():
        yield by_name.get(names.get(shown(key), ""), key), key, entry


@dataclass(frozen=True)
class _Known:
    """The keys of the release that is gone to."""

    keys: Mapping[Key, None]
    above: frozenset[Key]

    @classmethod
    def of(cls, keys: Mapping[Key, None]) -> _Known:
        return cls(keys, frozenset(key[:n] for key in keys for n in range(1, len(key))))

    def in_the_way(self, key: Key) -> bool:
        """Whether an object would have to be a value, or the other way round."""
        return key in self.above or any(key[:n] in self.keys for n in range(1, len(key)))


def merge_texts(
    declared: CarriedManifest,
    base: Shipped | None,
    theirs: Shipped,
    own: Catalogue,
    made_for: MadeFor,
) -> Merged:
    """Merge the translations of one language.

    Args:
        declared: What the newer release says of them.
        base: What the release shipped that is left; None where there is none, then nothing counts
            as changed.
        theirs: What the release ships that is gone to.
        own: What the country wrote; empty texts are none.
        made_for: What its texts were made for, as the last merge kept it.
    """
    before = base or theirs
    known, knew = _Known.of(theirs.keys()), before.keys()
    told: list[Told] = []
    used: dict[Key, TextEntry] = {}
    kept_for: dict[Key, Made] = {}
    for key, was, entry in _renamed(own, declared.renamed, known.keys):
        if entry.empty:
            continue
        made = made_for.get(key) or made_for.get(was)
        if made is None or made.digest != entry.digest:
            # Whoever wrote it saw the release that runs; gettext's texts say themselves for what.
            seen = before.text(was) if was in knew else ()
            made = Made(entry.digest, seen or _itself(declared, key))
        kept_for[key] = made
        item = _text(key, entry, made, _At(before, was) if was in knew else None, theirs, known)
        told.append(item)
        if item.outcome in USED:
            used[key] = entry
    merged: dict[Key, TextEntry] = {}
    for key in known.keys:
        found = used.pop(key, None) or theirs.own.get(key)
        if found is not None:
            merged[key] = _with_source(found, theirs, key)
        elif key not in knew:
            told.append(Told(key, KeyOutcome.NEW, theirs=theirs.text(key)))
    merged.update(used)
    header = theirs.own.header or own.header or theirs.source.header
    return Merged(Catalogue(merged, header), tuple(told), kept_for)


def _itself(declared: CarriedManifest, key: Key) -> tuple[str, ...]:
    return (key[-1],) if declared.format is CarriedFormat.PO else ()


def _forms(shipped: Shipped, key: Key) -> tuple[str, ...]:
    entry = shipped.own.get(key)
    return entry.forms if entry is not None else ()


@dataclass(frozen=True)
class _At:
    """One key of the release that is left."""

    shipped: Shipped
    key: Key


def _text(
    key: Key, entry: TextEntry, made: Made, before: _At | None, theirs: Shipped, known: _Known
) -> Told:
    own = entry.forms
    if key not in known.keys:
        if before is not None:
            return Told(key, KeyOutcome.GONE, own)
        return Told(key, KeyOutcome.COLLISION if known.in_the_way(key) else KeyOutcome.ADDED, own)
    if before is None and not made.source:
        return Told(key, KeyOutcome.COLLISION, own, _forms(theirs, key))
    source = theirs.text(key) or _forms(theirs, key)
    shipped = _forms(theirs, key)
    if not own:
        return Told(key, KeyOutcome.REFUSED, theirs=shipped, why="it is no text")
    missing, unknown = misfit(own, source, theirs.formats(key)) if source else ((), ())
    if missing or unknown:
        return Told(key, KeyOutcome.REFUSED, own, shipped, missing=missing, unknown=unknown)
    if made.source[:1] != source[:1] and made.source and theirs.text(key):
        return Told(key, KeyOutcome.OUTDATED, own, shipped, before=made.source)
    if before is not None and shipped and _forms(before.shipped, before.key) != shipped:
        return Told(key, KeyOutcome.BOTH, own, shipped)
    return Told(key, KeyOutcome.KEPT, own, shipped)


def _with_source(entry: TextEntry, theirs: Shipped, key: Key) -> TextEntry:
    """Write a text with the plural that the release has for it now."""
    there = theirs.own.entries.get(key) or theirs.source.entries.get(key)
    if there is None:
        return entry
    return TextEntry(entry.value, entry.plural, there.source, there.source_plural)


def merge_settings(
    declared: CarriedManifest, base: Shipped | None, theirs: Shipped, own: Catalogue
) -> Merged:
    """Merge settings: the release's, with the country's in their places. No value is told."""
    before = base or theirs
    told: list[Told] = []
    merged = dict(theirs.own.entries)
    known = _Known.of(dict.fromkeys(theirs.own))
    for key, was, entry in _renamed(own, declared.renamed, known.keys):
        if key in theirs.own.entries:
            old, new = before.own.entries.get(was), theirs.own.entries[key]
            if base is not None and old is None:
                outcome = KeyOutcome.COLLISION
            elif old is not None and not old.same(new):
                outcome = KeyOutcome.DEFAULT_CHANGED
            else:
                outcome = KeyOutcome.KEPT
        elif key in before.own.entries:
            told.append(Told(key, KeyOutcome.GONE))
            continue
        elif known.in_the_way(key):
            told.append(Told(key, KeyOutcome.REFUSED, why="a table stands in its place"))
            continue
        else:
            outcome = KeyOutcome.ADDED
        # A setting is what the country says, also where the release names one of that name now.
        merged[key] = entry
        told.append(Told(key, outcome))
    told += _judged(declared, merged)
    return Merged(Catalogue(merged, theirs.own.header), tuple(told))


def _judged(declared: CarriedManifest, merged: Mapping[Key, TextEntry]) -> Iterable[Told]:
    by_name = {shown(key): (key, entry) for key, entry in merged.items()}
    for name in declared.required:
        if name not in by_name or by_name[name][1].empty:
            yield Told((name,) if name not in by_name else by_name[name][0], KeyOutcome.MISSING)
    for rule in declared.rules:
        found = by_name.get(rule.key)
        if found is not None and not found[1].empty:
            why = breach(rule, found[1].value)
            if why:
                yield Told(found[0], KeyOutcome.INVALID, why=why)
