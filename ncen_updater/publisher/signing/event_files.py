"""Files of a signing event, as a directory or packed into one file, and the files for review.

Events come from other people on removable media. Symbolic links, devices and FIFOs are refused, and
no file is read beyond a limit.

An event is a directory while it is drafted and published. For transport it is packed into one file,
``NAME.event``, a ZIP of exactly the event's files. A signer sends the signatures back in one file,
``NAME.SIGNER.sig``. Neither is trusted: an unpacked event is checked like any other, and each
signature is verified when it is merged.

Review files let a signer review a release completely: document and tree of each added release, all
its SQL files, document and tree of the previous release, and of both the files that local overlays
replace. Each is named by its SHA-256, which the signed metadata leads to, so that it cannot be
changed on the way.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]
    Metadata,
    Root,
    TargetFile,
    Targets,
)

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import compute_sha256, encode_canonical_json
from ncen_updater.common.messages import (
    BAD_EVENT,
    OWN_ROOT_UNUSABLE,
    PUBLISHER_TARGET_MISSING,
    SIGNATURES_UNUSABLE,
)
from ncen_updater.feed.release_files import read_tree
from ncen_updater.formats.manifest import Manifest
from ncen_updater.formats.release_document import Offer, ReleaseDocument, parse_release_document
from ncen_updater.formats.sql import MAX_FILE_BYTES as MAX_SQL_BYTES
from ncen_updater.formats.target_names import (
    MAX_DOCUMENT_BYTES,
    OFFER_FIELD,
    RELEASES_PREFIX,
    ROLE_FIELD,
)
from ncen_updater.formats.texts.overlay_files import MAX_OVERLAY_FILE_BYTES, list_overlay_files
from ncen_updater.formats.tree import Tree
from ncen_updater.publisher.build.release_build import list_files
from ncen_updater.publisher.errors import BuildError, describe_system_error, report_errors
from ncen_updater.publisher.feed.feed_directory import FeedDirectory

MAX_FILE_BYTES: Final = 10_000_000
MAX_ENTRIES: Final = 5_000
MAX_REVIEW_FILE_BYTES: Final = 50_000_000
#: Directory of the review files, each named by its SHA-256.
REVIEW_DIRECTORY: Final = "review"
EVENT_DIRECTORIES: Final = ("draft", "base", "roots", "sig", REVIEW_DIRECTORY)
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_regular_file(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """Read a regular file.

    Raises:
        OSError: If it is a symbolic link or cannot be read.
        ValueError: If it is not a regular file, or too large.
    """
    descriptor = os.open(path, _FLAGS)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path.name} is not a regular file")
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path.name} is over {limit} bytes")
    return content


def check_directories(directory: Path) -> None:
    """Refuse an event whose directories are symbolic links or contain too many files.

    Raises:
        BAD_EVENT: Naming the directory.
    """
    for name in EVENT_DIRECTORIES:
        folder = directory / name
        if not os.path.lexists(folder):
            continue
        with report_errors(BAD_EVENT, OSError, path=folder):
            mode = folder.lstat().st_mode
        if not stat.S_ISDIR(mode):
            raise UpdaterError(BAD_EVENT, path=folder, detail="not an event directory")
        with os.scandir(folder) as entries:
            if sum(1 for _ in entries) > MAX_ENTRIES:
                raise UpdaterError(
                    BAD_EVENT,
                    path=folder,
                    detail=LazyText("more than {max_entries} files", {"max_entries": MAX_ENTRIES}),
                )


def read_metadata(path: Path, role: str) -> Metadata[Any]:
    """Read the metadata of one role.

    Raises:
        BAD_EVENT: If the file is not metadata of this role.
    """
    with report_errors(BAD_EVENT, OSError, ValueError, RecursionError, RepositoryError, path=path):
        metadata: Metadata[Any] = Metadata.from_bytes(read_regular_file(path))
        # Serialize it again: metadata that cannot be serialized cannot be signed.
        metadata.signed_bytes  # noqa: B018
    if (
        not isinstance(metadata.signed, Root if role == "root" else Targets)
        or metadata.signed.unrecognized_fields.get(ROLE_FIELD) != role
    ):
        raise UpdaterError(BAD_EVENT, path=path, detail="it belongs to another role")
    return metadata


def read_own_root(path: Path) -> Metadata[Root]:
    """Read a person's own copy of the root; report errors as theirs, not the drafter's.

    Raises:
        OWN_ROOT_UNUSABLE: If the file is not root metadata.
    """
    try:
        return read_metadata(path, "root")
    except UpdaterError as error:
        raise UpdaterError(OWN_ROOT_UNUSABLE, path=path, detail=error.original_detail) from error


def read_root_chain(directory: Path) -> list[Metadata[Root]]:
    """Read the roots of an event, from the first on; each must be signed by its predecessor.

    Raises:
        BAD_EVENT: If a root is missing or not signed by its predecessor.
    """
    folder = directory / "roots"
    names = {path.name for path in folder.glob("*.root.json")} if folder.is_dir() else set()
    chain: list[Metadata[Root]] = []
    for number in range(1, len(names) + 1):
        path = folder / f"{number}.root.json"
        if path.name not in names:
            raise UpdaterError(BAD_EVENT, path=path, detail="roots 1 to N are required")
        root: Metadata[Root] = read_metadata(path, "root")
        previous = chain[-1].signed if chain else None
        with report_errors(BAD_EVENT, ValueError, path=path):
            follows = root.signed.version == number and bool(
                root.signed.get_root_verification_result(
                    previous, root.signed_bytes, root.signatures
                )
            )
        if not follows:
            raise UpdaterError(BAD_EVENT, path=path, detail="it is not signed by the previous root")
        chain.append(root)
    return chain


def write_review_files(directory: Path, attachments: Mapping[str, Path | bytes]) -> None:
    """Copy review files into a new event.

    Args:
        directory: Directory of the event.
        attachments: Paths or contents of the files, by the SHA-256 in the metadata.

    Raises:
        PUBLISHER_TARGET_MISSING: If a file changed after the metadata was drafted.
    """
    durable.make_directory(directory / REVIEW_DIRECTORY)
    for sha256, path in attachments.items():
        with report_errors(PUBLISHER_TARGET_MISSING, OSError, ValueError, target=sha256):
            content = (
                path if isinstance(path, bytes) else read_regular_file(path, MAX_REVIEW_FILE_BYTES)
            )
        if compute_sha256(content) != sha256:
            raise UpdaterError(
                PUBLISHER_TARGET_MISSING, target=sha256 if isinstance(path, bytes) else path.name
            )
        durable.write_file(directory / REVIEW_DIRECTORY / sha256, content)


EVENT_SUFFIX: Final = ".event"
SIGNATURES_SUFFIX: Final = ".sig"
EVENT_NAME: Final = "event.json"
MAX_PACKED_BYTES: Final = 500_000_000
#: What the library raises for a damaged file.
UNPACK_ERRORS: Final = (
    OSError, ValueError, RuntimeError, NotImplementedError, EOFError, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip
_PACKED_DIRECTORIES: Final = tuple(name for name in EVENT_DIRECTORIES if name != "sig")
_NAME: Final = re.compile(
    rf"event\.json|(?:draft|base|roots)/[a-z0-9][a-z0-9.-]{{0,80}}\.json|{REVIEW_DIRECTORY}/[0-9a-f]{{64}}"
)
#: Fixed time of all members, so that packing an event again gives the same bytes.
_TIME: Final = (1980, 1, 1, 0, 0, 0)

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
RoleName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,40}$")]


class DetachedSignature(BaseModel):
    """One signature of a signer, separate from the metadata."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: RoleName
    version: Annotated[int, Field(ge=1)]
    digest: Sha256
    keyid: Sha256
    sig: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]+$", max_length=4000)]


