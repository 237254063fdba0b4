"""Comparing what a release is made of with the lists that an officer is asked to sign.

An event holds the lists, and of each release that it adds the small files: its document and its
papers, by their digests. An officer's program reads these before it signs. An officer who is given
the staging directory too can let it hash every file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import Key
from tuf.api.metadata import TargetFile, Targets  # type: ignore[attr-defined]

from ncen_updater.common.canonical_json import sha256_hex
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import Text
from ncen_updater.common.messages import NOTHING_TO_DO, PAPERS_MISSING, PUBLISHER_TARGET_MISSING
from ncen_updater.formats.document import (
    Offer,
    ReleaseDocument,
    TargetRef,
    parse_release_document,
)
from ncen_updater.formats.tree import hash_file
from ncen_updater.formats.tuf_names import MAX_DOCUMENT_BYTES, OFFER_FIELD, RELEASES_PREFIX
from ncen_updater.publisher.build.attachments import Checked, check_papers
from ncen_updater.publisher.errors import BuildRefused, system_words
from ncen_updater.publisher.signing.draft import refs_of
from ncen_updater.publisher.signing.event import SigningEvent
from ncen_updater.publisher.signing.event_files import MAX_PAPER_BYTES, PAPERS, read_plain
from ncen_updater.publisher.signing.roles import OFFLINE_TOP


@dataclass(frozen=True)
class ComparedStaging:
    """A release that is what an event says of it.

    Attributes:
        product: What it is of.
        version: Its version.
        files: How many files were hashed; None where only what the event carries was read.
        papers: What its papers say.
    """

    product: str
    version: str
    files: int | None
    papers: Checked


def compare_files(event: SigningEvent, staging: Path, builder: Key | None) -> list[ComparedStaging]:
    """Hash every file of the releases that an event adds, and check their papers.

    Args:
        event: The event.
        staging: What 'build' wrote, here or elsewhere.
        builder: The builder's public key, where a release has a provenance.

    Raises:
        TargetMissing: If a file is not there, or is another one.
        BuildRefused: If a document says something else than the lists.
        NothingToDo: If the event adds no release.
        SbomInvalid, ProvenanceInvalid, BuilderKeyMissing: As :func:`check_papers`.
    """
    root, found = staging / "targets", []
    named: set[str] = set()
    for name, added in _releases(event):
        content = _read(root / name, added[name])
        document = _agreed(content, name, added, staging)
        refs = refs_of(document)
        named |= {name, *(ref.target for ref in refs)}
        for ref in refs:
            _require(root, added[ref.target])
        files = {ref.target: root / ref.target for ref in refs}
        found.append(_compared(document, len(files) + 1, check_papers(document, files, builder)))
    _refuse_strangers(event, named)
    if not found:
        raise UpdaterError(NOTHING_TO_DO, reason="the event adds no release")
    return found


def compare_carried(
    event: SigningEvent, builder: Key | None, *, unread: bool = False
) -> list[ComparedStaging]:
    """Check the documents and papers that an event carries against its lists.

    Args:
        event: The event.
        builder: The builder's public key, where a release has a provenance.
        unread: Leave a provenance alone where no key is given; only to show, never to sign.

    Returns:
        The releases that it adds; none for an event about something else.

    Raises:
        PapersMissing: If the event does not carry one of them, or carries another file.
        BuildRefused: If a document says something else than the lists, or names too little.
        SbomInvalid, ProvenanceInvalid, BuilderKeyMissing: As :func:`check_papers`.
    """
    found = []
    named: set[str] = set()
    for name, added in _releases(event):
        content = _carried(event, name, added[name].hashes["sha256"], MAX_DOCUMENT_BYTES)
        document = _agreed(content, name, added, event.directory)
        named |= {name, *(ref.target for ref in refs_of(document))}
        papers = [ref for ref in (document.sbom, document.provenance) if ref is not None]
        for ref in papers:
            _carried(event, ref.target, ref.sha256, MAX_PAPER_BYTES)
        files = {ref.target: event.directory / PAPERS / ref.sha256 for ref in papers}
        checked = check_papers(document, files, builder, unread=unread)
        found.append(_compared(document, None, checked))
    _refuse_strangers(event, named)
    return found


def _refuse_strangers(event: SigningEvent, named: Collection[str]) -> None:
    """Refuse files that no release names; a client that knows no documents would install them."""
    products = [d.signed.targets for role, d in event.drafts.items() if role not in OFFLINE_TOP]
    for role in event.drafts:
        for name in _added(event, role):
            again = role == "targets" and any(name in targets for targets in products)
            if name not in named and not again:
                raise BuildRefused(
                    path=event.directory, reason=Text("no release names {name}", {"name": name})
                )


def _compared(document: ReleaseDocument, files: int | None, papers: Checked) -> ComparedStaging:
    manifest = document.manifest
    return ComparedStaging(manifest.product, manifest.version, files, papers)


def _releases(event: SigningEvent) -> Iterator[tuple[str, Mapping[str, TargetFile]]]:
    """The release documents that an event adds, each with all that its role adds."""
    for role in event.drafts:
        added = _added(event, role)
        for name in added:
            if name.startswith(RELEASES_PREFIX):
                yield name, added


def _added(event: SigningEvent, role: str) -> Mapping[str, TargetFile]:
    new = event.drafts[role].signed
    if not isinstance(new, Targets):
        return {}
    before = event.base[role].signed.targets if role in event.base else {}
    return {
        name: target
        for name, target in new.targets.items()
        if name not in before or before[name].hashes != target.hashes
    }


def _agreed(
    content: bytes, name: str, added: Mapping[str, TargetFile], place: Path
) -> ReleaseDocument:
    """Read a document; refuse one that says something else than the lists."""
    document = parse_release_document(content, name)
    offer = Offer.model_validate((added[name].custom or {})[OFFER_FIELD])
    if not document.offer().same_release(offer):
        raise BuildRefused(
            path=place,
            reason=Text("{name} offers another release than its document", {"name": name}),
        )
    for ref in refs_of(document):
        if not _same(added.get(ref.target), ref):
            raise BuildRefused(
                path=place,
                reason=Text(
                    "the event does not add {target} as its document names it",
                    {"target": ref.target},
                ),
            )
    return document


def _same(target: TargetFile | None, ref: TargetRef) -> bool:
    return target is not None and (target.length, target.hashes["sha256"]) == (
        ref.length,
        ref.sha256,
    )


def _carried(event: SigningEvent, name: str, sha256: str, limit: int) -> bytes:
    try:
        content = read_plain(event.directory / PAPERS / sha256, limit)
    except (OSError, ValueError) as error:
        raise UpdaterError(PAPERS_MISSING, name=name, detail=system_words(error)) from error
    if sha256_hex(content) != sha256:
        raise UpdaterError(
            PAPERS_MISSING,
            name=name,
            detail=Text("{papers}/{sha} is another file", {"papers": PAPERS, "sha": sha256}),
        )
    return content


def _read(path: Path, target: TargetFile) -> bytes:
    try:
        content = read_plain(path, MAX_DOCUMENT_BYTES)
    except (OSError, ValueError) as error:
        raise UpdaterError(
            PUBLISHER_TARGET_MISSING, target=target.path, detail=system_words(error)
        ) from error
    if sha256_hex(content) != target.hashes["sha256"]:
        raise UpdaterError(PUBLISHER_TARGET_MISSING, target=target.path)
    return content


def _require(root: Path, target: TargetFile) -> None:
    path = root / target.path
    if not (path.is_file() and path.stat().st_size == target.length):
        raise UpdaterError(PUBLISHER_TARGET_MISSING, target=target.path)
    if hash_file(path) != target.hashes["sha256"]:
        raise UpdaterError(PUBLISHER_TARGET_MISSING, target=target.path)
