"""Rules of ``lint`` for local overlays: their files, and changes since the previous release.

A country's texts never block an upgrade, so losses among them are warnings. A setting blocks it
only where the release demands a value. Files that no site could read forbid the release. A finding
names only a few keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ncen_updater.common import messages
from ncen_updater.common.findings import Finding
from ncen_updater.formats.manifest import (
    Manifest,
    OverlayFormat,
    OverlayKind,
    OverlayManifest,
    SettingRule,
)
from ncen_updater.formats.texts.catalog import (
    TextCatalog,
    TextEntry,
    TextKey,
    UnusableFileError,
    compare_placeholders,
    format_key,
    matches_pattern,
)
from ncen_updater.formats.texts.file_formats import read_catalog
from ncen_updater.formats.texts.overlay_files import (
    OverlayFile,
    describe_rule_violation,
    fill_language,
    list_overlay_files,
)
from ncen_updater.formats.tree import EntryType
from ncen_updater.publisher.lint.rules import LintedRelease, report

#: Maximum shown length of a text or name.
MAX_LINE_CHARS = 100
#: Maximum number of listed names.
MAX_LISTED_NAMES = 5
Forms = tuple[str, ...]
#: Warnings because of which sites cannot upgrade, or lose changes of a country.
SITE_BLOCKING_CODES = frozenset({"NU-7153", "NU-7157", "NU-7158"})
#: Warnings that signers must see; most releases have some.
COUNTRY_NOTICE_CODES = frozenset({"NU-7148", "NU-7149", "NU-7152", "NU-7155", "NU-7156"})


def _list_overlay_files(release: LintedRelease) -> list[OverlayFile]:
    return list_overlay_files(release.manifest.overlays, release.files)


def check_overlay_files(release: LintedRelease) -> Iterator[Finding]:
    """Check that declared overlay files exist and have the declared format."""
    links = {e.path for e in release.tree.entries if e.type is EntryType.SYMLINK}
    for declared in release.manifest.overlays:
        for path in _list_expected_paths(release, declared):
            if path in links:
                yield make_unreadable_finding(path, UnusableFileError("it is a link"))
            elif path not in release.files:
                yield report(messages.CARRIED_FILE_MISSING, path=path)
        if _lacks_source(release, declared):
            yield report(
                messages.SOURCE_TEXTS_MISSING, path=declared.release_path, language=declared.source
            )
    for file in _list_overlay_files(release):
        content = release.texts.get(file.path)
        try:
            if content is not None:
                read_catalog(content, file.declared)
        except UnusableFileError as error:
            yield make_unreadable_finding(file.path, error)


def _list_expected_paths(release: LintedRelease, declared: OverlayManifest) -> list[str]:
    if declared.kind is OverlayKind.SETTINGS:
        return [declared.release_path]
    if declared.template is not None:
        return [declared.template]
    # gettext files contain the source texts; other formats need the source language's file.
    value = declared.format is OverlayFormat.PO and list_overlay_files([declared], release.files)
    return [] if value else [fill_language(declared.release_path, declared.source)]


def _lacks_source(release: LintedRelease, declared: OverlayManifest) -> bool:
    return (
        declared.format is OverlayFormat.PO
        and declared.template is None
        and fill_language(declared.release_path, declared.source) not in release.files
        and bool(list_overlay_files([declared], release.files))
    )


def make_unreadable_finding(path: str, error: UnusableFileError) -> Finding:
    """Return the finding for an overlay file that does not have the declared format."""
    return report(
        messages.CARRIED_FILE_UNREADABLE,
        path=path if error.line is None else f"{path}:{error.line}",
        why=error.why,
    )


def check_placeholders(release: LintedRelease) -> Iterator[Finding]:
    """Check that the release's own translations have the placeholders of their source texts."""
    for file in _list_overlay_files(release):
        declared = file.declared
        if file.language is None or file.language == declared.source:
            continue
        own = read_shipped_catalog(declared, release.texts.get(file.path))
        sources = list_source_forms(declared, release.texts) or {}
        lacks: dict[str, None] = {}
        invents: dict[str, None] = {}
        for key, entry in (own.entries if own else {}).items():
            source = sources.get(key, ())
            if entry.is_empty or entry.fuzzy or not source or not entry.forms:
                continue
            missing, unknown = compare_placeholders(entry.forms, source, entry.formats)
            # A program replaces these; tags and access keys are not replaced.
            if any(place.startswith(("%", "{", "${")) for place in unknown):
                invents[format_key(key)] = None
            elif missing or unknown:
                lacks[format_key(key)] = None
        if invents:
            yield report(
                messages.PLACEHOLDERS_UNKNOWN, path=file.path, keys=format_names([*invents])
            )
        if lacks:
            yield report(messages.PLACEHOLDERS_MISSING, path=file.path, keys=format_names([*lacks]))