class _SignaturesFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    signatures: Annotated[tuple[DetachedSignature, ...], Field(min_length=1, max_length=50)]


def pack_event(directory: Path) -> None:
    """Pack an event into one file beside it, without signatures.

    The same event gives the same bytes.

    Raises:
        BAD_EVENT: If one of its files cannot be read.
    """
    with (
        report_errors(BAD_EVENT, OSError, ValueError, path=directory),
        durable.open_for_replace(directory.with_name(directory.name + EVENT_SUFFIX)) as stream,
        zipfile.ZipFile(stream, "w") as packed,
    ):
        for name in _list_names(directory):
            content = read_regular_file(directory / name, MAX_REVIEW_FILE_BYTES)
            packed.writestr(zipfile.ZipInfo(name, _TIME), content, zipfile.ZIP_DEFLATED)


def _list_names(directory: Path) -> Iterator[str]:
    for folder in _PACKED_DIRECTORIES:
        for path in sorted((directory / folder).glob("*")):
            if _NAME.fullmatch(f"{folder}/{path.name}"):
                yield f"{folder}/{path.name}"
    yield EVENT_NAME  # last: without it an event is incomplete


def unpack_event(path: Path, directory: Path) -> None:
    """Unpack an event into an empty directory.

    Raises:
        BAD_EVENT: If the file is not a packed event, has other members, or exceeds a limit.
    """
    with (
        report_errors(BAD_EVENT, *UNPACK_ERRORS, path=path),
        path.open("rb") as stream,
        zipfile.ZipFile(stream) as packed,
    ):
        entries = packed.infolist()
        _refuse_unexpected_entries(entries)
        for entry in entries:
            most = (
                MAX_REVIEW_FILE_BYTES
                if entry.filename.startswith(REVIEW_DIRECTORY)
                else MAX_FILE_BYTES
            )
            with packed.open(entry) as content:
                found = content.read(most + 1)
            if len(found) > most:
                raise ValueError(f"{entry.filename} is over {most} bytes")
            target = directory / entry.filename
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(found)


