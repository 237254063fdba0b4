"""Exchange with a translator: a ``.po`` with only the texts to translate. Pure.

Whatever the format of the application, translators get a gettext file, which their programs know:
the context is the key (for a ``.po`` its own context), the text is the source text. So each
translation comes back with its source text, even if that belongs to a release not yet installed.
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
    """What came back.

    Attributes:
        local: The country's file with it.
        added: Keys that it did not have.
        changed: Keys that say something else now.
        unknown: Keys that no release at hand has; they are not taken.
        text_origins: What each text was made for.
    """

    local: TextCatalog
    added: tuple[TextKey, ...]
    changed: tuple[TextKey, ...]
    unknown: tuple[str, ...]
    text_origins: TextOrigins


def export_untranslated(
    report: FileReport, shipped_texts: ShippedTexts, local: TextCatalog, *, everything: bool
) -> TextCatalog:
    """Return what a translator has to look at, as gettext has it.

    Args:
        report: What becomes of the file with the release that is translated for.
        shipped_texts: What that release ships.
        local: What the country has.
        everything: Whether what is translated well is in it, too.
    """
    is_po = report.declared.format is OverlayFormat.PO
    wanted = {item.key for item in report.select(*NEEDS_TRANSLATION)}
    entries: dict[TextKey, TextEntry] = {}
    for key in shipped_texts.list_keys():
        mine, shipped = local.find_entry(key), shipped_texts.own.find_entry(key)
        untranslated = mine is None and shipped is None
        if not (everything or untranslated or key in wanted):
            continue
        source = shipped_texts.get_source_text(key) or (shipped.forms if shipped else ())
        if not source:
            continue
        value = mine or shipped or TextEntry("")
        context = key[0] if is_po else format_key(key)
        entries[context, source[0]] = TextEntry(
            value.value if isinstance(value.value, str) else "", value.plural, source[0],
            source[1] if len(source) > 1 else None, fuzzy=key in wanted and mine is not None,
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
    """Put what came back into the country's file.

    Args:
        imported: What came.
        local: What the country has.
        releases: What the releases at hand ship in that language, the one to translate for first.
        is_po: Whether the application's files are gettext's.
        as_po: Whether what came is.

    Raises:
        UnusableFileError: If nothing in it belongs to any release at hand.
    """
    known: dict[str | TextKey, tuple[TextKey, ShippedTexts]] = {}
    for shipped in releases:
        for key in shipped.list_keys():
            known.setdefault(key if is_po else format_key(key), (key, shipped))
    entries, made_for = dict(local.entries), {}
    added, changed, unknown = [], [], []
    for key, entry in imported.entries.items():
        if entry.is_empty or not entry.forms:
            continue
        name: str | TextKey = key if is_po else (key[0] if as_po else format_key(key))
        if name not in known:
            unknown.append(format_key(key))
            continue
        real, shipped = known[name]
        made = TextEntry(entry.value, entry.plural, fuzzy=entry.fuzzy) if not is_po else entry
        before = local.find_entry(real)
        if before is None:
            added.append(real)
        elif not before.has_same_text(made):
            changed.append(real)
        entries[real] = made
        source = (entry.source,) if as_po and entry.source else shipped.get_source_text(real)
        made_for[real] = TextOrigin(made.digest, source)
    if unknown and not made_for:
        raise UnusableFileError("no text of an installed release in it")
    header = local.header or imported.header
    return TranslationImport(
        TextCatalog(entries, header), tuple(added), tuple(changed), tuple(unknown), made_for
    )
