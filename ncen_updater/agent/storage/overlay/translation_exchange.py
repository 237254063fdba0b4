"""Exchange with a translator: a ``.po`` with only the texts to translate. Pure.

Whatever the format of the application, translators get a gettext file, which their programs can
edit: the context is the key (for a ``.po`` its own context), the text is the source text. So each
translation comes back with its source text, even that of a release not yet installed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ncen_updater.agent.storage.overlay.layer import FileReport
from ncen_updater.agent.storage.overlay.three_way_merge import KeyOutcome, TextOrigin, TextOrigins
from ncen_updater.formats.manifest import OverlayFormat
from ncen_updater.formats.texts.catalog import (
    TextCatalog,
    TextEntry,
    TextKey,
    UnusableFileError,
    format_key,
)
from ncen_updater.formats.texts.overlay_files import ShippedTexts

NEEDS_TRANSLATION = (KeyOutcome.NEW, KeyOutcome.OUTDATED, KeyOutcome.REJECTED, KeyOutcome.COLLISION)


@dataclass(frozen=True)
class TranslationImport:
    """Result of an import.

    Attributes:
        local: The local file with the imported texts.
        added: New keys.
        changed: Keys with a changed text.
        unknown: Keys that no available release has; they are not imported.
        text_origins: Origin of each imported text.
    """

    local: TextCatalog
    added: tuple[TextKey, ...]
    changed: tuple[TextKey, ...]
    unknown: tuple[str, ...]
    text_origins: TextOrigins


def export_untranslated(
    report: FileReport, shipped_texts: ShippedTexts, local: TextCatalog
) -> TextCatalog:
    """Return a gettext catalogue with the texts to translate.

    Args:
        report: Report on the file for the release to translate.
        shipped_texts: Texts of that release.
        local: The local texts.
    """
    is_po = report.declared.format is OverlayFormat.PO
    to_translate = {item.key for item in report.select(*NEEDS_TRANSLATION)}
    entries: dict[TextKey, TextEntry] = {}
    for key in shipped_texts.list_keys():
        local_entry, shipped = local.find_entry(key), shipped_texts.own.find_entry(key)
        untranslated = local_entry is None and shipped is None
        if not (untranslated or key in to_translate):
            continue
        source = shipped_texts.get_source_text(key) or (shipped.forms if shipped else ())
        if not source:
            continue
        value = local_entry or shipped or TextEntry("")
        context = key[0] if is_po else format_key(key)
        entries[context, source[0]] = TextEntry(
            value.value if isinstance(value.value, str) else "", value.plural, source[0],
            source[1] if len(source) > 1 else None,
            fuzzy=key in to_translate and local_entry is not None,
        )  # fmt: skip
    header = dict(shipped_texts.own.header or local.header)
    return TextCatalog(entries, header or {"Language": report.language or ""})


def import_translations(
    imported: TextCatalog,
    local: TextCatalog,
    releases: Iterable[ShippedTexts],
    *,
    is_po: bool,
    as_po: bool,
) -> TranslationImport:
    """Merge imported texts into the local file.

    Args:
        imported: The imported texts.
        local: The local texts.
        releases: Texts of the available releases in that language, the one to translate first.
        is_po: Whether the application's files are gettext files.
        as_po: Whether the imported file is one.

    Raises:
        UnusableFileError: If no text in it belongs to an available release.
    """
    known: dict[str | TextKey, tuple[TextKey, ShippedTexts]] = {}
    for shipped in releases:
        for key in shipped.list_keys():
            known.setdefault(key if is_po else format_key(key), (key, shipped))
    entries, origins = dict(local.entries), {}
    added, changed, unknown = [], [], []
    for key, entry in imported.entries.items():
        if entry.is_empty or not entry.forms:
            continue
        name: str | TextKey = key if is_po else (key[0] if as_po else format_key(key))
        if name not in known:
            unknown.append(format_key(key))
            continue
        local_key, shipped = known[name]
        text = TextEntry(entry.value, entry.plural, fuzzy=entry.fuzzy) if not is_po else entry
        local_entry = local.find_entry(local_key)
        if local_entry is None:
            added.append(local_key)
        elif not local_entry.has_same_text(text):
            changed.append(local_key)
        entries[local_key] = text
        source = (entry.source,) if as_po and entry.source else shipped.get_source_text(local_key)
        origins[local_key] = TextOrigin(text.digest, source)
    if unknown and not origins:
        raise UnusableFileError("no text of an installed release in it")
    header = local.header or imported.header
    return TranslationImport(
        TextCatalog(entries, header), tuple(added), tuple(changed), tuple(unknown), origins
    )
