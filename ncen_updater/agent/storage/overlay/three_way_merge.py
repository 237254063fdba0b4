"""Three-way merge by key: the local text, the new release's text, and the installed release's text.

Pure. The slots are immutable and signed, so the text of the installed release is always available.
A merge never prompts, and translations never block it: each key has one outcome, which approvers
read before they approve. The merge is deterministic, so it is repeated during the downtime on the
files as they are then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ncen_updater.formats.manifest import OverlayFormat, OverlayManifest
from ncen_updater.formats.texts.catalog import (
    TextCatalog,
    TextEntry,
    TextKey,
    compare_placeholders,
    format_key,
)
from ncen_updater.formats.texts.overlay_files import ShippedTexts, describe_rule_violation


class KeyOutcome(StrEnum):
    """Outcome of one key."""

    UNCHANGED = "unchanged"  # local value used
    BOTH_CHANGED = "both-changed"  # local text used; the release changed its text, too
    OUTDATED = "outdated"  # local text used, although its source text changed
    REJECTED = "rejected"  # release's text used: the local one does not fit the placeholders
    REMOVED = "removed"  # in no file: the release no longer has this key
    NEW = "new"  # not translated yet
    COLLISION = "collision"  # release's value used: the local overlay had its own key of that name
    ADDED = "added"  # a local key that no release has
    DEFAULT_CHANGED = "default-changed"  # a local setting whose default changed
    MISSING = "missing"  # a required setting without a value
    INVALID = "invalid"  # a value that the release rejects


#: Outcomes with which the application uses the local text.
USED_OUTCOMES = frozenset(
    {KeyOutcome.UNCHANGED, KeyOutcome.BOTH_CHANGED, KeyOutcome.OUTDATED, KeyOutcome.ADDED}
)
#: Outcomes of settings with which the release cannot run.
BLOCKING_OUTCOMES = frozenset({KeyOutcome.MISSING, KeyOutcome.INVALID})


@dataclass(frozen=True)
class TextOrigin:
    """Source for which a local text was written.

    Attributes:
        digest: Digest of the local text.
        source: The source text at that time.
    """

    digest: str
    source: tuple[str, ...]


TextOrigins = Mapping[TextKey, TextOrigin]


@dataclass(frozen=True)
class KeyReport:
    """Outcome of one key, with details.

    Attributes:
        key: The key.
        outcome: Its outcome.
        missing_placeholders: Placeholders that the local text lacks.
        unknown_placeholders: Placeholders of the local text that the program does not fill.
        problem: Problem of a setting, without its value.
    """

    key: TextKey
    outcome: KeyOutcome
    missing_placeholders: tuple[str, ...] = ()
    unknown_placeholders: tuple[str, ...] = ()
    problem: str = ""

    @property
    def name(self) -> str:
        """Return the key in the form for messages."""
        return format_key(self.key)


@dataclass(frozen=True)
class MergeResult:
    """One merged file.

    Attributes:
        catalogue: The merged catalogue, which the application reads.
        keys: Every key with its outcome, in order.
        text_origins: Origins of the local texts, stored beside the file.
    """

    catalogue: TextCatalog
    keys: tuple[KeyReport, ...]
    text_origins: TextOrigins = field(default_factory=dict)

    def select(self, *outcomes: KeyOutcome) -> tuple[KeyReport, ...]:
        """Return the keys with one of the outcomes."""
        return tuple(item for item in self.keys if item.outcome in outcomes)


def _apply_renames(
    own: TextCatalog, names: Mapping[str, str], known: Iterable[TextKey]
) -> Iterator[tuple[TextKey, TextKey, TextEntry]]:
    """Yield the local entries: the present key, the previous key, and the text."""
    by_name = {format_key(key): key for key in known} if names else {}
    for key, entry in own.entries.items():
        yield by_name.get(names.get(format_key(key), ""), key), key, entry


@dataclass(frozen=True)
class _KeyIndex:
    """Index of the keys of the target release."""

    keys: Mapping[TextKey, None]
    parents: frozenset[TextKey]

    @classmethod
    def build(cls, keys: Mapping[TextKey, None]) -> _KeyIndex:
        return cls(keys, frozenset(key[:n] for key in keys for n in range(1, len(key))))

    def conflicts(self, key: TextKey) -> bool:
        """Tell whether a key would have to be both an object and a value."""
        return key in self.parents or any(key[:n] in self.keys for n in range(1, len(key)))


def merge_texts(
    declared: OverlayManifest,
    base: ShippedTexts | None,
    shipped: ShippedTexts,
    local: TextCatalog,
    text_origins: TextOrigins,
) -> MergeResult:
    """Merge the translations of one language.

    Args:
        declared: Declaration of the newer release.
        base: Texts of the installed release; None if there is none, then nothing counts as changed.
        shipped: Texts of the target release.
        local: The local texts; empty texts are ignored.
        text_origins: Origins of the local texts, as stored by the last merge.
    """
    before = base or shipped
    known, previous_keys = _KeyIndex.build(shipped.list_keys()), before.list_keys()
    reported: list[KeyReport] = []
    used: dict[TextKey, TextEntry] = {}
    origins: dict[TextKey, TextOrigin] = {}
    for key, previous_key, entry in _apply_renames(local, declared.renamed, known.keys):
        if entry.is_empty:
            continue
        origin = text_origins.get(key) or text_origins.get(previous_key)
        if origin is None or origin.digest != entry.digest:
            # The author saw the installed release; a text of gettext contains its source text.
            source = before.get_source_text(previous_key) if previous_key in previous_keys else ()
            origin = TextOrigin(entry.digest, source or _derive_source(declared, key))
        origins[key] = origin
        item = _judge_text(
            key,
            entry,
            origin,
            _PreviousText(before, previous_key) if previous_key in previous_keys else None,
            shipped,
            known,
        )
        reported.append(item)
        if item.outcome in USED_OUTCOMES:
            used[key] = entry
    merged: dict[TextKey, TextEntry] = {}
    for key in known.keys:
        entry_used = used.pop(key, None) or shipped.own.find_entry(key)
        if entry_used is not None:
            merged[key] = _update_source(entry_used, shipped, key)
        elif key not in previous_keys:
            reported.append(KeyReport(key, KeyOutcome.NEW))
    merged.update(used)
    header = shipped.own.header or local.header or shipped.source.header
    return MergeResult(TextCatalog(merged, header), tuple(reported), origins)


def _derive_source(declared: OverlayManifest, key: TextKey) -> tuple[str, ...]:
    return (key[-1],) if declared.format is OverlayFormat.PO else ()


def _read_forms(shipped: ShippedTexts, key: TextKey) -> tuple[str, ...]:
    entry = shipped.own.find_entry(key)
    return entry.forms if entry is not None else ()


@dataclass(frozen=True)
class _PreviousText:
    """One key of the installed release."""

    shipped: ShippedTexts
    key: TextKey


def _judge_text(
    key: TextKey,
    entry: TextEntry,
    origin: TextOrigin,
    before: _PreviousText | None,
    theirs: ShippedTexts,
    known: _KeyIndex,
) -> KeyReport:
    if key not in known.keys:
        if before is not None:
            return KeyReport(key, KeyOutcome.REMOVED)
        return KeyReport(key, KeyOutcome.COLLISION if known.conflicts(key) else KeyOutcome.ADDED)
    if before is None and not origin.source:
        return KeyReport(key, KeyOutcome.COLLISION)
    own, shipped = entry.forms, _read_forms(theirs, key)
    if not own:
        return KeyReport(key, KeyOutcome.REJECTED, problem="not a string")
    source = theirs.get_source_text(key) or shipped
    missing, unknown = (
        compare_placeholders(own, source, theirs.formats(key)) if source else ((), ())
    )
    if missing or unknown:
        return KeyReport(key, KeyOutcome.REJECTED, missing, unknown)
    if origin.source[:1] != source[:1] and origin.source and theirs.get_source_text(key):
        return KeyReport(key, KeyOutcome.OUTDATED)
    if before is not None and shipped and _read_forms(before.shipped, before.key) != shipped:
        return KeyReport(key, KeyOutcome.BOTH_CHANGED)
    return KeyReport(key, KeyOutcome.UNCHANGED)


def _update_source(entry: TextEntry, theirs: ShippedTexts, key: TextKey) -> TextEntry:
    """Update source text and plural of an entry to those of the release."""
    released = theirs.own.entries.get(key) or theirs.source.entries.get(key)
    if released is None:
        return entry
    return TextEntry(entry.value, entry.plural, released.source, released.source_plural)


def merge_settings(
    declared: OverlayManifest, base: ShippedTexts | None, theirs: ShippedTexts, own: TextCatalog
) -> MergeResult:
    """Merge settings: the local values replace the release's. No value is reported."""
    before = base or theirs
    reported: list[KeyReport] = []
    merged = dict(theirs.own.entries)
    known = _KeyIndex.build(dict.fromkeys(theirs.own))
    for key, previous_key, entry in _apply_renames(own, declared.renamed, known.keys):
        if key in theirs.own.entries:
            old, new = before.own.entries.get(previous_key), theirs.own.entries[key]
            if base is not None and old is None:
                outcome = KeyOutcome.COLLISION
            elif old is not None and not old.has_same_text(new):
                outcome = KeyOutcome.DEFAULT_CHANGED
            else:
                outcome = KeyOutcome.UNCHANGED
        elif key in before.own.entries:
            reported.append(KeyReport(key, KeyOutcome.REMOVED))
            continue
        elif known.conflicts(key):
            reported.append(KeyReport(key, KeyOutcome.REJECTED, problem="a table has this name"))
            continue
        else:
            outcome = KeyOutcome.ADDED
        # A local value is used even if the release now has a setting of that name.
        merged[key] = entry
        reported.append(KeyReport(key, outcome))
    reported += _check_settings(declared, merged)
    return MergeResult(TextCatalog(merged, theirs.own.header), tuple(reported))


def _check_settings(
    declared: OverlayManifest, merged: Mapping[TextKey, TextEntry]
) -> Iterable[KeyReport]:
    by_name = {format_key(key): (key, entry) for key, entry in merged.items()}
    for name in declared.required:
        if name not in by_name or by_name[name][1].is_empty:
            yield KeyReport(
                (name,) if name not in by_name else by_name[name][0], KeyOutcome.MISSING
            )
    for rule in declared.rules:
        setting = by_name.get(rule.key)
        if setting is not None and not setting[1].is_empty:
            problem = describe_rule_violation(rule, setting[1].value)
            if problem:
                yield KeyReport(setting[0], KeyOutcome.INVALID, problem=problem)