def check_settings(release: LintedRelease) -> Iterator[Finding]:
    """Check that settings satisfy their rules, and that the keys named by rules exist."""
    for declared in release.manifest.overlays:
        known = list_source_forms(declared, release.texts)
        if known is None:
            continue
        names = {format_key(key) for key in known}
        if declared.kind is OverlayKind.SETTINGS:
            values = (
                read_shipped_catalog(declared, release.texts.get(declared.release_path))
                or TextCatalog()
            )
            yield from _check_own_values(declared, values)
            named = [rule.key for rule in declared.rules]
            unmet = [n for n in named if n not in names and n not in declared.required]
        else:
            unmet = [
                a.keys for a in declared.areas if not any(matches_pattern(k, a.keys) for k in known)
            ]
        unmet += [new for new in declared.renamed.values() if new not in names]
        if unmet:
            yield report(
                messages.CARRIED_NAMES_UNKNOWN,
                names=format_names(unmet),
                path=declared.release_path,
            )


def _check_own_values(declared: OverlayManifest, values: TextCatalog) -> Iterator[Finding]:
    by_name = {format_key(key): entry for key, entry in values.entries.items()}
    for rule in declared.rules:
        entry = by_name.get(rule.key)
        wrong = (
            describe_rule_violation(rule, entry.value)
            if entry is not None and not entry.is_empty
            else ""
        )
        if wrong:
            yield report(
                messages.SETTING_BREAKS_RULE, path=declared.release_path, key=rule.key, rule=wrong
            )


def check_overlay_history(release: LintedRelease) -> Iterator[Finding]:
    """Check what sites would notice in overlays since the previous release."""
    before, texts_before = release.before, release.texts_before
    yield from _check_required_settings(release)
    if before is None:
        return
    now = {item.site_path: item for item in release.manifest.overlays}
    for then in before.overlays:
        declared = now.get(then.site_path)
        if declared is None:
            yield report(messages.CARRIED_DROPPED, overlay=then.site_path, last=before.version)
        elif _describe_format(then) != _describe_format(declared):
            yield report(
                messages.CARRIED_FORM_CHANGED,
                overlay=then.site_path,
                old=_describe_format(then),
                new=_describe_format(declared),
            )
    if texts_before is None:
        return
    yield from _check_languages(release, before, texts_before)
    for change in compare_overlays(release.manifest, release.texts, before, texts_before):
        if _describe_format(change.previous) == _describe_format(change.declared):
            settings = change.declared.kind is OverlayKind.SETTINGS
            found = _check_changed_settings if settings else _check_changed_texts
            yield from found(change, before.version)


def _describe_format(declared: OverlayManifest) -> str:
    return f"{declared.kind} ({declared.format}, {declared.encoding})"


def _check_required_settings(release: LintedRelease) -> Iterator[Finding]:
    """Check for settings that each site newly has to set before it can upgrade."""
    texts_before = release.texts_before
    old = {item.site_path: item for item in release.before.overlays} if release.before else {}
    for declared in release.manifest.overlays:
        values = list_source_forms(declared, release.texts)
        if values is None:
            continue
        filled = {format_key(key) for key, forms in values.items() if any(forms)}
        then = old.get(declared.site_path)
        was: set[str] = set()
        if then is not None and texts_before is not None:
            before = list_source_forms(then, texts_before) or {}
            was = set(then.required) - {
                format_key(key) for key, forms in before.items() if any(forms)
            }
        bare = [key for key in declared.required if key not in filled and key not in was]
        if bare:
            yield report(
                messages.SETTINGS_REQUIRED, keys=format_names(bare), overlay=declared.site_path
            )


def _check_languages(
    release: LintedRelease, last: Manifest, texts_before: Mapping[str, bytes]
) -> Iterator[Finding]:
    for then in last.overlays:
        declared = next(
            (d for d in release.manifest.overlays if d.site_path == then.site_path), None
        )
        if declared is None:
            continue
        old = {f.language for f in list_overlay_files([then], texts_before) if f.language}
        new = {f.language for f in list_overlay_files([declared], release.files) if f.language}
        if old - new:
            yield report(
                messages.LANGUAGES_DROPPED,
                path=declared.release_path,
                last=last.version,
                languages=format_names(sorted(old - new)),
                source=declared.source,
            )


def _check_changed_texts(change: OverlayChange, last: str) -> Iterator[Finding]:
    values: dict[str, object] = {"path": change.declared.release_path, "last": last}
    if change.added or change.changed or change.removed:
        yield report(
            messages.TEXTS_CHANGED,
            added=len(change.added),
            changed=len(change.changed),
            gone=len(change.removed),
            **values,
        )
    if change.placeholders_changed:
        yield report(
            messages.PLACEHOLDERS_CHANGED,
            keys=change.format_keys(change.placeholders_changed),
            **values,
        )
    if change.renamed:
        pairs = [f"{format_key(old)} -> {format_key(new)}" for old, new in change.renamed.items()]
        yield report(messages.KEYS_RENAMED, keys=format_names(pairs), **values)


