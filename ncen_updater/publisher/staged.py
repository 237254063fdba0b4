"""Comparing the files of a release with the lists that an officer is asked to sign.

An event holds digests alone. An officer who is given the files too can let their own program hash
them, and read what the papers of the release say, before signing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import Key
from tuf.api.metadata import TargetFile, Targets  # type: ignore[attr-defined]

from ncen_updater.publisher.drafting import refs_of
from ncen_updater.publisher.errors import BuildRefused, NothingToDo, TargetMissing
from ncen_updater.publisher.event import Event
from ncen_updater.publisher.papers import Checked, check_papers
from ncen_updater.release.document import (
    MAX_DOCUMENT_BYTES,
    Offer,
    ReleaseDocument,
    parse_release_document,
)
from ncen_updater.release.tree import hash_file
from ncen_updater.trust.names import OFFER_FIELD, RELEASES_PREFIX

__all__ = ["Compared", "compare_files"]


@dataclass(frozen=True)
class Compared:
    """A release whose files are those of an event.

    Attributes:
        product: What it is of.
        version: Its version.
        files: How many files were hashed.
        papers: What its papers say.
    """

    product: str
    version: str
    files: int
    papers: Checked


def compare_files(event: Event, staging: Path, builder: Key | None) -> list[Compared]:
    """Hash every file that an event adds, and check the papers of its releases.

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
    found = []
    for role in event.drafts:
        added = _added(event, role)
        for name in [name for name in added if name.startswith(RELEASES_PREFIX)]:
            found.append(_release(name, added, staging, builder))
    if not found:
        raise NothingToDo(reason="the event adds no release")
    return found


def _added(event: Event, role: str) -> dict[str, TargetFile]:
    new = event.drafts[role].signed
    if not isinstance(new, Targets):
        return {}
    before = event.base[role].signed.targets if role in event.base else {}
    return {
        name: target
        for name, target in new.targets.items()
        if name not in before or before[name].hashes != target.hashes
    }


def _release(
    name: str, added: dict[str, TargetFile], staging: Path, builder: Key | None
) -> Compared:
    root = staging / "targets"
    if added[name].length > MAX_DOCUMENT_BYTES:
        raise BuildRefused(path=staging, reason=f"{name} has over {MAX_DOCUMENT_BYTES} bytes")
    _require(root, added[name])
    document = parse_release_document((root / name).read_bytes(), str(root / name))
    offer = Offer.model_validate(added[name].custom[OFFER_FIELD])
    if not document.offer().same_release(offer):
        raise BuildRefused(path=staging, reason=f"{name} offers another release than its document")
    files = {name: root / name}
    for target in _files(document, added, staging):
        _require(root, target)
        files[target.path] = root / target.path
    papers = check_papers(document, files, builder)
    manifest = document.manifest
    return Compared(manifest.product, manifest.version, len(files), papers)


def _files(
    document: ReleaseDocument, added: dict[str, TargetFile], staging: Path
) -> Iterator[TargetFile]:
    for ref in refs_of(document):
        target = added.get(ref.target)
        if target is None or (target.length, target.hashes["sha256"]) != (ref.length, ref.sha256):
            raise BuildRefused(
                path=staging, reason=f"the event does not add {ref.target} as its document names it"
            )
        yield target


def _require(root: Path, target: TargetFile) -> None:
    path = root / target.path
    if not (path.is_file() and path.stat().st_size == target.length):
        raise TargetMissing(target=target.path)
    if hash_file(path) != target.hashes["sha256"]:
        raise TargetMissing(target=target.path)
