"""Rules of ``lint`` about what countries word and set anew: its files, and what sites meet in it.

A country's texts never bar an upgrade, so what they lose is advised. A setting bars it where the
release says so, and a file that no site can read would be shown to officers: these forbid it, or
are said as what they are. No more than a few keys are named in a line.
"""

from __future__ import annotations

from collections.abc import Iterator

from ncen_updater.common.findings import Finding
from ncen_updater.formats.manifest import (
    CarriedFormat,
    CarriedKind,
    CarriedManifest,
    SettingRule,
)
from ncen_updater.formats.texts.carried_files import CarriedFile, carried_files, rendered
from ncen_updater.formats.texts.catalogue import Catalogue, Unusable, matches, shown
from ncen_updater.formats.texts.placeholders import misfit
from ncen_updater.formats.texts.readers import read_texts
from ncen_updater.formats.texts.rules import breach
from ncen_updater.formats.tree import EntryType
from ncen_updater.publisher.lint import rules
from ncen_updater.publisher.lint.carried_changes import (
    CarriedChange,
    carried_changes,
    shipped_texts,
    some,
    source_forms,
)
from ncen_updater.publisher.lint.release import LintedRelease

#: Findings that do not forbid a release, and bar its way at sites or end what a country did.
BARS_SITES = frozenset({"NU-7153", "NU-7157", "NU-7158"})
#: Findings that every officer should have seen, as most releases have some.
TOUCHES_COUNTRIES = frozenset({"NU-7148", "NU-7149", "NU-7152", "NU-7155", "NU-7156"})


def _files(release: LintedRelease) -> list[CarriedFile]:
    return carried_files(release.manifest.carried, release.files)


def carried_there(release: LintedRelease) -> Iterator[Finding]:
    """What is declared is there, and can be read as what it is declared to be."""
    links = {e.path for e in release.tree.entries if e.type is EntryType.SYMLINK}
    for declared in release.manifest.carried:
        for path in _wanted(release, declared):
            if path in links:
                yield unreadable(path, Unusable("it is a link"))
            elif path not in release.files:
                yield rules.CARRIED_FILE_MISSING.report(path=path)
        if _has_no_source(release, declared):
            yield rules.SOURCE_TEXTS_MISSING.report(path=declared.slot, language=declared.source)
    for file in _files(release):
        content = release.texts.get(file.path)
        try:
            if content is not None:
                read_texts(content, file.declared)
        except Unusable as error:
            yield unreadable(file.path, error)


def _wanted(release: LintedRelease, declared: CarriedManifest) -> list[str]:
    if declared.kind is CarriedKind.SETTINGS:
        return [declared.slot]
    if declared.template is not None:
        return [declared.template]
    # Gettext's files tell the text of the source beside; the others are nothing without it.
    said = declared.format is CarriedFormat.PO and carried_files([declared], release.files)
    return [] if said else [rendered(declared.slot, declared.source)]


def _has_no_source(release: LintedRelease, declared: CarriedManifest) -> bool:
    return (
        declared.format is CarriedFormat.PO
        and declared.template is None
        and rendered(declared.slot, declared.source) not in release.files
        and bool(carried_files([declared], release.files))
    )


def unreadable(path: str, error: Unusable) -> Finding:
    """A carried file that is not what the release says of it."""
    return rules.CARRIED_FILE_UNREADABLE.report(
        path=path if error.line is None else f"{path}:{error.line}", why=error.why
    )


def carried_places(release: LintedRelease) -> Iterator[Finding]:
    """The release's own translations have the places of their texts."""
    for file in _files(release):
        declared = file.declared
        if file.language is None or file.language == declared.source:
            continue
        own = shipped_texts(declared, release.texts.get(file.path))
        sources = source_forms(declared, release.texts) or {}
        lacks: dict[str, None] = {}
        invents: dict[str, None] = {}
        for key, entry in (own.entries if own else {}).items():
            source = sources.get(key, ())
            if entry.empty or entry.fuzzy or not source or not entry.forms:
                continue
            missing, unknown = misfit(entry.forms, source, entry.formats)
            if any(_filled(place) for place in unknown):
                invents[shown(key)] = None
            elif missing or unknown:
                lacks[shown(key)] = None
        if invents:
            yield rules.PLACEHOLDERS_UNKNOWN.report(path=file.path, keys=some([*invents]))
        if lacks:
            yield rules.PLACEHOLDERS_MISSING.report(path=file.path, keys=some([*lacks]))


def _filled(place: str) -> bool:
    """Whether a program fills it in; a tag or a shortcut it does not."""
    return place.startswith(("%", "{", "${"))


