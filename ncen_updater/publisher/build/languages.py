"""From what a translator sent to a language that can be signed: only texts of the release.

What cannot be signed is left out and told: texts that the release does not have, or has in other
words by now, and those of which the translator was not sure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import NotReadable, TooLarge, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import (
    LANGUAGE_FILE_UNUSABLE,
    LANGUAGES_NOT_DELEGATED,
    UNKNOWN_RELEASE,
)
from ncen_updater.formats.document import ReleaseDocument, parse_release_document, release_target
from ncen_updater.formats.errors import BadLanguage
from ncen_updater.formats.language import (
    LanguageDocument,
    LanguageFile,
    LanguageText,
    language_target,
    parse_language_document,
)
from ncen_updater.formats.manifest import CarriedFormat, CarriedKind, CarriedManifest
from ncen_updater.formats.texts.carried_files import MAX_BYTES
from ncen_updater.formats.texts.catalogue import Key, TextEntry, Unusable, shown
from ncen_updater.formats.texts.readers import read_texts
from ncen_updater.formats.texts.shipped import Shipped
from ncen_updater.publisher.errors import system_words
from ncen_updater.publisher.feed.feed import Feed, delegated_roles, unknown_role
from ncen_updater.publisher.lint.carried_changes import some
from ncen_updater.publisher.lint.language import coverage_of, lint_language, shipped_in
from ncen_updater.publisher.lint.lint import last_texts
from ncen_updater.publisher.lint.release import finding
from ncen_updater.publisher.signing.language_drafts import languages_of_feed


@dataclass(frozen=True)
class Sent:
    """A file of a translator.

    Attributes:
        path: The file: a ``.po``, or one as the release has them.
        overlay: Which ``[[carried]]`` of the release it is for; None where there is one alone.
    """

    path: Path
    overlay: str | None = None


@dataclass(frozen=True)
class MadeLanguage:
    """A language that could be signed, and what lint says of it.

    Attributes:
        document: What would be signed.
        findings: Strict ones first.
    """

    document: LanguageDocument
    findings: tuple[Finding, ...]


@dataclass
class _Gathered:
    """What became of the texts of one file."""

    texts: list[LanguageText] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)


def make_language(
    feed: Feed, product: str, version: str, language: str, sent: Sequence[Sent]
) -> MadeLanguage:
    """Make a language for a release of the feed; it is the next revision.

    Args:
        feed: The published feed.
        product: What the release is of.
        version: Which one.
        language: Which language.
        sent: The translators' files, each for another ``[[carried]]``.

    Raises:
        UnknownProduct, UnknownRelease: If the feed does not carry the release.
        LanguagesNotDelegated: If who signs the product may not sign languages yet.
        LanguageFileUnusable: If a file cannot be read, or it is not known what it is for.
        BadLanguage: If it would not have the agreed form.
    """
    release = _release(feed, product, version)
    version = release.manifest.version
    state = feed.state()
    revision = 1 + max(
        (
            offer.revision
            for offer in languages_of_feed(state, product)
            if (offer.version, offer.language) == (version, language)
        ),
        default=0,
    )
    target = language_target(product, version, language, revision)
    if not delegated_roles(state.targets.signed)[product].is_delegated_path(target):
        raise UpdaterError(LANGUAGES_NOT_DELEGATED, product=product)
    texts = last_texts(feed, release) or {}
    files: list[LanguageFile] = []
    left_out: list[Finding] = []
    for one in sent:
        declared = _declared(release, one)
        file, gathered = _file(one.path, declared, language, texts)
        files.append(file)
        left_out += _left_out(declared, gathered, version)
    said = {
        "schema": 1, "product": product, "version": version, "language": language,
        "revision": revision, "files": [file.model_dump() for file in files],
    }  # fmt: skip
    first = _parsed({**said, "translated": 0, "total": 0}, target)
    try:
        translated, total = coverage_of(first, release.manifest, texts)
    except Unusable as error:
        raise BadLanguage(source=target, detail=error.why) from error
    document = _parsed({**said, "translated": translated, "total": total}, target)
    found = [*lint_language(document, release.manifest, texts), *left_out]
    found += _named_otherwise(language, (o.language for o in languages_of_feed(state, product)))
    return MadeLanguage(document, tuple(found))


def _named_otherwise(language: str, known: Iterable[str]) -> Iterator[Finding]:
    """A name that differs from one in the feed only in how it is written: no site asks for both."""
    same = _alike(language)
    for name in sorted({name for name in known if name != language and _alike(name) == same}):
        yield finding(
            7178,
            Severity.STRICT,
            N_("'{language}' is already in the feed under the name '{name}'."),
            N_("Use that name: sites would be offered two languages, and take one of them."),
            language=language,
            name=name,
        )


def _alike(language: str) -> str:
    return language.replace("-", "_").casefold()


def stage_language(made: MadeLanguage, staging: Path) -> Path:
    """Write it to where ``draft`` finds it.

    Returns:
        Its file.
    """
    path = staging / "targets" / made.document.offer().target
    durable.make_directory(path.parent)
    durable.write(path, made.document.canonical())
    return path


def _parsed(said: Mapping[str, object], target: str) -> LanguageDocument:
    try:
        document = LanguageDocument.model_validate(said)
    except ValueError as error:
        raise BadLanguage(source=target, detail=system_words(error)[:500]) from error
    return parse_language_document(document.canonical(), target)  # not too large, either


def _release(feed: Feed, product: str, version: str) -> ReleaseDocument:
    state = feed.state()
    role = state.delegated.get(product)
    if role is None:
        raise unknown_role(state, product)
    target = role.signed.targets.get(release_target(product, version))
    if target is None:
        raise UpdaterError(UNKNOWN_RELEASE, product=product, version=version)
    path = feed.target_path(target)
    return parse_release_document(path.read_bytes(), str(path))


def _declared(release: ReleaseDocument, one: Sent) -> CarriedManifest:
    known = {
        c.overlay: c for c in release.manifest.carried if c.kind is CarriedKind.TRANSLATIONS
    }  # fmt: skip
    if one.overlay is None and len(known) == 1:
        return next(iter(known.values()))
    if not known:
        why = N_("that release carries no texts that a country may have of its own")
        raise UpdaterError(LANGUAGE_FILE_UNUSABLE, path=one.path, why=why)
    if one.overlay is None or one.overlay not in known:
        paths = ", ".join(known)
        why = f"{release.manifest.version} carries translations at: {paths}"
        raise UpdaterError(LANGUAGE_FILE_UNUSABLE, path=one.path, why=why)
    return known[one.overlay]


def _file(
    path: Path, declared: CarriedManifest, language: str, texts: Mapping[str, bytes]
) -> tuple[LanguageFile, _Gathered]:
    is_po = declared.format is CarriedFormat.PO
    as_po = is_po or path.suffix == ".po"
    form = declared.model_copy(update={"format": CarriedFormat.PO, "encoding": "utf-8"})
    try:
        came = read_texts(read_file(path, MAX_BYTES), form if as_po else declared)
        ours = shipped_in(declared, language, texts)
    except Unusable as error:
        place = path if error.line is None else f"{path}:{error.line}"
        raise UpdaterError(LANGUAGE_FILE_UNUSABLE, path=place, why=error.why) from error
    except (OSError, NotReadable, TooLarge) as error:
        raise UpdaterError(LANGUAGE_FILE_UNUSABLE, path=path, why=error) from error
    named: dict[object, Key] = {}
    for key in ours.keys():  # noqa: SIM118 - no mapping
        named[key if is_po else shown(key)] = key
    gathered = _Gathered()
    plural = came.header.get("Plural-Forms", "") if is_po else ""
    try:
        for key, entry in came.entries.items():
            name: object = key if is_po else (key[0] if as_po else shown(key))
            if not entry.empty and entry.forms:
                _gather(gathered, named.get(name), shown(key), entry, ours, as_po=as_po)
        if not gathered.texts:
            why = "nothing in it is a translation of a text of this release"
            raise UpdaterError(LANGUAGE_FILE_UNUSABLE, path=path, why=why)
        texts_of = tuple(gathered.texts)
        made = LanguageFile(overlay=declared.overlay, plural=plural, texts=texts_of)
    except ValidationError as error:  # longer, or in more forms, than any text is
        why = system_words(error)[:300]
        raise UpdaterError(LANGUAGE_FILE_UNUSABLE, path=path, why=why) from error
    return made, gathered


def _gather(
    found: _Gathered, key: Key | None, name: str, entry: TextEntry, ours: Shipped, *, as_po: bool
) -> None:
    source = ours.text(key) if key is not None else ()
    if key is None or not source:
        found.unknown.append(name)
    elif as_po and entry.source != source[0]:
        found.changed.append(shown(key))
    elif entry.fuzzy:
        found.unsure.append(shown(key))
    else:
        found.texts.append(LanguageText(key=key, text=entry.forms, source=source))


def _left_out(declared: CarriedManifest, found: _Gathered, version: str) -> Iterable[Finding]:
    kinds = (
        (7175, found.unknown, N_("{path}: {count} are left out, as {version} has none: {keys}.")),
        (7176, found.changed, N_(
            "{path}: {count} are left out, made for other words than those of {version}: {keys}."
        )),
        (7177, found.unsure, N_(
            "{path}: {count} are left out, of which the translator was not sure: {keys}."
        )),
    )  # fmt: skip
    for number, keys, words in kinds:
        if keys:
            yield finding(
                number,
                Severity.ADVISORY,
                words,
                N_("Look whether they are missed; a better language is the next revision."),
                path=declared.overlay,
                count=len(keys),
                keys=some(keys),
                version=version,
            )