def _refuse_unexpected_entries(entries: Sequence[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries]
    odd = next((name for name in names if not _NAME.fullmatch(name)), None)
    if odd is not None:
        raise ValueError(f"{odd[:80]!r} is not a file of an event")
    if len(set(names)) != len(names):
        raise ValueError("duplicate file")
    if len(names) > MAX_ENTRIES or sum(entry.file_size for entry in entries) > MAX_PACKED_BYTES:
        raise ValueError("too large")


def write_signatures(path: Path, signatures: Sequence[DetachedSignature]) -> None:
    """Write the signatures of a signer to one file."""
    document = _SignaturesFile(signatures=tuple(signatures))
    durable.write_file(path, encode_canonical_json(document.model_dump(mode="json", by_alias=True)))


def read_signatures(path: Path) -> tuple[DetachedSignature, ...]:
    """Read the signatures of a file: those of a signer, or a single one as stored in an event.

    Raises:
        SIGNATURES_UNUSABLE: If it is neither.
    """
    with report_errors(SIGNATURES_UNUSABLE, OSError, ValueError, RecursionError, path=path):
        document = json.loads(read_regular_file(path))
        if isinstance(document, dict) and "signatures" in document:
            return _SignaturesFile.model_validate(document).signatures
        return (DetachedSignature.model_validate(document),)


def collect_review_files(
    targets: Path, document: ReleaseDocument, feed: FeedDirectory | None, before: Targets | None
) -> dict[str, Path | bytes]:
    """Collect the files that the review page needs, by SHA-256, for the event.

    Args:
        targets: Directory of the release's files.
        document: The release document.
        feed: The published feed, which has the previous release.
        before: The published metadata of the product.

    Raises:
        BuildError: If the archive lacks SQL files that the document names.
    """
    tree, archive = targets / document.tree.target, targets / document.archive.target
    found: dict[str, Path | bytes] = {document.tree.sha256: tree}
    found |= _read_archive_members(archive, document.migrations, MAX_SQL_BYTES)
    found |= {compute_sha256(c): c for c in read_overlay_files(document, tree, archive).values()}
    listed = before.targets if before else {}
    earlier = find_previous_document(document.manifest, listed)
    if feed is not None and earlier is not None:
        path = feed.get_target_path(earlier)
        found[earlier.hashes["sha256"]] = path
        last = parse_release_document(read_regular_file(path, MAX_DOCUMENT_BYTES), str(path))
        tree = feed.get_target_path(listed[last.tree.target])
        found[last.tree.sha256] = tree
        if last.manifest.overlays and document.manifest.overlays:
            archive = feed.get_target_path(listed[last.archive.target])
            found |= {
                compute_sha256(c): c for c in read_overlay_files(last, tree, archive).values()
            }
    return found


def list_overlay_digests(document: ReleaseDocument, tree: Tree) -> dict[str, str]:
    """Return the digests of a release's translation and settings files, by path."""
    files = list_files(tree)
    return {
        file.path: files[file.path]
        for file in list_overlay_files(document.manifest.overlays, files)
    }


def read_overlay_files(document: ReleaseDocument, tree: Path, archive: Path) -> dict[str, bytes]:
    """Return the translation and settings files of a release, by path.

    Raises:
        BuildError: If the archive lacks them.
        UpdaterError: If the tree does not match the document.
    """
    if not document.manifest.overlays:
        return {}
    wanted = list_overlay_digests(document, read_tree(document, tree))
    found = _read_archive_members(archive, wanted, MAX_OVERLAY_FILE_BYTES)
    return {path: found[digest] for path, digest in wanted.items()}


def parse_document_version(name: str) -> Version | None:
    """Return the version in the name of a release document; None for another name."""
    if not name.startswith(RELEASES_PREFIX):
        return None
    try:
        return Version(name.rpartition("/")[2].removesuffix(".json"))
    except InvalidVersion:
        return None  # not a valid version: sites ignore it, and signers see its raw name


def find_previous_document(
    manifest: Manifest, targets: Mapping[str, TargetFile]
) -> TargetFile | None:
    """Return the newest older release in the targets, for comparison with a release.

    A withdrawn release counts, since sites may run it, unless the release cannot be installed over
    it: then no site upgrades from it.
    """
    older = {
        version: target
        for name, target in targets.items()
        if (version := parse_document_version(name))
        and version < manifest.release_version
        and not (_is_withdrawn(target) and not manifest.accepts_version(version))
    }
    return older[max(older)] if older else None


def iter_drafted_offers(
    old: Targets | None, new: Targets
) -> Iterator[tuple[Mapping[str, Any] | None, Mapping[str, Any]]]:
    """Yield each offer of a draft as signed, with the published one, sorted by name."""
    for path, target in sorted(new.targets.items()):
        offer = (target.custom or {}).get(OFFER_FIELD)
        if path.startswith(RELEASES_PREFIX) and isinstance(offer, dict):
            known = old.targets.get(path) if old else None
            yield ((known.custom or {}) if known else {}).get(OFFER_FIELD), offer


def _is_withdrawn(target: TargetFile) -> bool:
    try:
        return Offer.model_validate((target.custom or {})[OFFER_FIELD]).withdrawn is not None
    except (KeyError, ValidationError):
        return False  # an invalid offer, which metadata_rules reports


def _read_archive_members(archive: Path, wanted: Mapping[str, str], most: int) -> dict[str, bytes]:
    """Return members of an archive by digest; each is looked up by its expected path."""
    found: dict[str, bytes] = {}
    missing = dict(wanted)
    if not wanted:
        return found
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                digest = missing.get(member.name)
                stream = tar.extractfile(member) if digest and member.isfile() else None
                content = stream.read(most + 1) if stream else b""
                if stream and compute_sha256(content) == digest:
                    found[digest] = content
                    del missing[member.name]
    except (OSError, EOFError, tarfile.TarError) as error:
        raise BuildError(path=archive, reason=describe_system_error(error)) from error
    if missing:
        raise BuildError(
            path=archive,
            reason=LazyText("{missing} missing", {"missing": next(iter(missing))}),
        )
    return found
