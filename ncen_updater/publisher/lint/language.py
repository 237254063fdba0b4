"""Rules of ``lint`` about a language that is to be signed: what sites would make of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_
from ncen_updater.formats.language import LanguageDocument
from ncen_updater.formats.manifest import CarriedKind, CarriedManifest, Manifest
from ncen_updater.formats.texts.carried_files import rendered
from ncen_updater.formats.texts.catalogue import Catalogue, Unusable, shown
from ncen_updater.formats.texts.readers import read_texts
from ncen_updater.formats.texts.shipped import Shipped, lay_over, shipped_of
from ncen_updater.publisher.lint.carried_changes import some
from ncen_updater.publisher.lint.carried_rules import unreadable
from ncen_updater.publisher.lint.release import finding


def shipped_in(declared: CarriedManifest, language: str, texts: Mapping[str, bytes]) -> Shipped:
    """What a release ships in one language.

    Args:
        declared: What the release says of it.
        language: Which.
        texts: Its carried files, by path.

    Raises:
        Unusable: If one cannot be read.
    """

    def read(path: str) -> Catalogue:
        return read_texts(texts[path], declared) if path in texts else Catalogue()

    return shipped_of(declared, language, read)


def coverage_of(
    document: LanguageDocument, manifest: Manifest, texts: Mapping[str, bytes]
) -> tuple[int, int]:
    """Count the texts of a release that have a translation with a language, and all of them.

    Raises:
        Unusable: If a file of the release cannot be read.
    """
    translated = total = 0
    for declared in manifest.carried:
        if declared.kind is CarriedKind.TRANSLATIONS:
            ours = shipped_in(declared, document.language, texts)
            laid = lay_over(declared, ours, document.texts_of(declared.overlay)).shipped
            total += len(laid.keys())
            translated += sum(1 for key in laid.keys() if laid.own.get(key))  # noqa: SIM118
    return translated, total


def lint_language(
    document: LanguageDocument, manifest: Manifest, texts: Mapping[str, bytes]
) -> list[Finding]:
    """Apply every rule.

    Args:
        document: The language.
        manifest: Of the release that it is for.
        texts: The carried files of that release, by path.

    Returns:
        Findings, strict ones first.
    """
    found = list(_findings(document, manifest, texts))
    order = list(Severity)
    return sorted(found, key=lambda item: (order.index(item.severity), item.code))


def _findings(
    document: LanguageDocument, manifest: Manifest, texts: Mapping[str, bytes]
) -> Iterator[Finding]:
    carried = {c.overlay: c for c in manifest.carried if c.kind is CarriedKind.TRANSLATIONS}
    for file in document.files:
        declared = carried.get(file.overlay)
        if declared is None:
            yield finding(
                7170,
                Severity.STRICT,
                N_("{version} carries no translations at {path}."),
                N_("Name a path that stands as 'overlay' in a [[carried]] of the release."),
                version=manifest.version,
                path=rendered(file.overlay, document.language),
            )
            continue
        try:
            laid = lay_over(declared, shipped_in(declared, document.language, texts), file)
        except Unusable as error:
            yield unreadable(declared.slot, error)
            return
        if laid.unfit:
            yield finding(
                7171,
                Severity.STRICT,
                N_("{path}: the translation of {keys} has other placeholders than its text."),
                N_("Write the placeholders of the text: no site would use such a translation."),
                path=rendered(file.overlay, document.language),
                keys=some([shown(key) for key in laid.unfit]),
            )
        if laid.other:
            yield finding(
                7172,
                Severity.STRICT,
                N_("{path}: the translation of {keys} is not of the text that {version} has."),
                N_("Translate from 'translations export' of a site that has this release."),
                path=rendered(file.overlay, document.language),
                keys=some([shown(key) for key in laid.other]),
                version=manifest.version,
            )
    try:
        translated, total = coverage_of(document, manifest, texts)
    except Unusable:
        return  # said above
    values: dict[str, object] = {
        "language": document.language, "translated": translated, "total": total,
        "said": document.translated, "all": document.total, "version": manifest.version,
    }  # fmt: skip
    if (translated, total) != (document.translated, document.total):
        yield finding(
            7173,
            Severity.STRICT,
            N_("It says {said} of {all} translated; counted here are {translated} of {total}."),
            N_("Make it anew with 'ncen-publisher language add'."),
            **values,
        )
    yield finding(
        7174,
        Severity.INFO,
        N_("{version} in '{language}': {translated} of {total} translated."),
        N_("The others are shown in the language that the application is written in."),
        **values,
    )