def _check_changed_settings(change: OverlayChange, last: str) -> Iterator[Finding]:
    values: dict[str, object] = {"path": change.declared.release_path, "last": last}
    if change.removed:
        yield report(messages.SETTINGS_DROPPED, keys=change.format_keys(change.removed), **values)
    if change.changed:
        yield report(messages.SETTINGS_CHANGED, keys=change.format_keys(change.changed), **values)
    old = {format_key(key) for key in change.before}
    stricter = [
        rule.key
        for rule in change.declared.rules
        if rule.key in old and _is_stricter_rule(rule, change.previous)
    ]
    if stricter:
        yield report(messages.SETTING_RULES_STRICTER, keys=format_names(stricter), **values)


def _is_stricter_rule(rule: SettingRule, then: OverlayManifest) -> bool:
    """Return whether a rule may refuse values that the old rule accepted."""
    old = next((item for item in then.rules if item.key == rule.key), SettingRule(key=rule.key))
    if old == rule:
        return False
    kind = rule.type not in (old.type, "text") and (old.type, rule.type) != ("integer", "number")
    return (
        kind
        or (rule.least is not None and (old.least is None or rule.least > old.least))
        or (rule.most is not None and (old.most is None or rule.most < old.most))
        or (bool(rule.one_of) and (not old.one_of or not set(old.one_of) <= set(rule.one_of)))
    )


@dataclass(frozen=True)
class OverlayChange:
    """Changes of one ``[[overlays]]`` entry since the previous release, in source texts or values.

    Attributes:
        declared: The entry in the release.
        previous: The entry in the previous release.
        after: All keys of the release, with text or value.
        before: The same of the previous release.
        renamed: Removed keys with a new key of the same text, if the manifest does not declare it.
    """

    declared: OverlayManifest
    previous: OverlayManifest
    after: Mapping[TextKey, Forms]
    before: Mapping[TextKey, Forms]
    renamed: Mapping[TextKey, TextKey] = field(default_factory=dict)

    @property
    def added(self) -> tuple[TextKey, ...]:
        """Return the new keys, without declared renames."""
        old = {format_key(key) for key in self.before}
        names = {new for was, new in self.declared.renamed.items() if was in old}
        return tuple(k for k in self.after if k not in self.before and format_key(k) not in names)

    @property
    def removed(self) -> tuple[TextKey, ...]:
        """Return the removed keys, without declared renames."""
        new = {format_key(key) for key in self.after}
        return tuple(
            key
            for key in self.before
            if key not in self.after and self.declared.renamed.get(format_key(key)) not in new
        )

    @property
    def changed(self) -> tuple[TextKey, ...]:
        """Return the keys with another text or value."""
        return tuple(k for k in self.after if k in self.before and self.after[k] != self.before[k])

    @property
    def placeholders_changed(self) -> tuple[TextKey, ...]:
        """Return the keys whose text has other placeholders, so that no old translation fits."""
        return tuple(
            k for k in self.changed if any(compare_placeholders(self.before[k], self.after[k]))
        )

    def format_keys(self, keys: Sequence[TextKey]) -> str:
        """Format keys for display: the first ones, with an ellipsis if there are more."""
        return format_names([format_key(key) for key in keys])


def format_names(names: Sequence[str]) -> str:
    """Format the first names, with an ellipsis if there are more."""
    return ", ".join(
        [
            *map(format_line, names[:MAX_LISTED_NAMES]),
            *(["..."] if len(names) > MAX_LISTED_NAMES else []),
        ]
    )


def format_line(text: str, longest: int | None = MAX_LINE_CHARS) -> str:
    """Return a text as one line for display, without control characters."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if longest is None or len(line) <= longest else f"{line[: longest - 3]}..."


def compare_overlays(
    manifest: Manifest,
    texts: Mapping[str, bytes],
    before: Manifest | None,
    texts_before: Mapping[str, bytes],
) -> Iterator[OverlayChange]:
    """Yield the changes of overlays that both releases have; entries are matched by ``site_path``.

    Args:
        manifest: Manifest of the release.
        texts: Its overlay files, by path.
        before: Manifest of the previous release.
        texts_before: Its overlay files, by path.
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
    """Return removed keys whose text now has exactly one new key."""
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
    """Read one file; return None if it is missing or invalid, which another rule reports."""
    try:
        return read_catalog(content, declared) if content is not None else None
    except UnusableFileError:
        return None


def list_source_forms(
    declared: OverlayManifest, texts: Mapping[str, bytes]
) -> dict[TextKey, Forms] | None:
    """Return all keys with their source texts or values; None if there are none.

    The source is the template, else the file of the source language, else, for gettext, all
    languages together, since their files contain the source texts.
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