def carried_settings(release: LintedRelease) -> Iterator[Finding]:
    """Settings agree with what is asked of them, and what is named is there."""
    for declared in release.manifest.carried:
        known = source_forms(declared, release.texts)
        if known is None:
            continue
        names = {shown(key) for key in known}
        if declared.kind is CarriedKind.SETTINGS:
            values = shipped_texts(declared, release.texts.get(declared.slot)) or Catalogue()
            yield from _own_values(declared, values)
            named = [rule.key for rule in declared.rules]
            unmet = [n for n in named if n not in names and n not in declared.required]
        else:
            unmet = [a.keys for a in declared.areas if not any(matches(k, a.keys) for k in known)]
        unmet += [new for new in declared.renamed.values() if new not in names]
        if unmet:
            yield rules.CARRIED_NAMES_UNKNOWN.report(names=some(unmet), path=declared.slot)


def _own_values(declared: CarriedManifest, values: Catalogue) -> Iterator[Finding]:
    by_name = {shown(key): entry for key, entry in values.entries.items()}
    for rule in declared.rules:
        entry = by_name.get(rule.key)
        wrong = breach(rule, entry.value) if entry is not None and not entry.empty else ""
        if wrong:
            yield rules.SETTING_BREAKS_RULE.report(path=declared.slot, key=rule.key, rule=wrong)


def carried_history(release: LintedRelease) -> Iterator[Finding]:
    """What countries meet in it that was otherwise in the release before."""
    before = release.previous.manifest if release.previous else None
    yield from _required(release)
    if before is None:
        return
    now = {item.overlay: item for item in release.manifest.carried}
    for then in before.carried:
        declared = now.get(then.overlay)
        if declared is None:
            yield rules.CARRIED_DROPPED.report(overlay=then.overlay, last=before.version)
        elif _form(then) != _form(declared):
            yield rules.CARRIED_FORM_CHANGED.report(
                overlay=then.overlay, old=_form(then), new=_form(declared)
            )
    if release.texts_before is None:
        return
    yield from _languages(release)
    for change in carried_changes(release.manifest, release.texts, before, release.texts_before):
        if _form(change.then) == _form(change.declared):
            settings = change.declared.kind is CarriedKind.SETTINGS
            found = _settings_changed if settings else _texts_changed
            yield from found(change, before.version)


def _form(declared: CarriedManifest) -> str:
    return f"{declared.kind} ({declared.format}, {declared.encoding})"


def _required(release: LintedRelease) -> Iterator[Finding]:
    """Settings that each site has to have before it can upgrade, and that nobody asked before."""
    previous = release.previous.manifest if release.previous else None
    old = {item.overlay: item for item in previous.carried} if previous else {}
    for declared in release.manifest.carried:
        values = source_forms(declared, release.texts)
        if values is None:
            continue
        filled = {shown(key) for key, forms in values.items() if any(forms)}
        then = old.get(declared.overlay)
        was: set[str] = set()
        if then is not None and release.texts_before is not None:
            before = source_forms(then, release.texts_before) or {}
            was = set(then.required) - {shown(key) for key, forms in before.items() if any(forms)}
        bare = [key for key in declared.required if key not in filled and key not in was]
        if bare:
            yield rules.SETTINGS_REQUIRED.report(keys=some(bare), overlay=declared.overlay)


def _languages(release: LintedRelease) -> Iterator[Finding]:
    assert release.previous is not None and release.texts_before is not None  # noqa: S101
    last = release.previous.manifest
    for then in last.carried:
        declared = next((d for d in release.manifest.carried if d.overlay == then.overlay), None)
        if declared is None:
            continue
        old = {f.language for f in carried_files([then], release.texts_before) if f.language}
        new = {f.language for f in carried_files([declared], release.files) if f.language}
        if old - new:
            yield rules.LANGUAGES_DROPPED.report(
                path=declared.slot,
                last=last.version,
                languages=some(sorted(old - new)),
                source=declared.source,
            )


def _texts_changed(change: CarriedChange, last: str) -> Iterator[Finding]:
    values: dict[str, object] = {"path": change.declared.slot, "last": last}
    if change.added or change.changed or change.gone:
        yield rules.TEXTS_CHANGED.report(
            added=len(change.added), changed=len(change.changed), gone=len(change.gone), **values
        )
    if change.refitted:
        yield rules.PLACEHOLDERS_CHANGED.report(keys=change.named(change.refitted), **values)
    if change.renamed:
        pairs = [f"{shown(old)} -> {shown(new)}" for old, new in change.renamed.items()]
        yield rules.KEYS_RENAMED.report(keys=some(pairs), **values)


def _settings_changed(change: CarriedChange, last: str) -> Iterator[Finding]:
    values: dict[str, object] = {"path": change.declared.slot, "last": last}
    if change.gone:
        yield rules.SETTINGS_DROPPED.report(keys=change.named(change.gone), **values)
    if change.changed:
        yield rules.SETTINGS_CHANGED.report(keys=change.named(change.changed), **values)
    old = {shown(key) for key in change.before}
    stricter = [
        rule.key for rule in change.declared.rules if rule.key in old and _new(rule, change.then)
    ]
    if stricter:
        yield rules.SETTING_RULES_STRICTER.report(keys=some(stricter), **values)


def _new(rule: SettingRule, then: CarriedManifest) -> bool:
    """Whether a rule may refuse what was taken before; one that only takes more does not."""
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
