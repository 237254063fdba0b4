"""Signed languages that an event adds, for who signs: coverage, what lint says, and the texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tuf.api.metadata import TargetFile, Targets  # type: ignore[attr-defined]

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import PAPERS_MISSING
from ncen_updater.formats.document import release_target
from ncen_updater.formats.language import (
    MAX_LANGUAGE_BYTES,
    LanguageDocument,
    parse_language_document,
)
from ncen_updater.formats.texts.carried_files import rendered
from ncen_updater.formats.texts.catalogue import shown
from ncen_updater.formats.tuf_names import LANGUAGES_PREFIX
from ncen_updater.publisher.lint.carried_changes import printed
from ncen_updater.publisher.lint.language import lint_language
from ncen_updater.publisher.review.evidence import ReviewEvidence, difference_words, quoted_forms
from ncen_updater.publisher.review.grouping import Section
from ncen_updater.publisher.signing.carried_papers import previous_language
from ncen_updater.publisher.signing.event import SigningEvent

Forms = tuple[str, ...]


@dataclass(frozen=True)
class LanguagePage:
    """One signed language that an event adds.

    Attributes:
        name: For errors.
        title: What it is.
        findings: What lint says, here and now; first of all how much is translated.
        texts: What it words otherwise than the one before it, each with what it translates.
        grave: What is to be decided before all.
        missing: Files that were not found, so that nothing could be compared.
    """

    name: str
    title: Text
    findings: tuple[Finding, ...]
    texts: tuple[Text, ...]
    grave: tuple[Text, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def sections(self) -> tuple[Section, ...]:
        """The lists of its page."""
        return (Section(N_("Texts and their translations:"), self.texts, self.name),)


def language_pages(event: SigningEvent, evidence: ReviewEvidence) -> Iterator[LanguagePage]:
    """Gather the pages of an event.

    Args:
        event: The event.
        evidence: Where its files are found.

    Raises:
        PapersMissing: If a language itself is nowhere.
        BadLanguage: If it does not have the agreed form.
    """
    for role, draft in event.drafts.items():
        new = draft.signed.targets if isinstance(draft.signed, Targets) else {}
        base = event.base[role].signed.targets if role in event.base and new else {}
        for name, target in sorted(new.items()):
            known = name in base and base[name].hashes == target.hashes
            if name.startswith(LANGUAGES_PREFIX) and not known:
                yield _page(name, target, new, base, evidence)


def _page(
    name: str,
    target: TargetFile,
    listed: dict[str, TargetFile],
    base: dict[str, TargetFile],
    evidence: ReviewEvidence,
) -> LanguagePage:
    digest = target.hashes["sha256"]
    content = evidence.content(name, digest, target.length, MAX_LANGUAGE_BYTES)
    if content is None:
        raise UpdaterError(PAPERS_MISSING, name=name)
    document = parse_language_document(content, name)
    title = Text(
        N_("{product} {version} in '{language}', revision {revision}"),
        {
            "product": document.product, "version": document.version,
            "language": document.language, "revision": document.revision,
        },
    )  # fmt: skip
    of_release = release_target(document.product, document.version)
    release = listed.get(of_release)
    shown_release = evidence.shown(of_release, release) if release is not None else None
    missing = [of_release]
    if shown_release is not None:
        # A language is of texts: the event does not carry the SQL of the release, nobody judges it.
        sql = shown_release.document.migrations
        missing = [name for name in shown_release.missing if name not in sql]
    findings: tuple[Finding, ...] = ()
    if shown_release is not None and not missing:
        manifest = shown_release.document.manifest
        findings = tuple(lint_language(document, manifest, shown_release.texts))
    grave = [
        Text(N_("WARNING: lint refuses it ({code}): {what}"), {"code": f.code, "what": f.what})
        for f in findings
        if f.severity is Severity.STRICT
    ]
    if missing:
        words = N_("WARNING: {files} could not be read, so it is not shown here.")
        grave.append(Text(words, {"files": ", ".join(missing)}))
    texts = tuple(_texts(document, _before(document, base, evidence)))
    return LanguagePage(name, title, findings, texts, tuple(grave), tuple(missing))


def _before(
    document: LanguageDocument, base: dict[str, TargetFile], evidence: ReviewEvidence
) -> LanguageDocument | None:
    """The language that was published last before, where it is at hand."""
    known = previous_language(document, base)
    if known is None:
        return None
    name, digest = known.path, known.hashes["sha256"]
    content = evidence.content(name, digest, known.length, MAX_LANGUAGE_BYTES)
    return parse_language_document(content, name) if content is not None else None


def _texts(document: LanguageDocument, before: LanguageDocument | None) -> Iterator[Text]:
    if before is not None:
        words = N_("compared with {version}, revision {revision}")
        yield Text(words, {"version": before.version, "revision": before.revision})
    after, then = (_by_key(one) if one is not None else {} for one in (document, before))
    for place in dict.fromkeys((*after, *then)):
        new, old = after.get(place), then.get(place)
        if new != old:
            path, key = place
            source, text = new or ((), ())
            was = quoted_forms(old[1] if old else ())
            said: dict[str, object] = {"path": path, "key": printed(shown(key), None), "old": was}
            said |= {"source": quoted_forms(source), "text": quoted_forms(text)}
            words = N_("{path}: {key}, {source}: {text}")
            if new is None:
                words = difference_words(before=True, after=False)
            elif old is not None:
                words = N_("{path}: {key}, {source}: {old} becomes {text}")
            yield Text(words, said)


def _by_key(document: LanguageDocument) -> dict[tuple[str, Forms], tuple[Forms, Forms]]:
    found: dict[tuple[str, Forms], tuple[Forms, Forms]] = {}
    for file in document.files:
        path = rendered(file.overlay, document.language)
        if file.plural:
            found[path, ("Plural-Forms",)] = ((), (file.plural,))
        found |= {(path, text.key): (text.source, text.text) for text in file.texts}
    return found
