"""SBOM and provenance of a release: made by the build, checked before anyone signs.

The provenance states what built a release and from which source: an in-toto statement (SLSA
provenance v1) in a DSSE envelope, signed by the builder's own key. It has no time and no machine
name, so that the same build gives the same bytes. Sites do not trust the builder's key.

The SBOM (CycloneDX 1.6) is generated from the tree, or supplied and checked. Generation finds only
Python packages (``*.dist-info/METADATA``, and wheels), Java archives with
``META-INF/maven/**/pom.properties``, and the entries of a ``package-lock.json``. It misses
libraries that were compiled in or copied without such a label; to cover these, supply an SBOM from
the product's own build.
"""

from __future__ import annotations

import json
import re
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.parser import HeaderParser
from pathlib import Path
from typing import IO, Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError, VerificationError
from securesystemslib.signer import Key, Signer

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import parse_json, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import (
    STATEMENT_TYPES,
    compute_sha256,
    encode_canonical_json,
)
from ncen_updater.common.messages import (
    BUILDER_KEY_MISSING,
    PROVENANCE_INVALID,
    PUBLISHER_TARGET_MISSING,
    SBOM_INVALID,
    UNKNOWN_RELEASE,
)
from ncen_updater.formats.manifest import Manifest
from ncen_updater.formats.release_document import (
    ReleaseDocument,
    TargetRef,
    get_provenance_target_name,
    get_release_target_name,
    get_sbom_target_name,
    parse_release_document,
)
from ncen_updater.formats.tree import EntryType, Tree
from ncen_updater.publisher.errors import describe_system_error, report_errors
from ncen_updater.publisher.feed.feed_directory import FeedDirectory

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
#: What 'build' does; described in docs/reference/release-format.md.
BUILD_TYPE = f"{STATEMENT_TYPES}/build/v1"
MAX_PROVENANCE_BYTES = 1_000_000
MAX_SBOM_BYTES = 50_000_000
MAX_LABEL_BYTES = 5_000_000
#: Property with the path in the tree where a component was found.
PATH_PROPERTY = "ncen:path"
PYPI_SEPARATORS = re.compile(r"[-_.]+")


@dataclass(frozen=True)
class BuildSource:
    """Source and builder of a release.

    Attributes:
        builder: Any URI that identifies the builder.
        uri: URI of the source, such as ``git+https://host/repository@refs/tags/v3.3.0``.
        commit: Its Git commit, in hexadecimal; empty if it is not in Git.
    """

    builder: str
    uri: str
    commit: str = ""


def make_provenance(
    product: str,
    version: str,
    subjects: Sequence[TargetRef],
    source: BuildSource,
    epoch: int,
    signer: Signer,
    build_type: str = BUILD_TYPE,
) -> bytes:
    """Make and sign the provenance statement.

    Args:
        product: Product of the release.
        version: Version of the release.
        subjects: The targets that were built.
        source: Source and builder.
        epoch: Time of all members of the archive, seconds since 1970.
        signer: The builder's key.
        build_type: URI that defines the build; ``script/provenance`` has its own.
    """
    material: dict[str, Any] = {"uri": source.uri}
    if source.commit:
        material["digest"] = {"gitCommit": source.commit}
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": ref.target, "digest": {"sha256": ref.sha256}} for ref in subjects],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": build_type,
                "externalParameters": {"product": product, "version": version},
                "internalParameters": {"sourceDateEpoch": epoch},
                "resolvedDependencies": [material],
            },
            "runDetails": {"builder": {"id": source.builder}},
        },
    }
    envelope = Envelope(encode_canonical_json(statement), PAYLOAD_TYPE, [])
    envelope.sign(signer)
    return encode_canonical_json(envelope.to_dict())


def check_provenance(
    content: bytes, path: str, key: Key, wanted: Sequence[TargetRef]
) -> Mapping[str, Any]:
    """Verify signature and subjects; return the predicate.

    Args:
        content: The envelope.
        path: Its name for errors.
        key: The builder's public key.
        wanted: Targets that must be among its subjects, with their digests.

    Raises:
        PROVENANCE_INVALID: If a check fails.
    """
    try:
        if len(content) > MAX_PROVENANCE_BYTES:
            reason = f"over {MAX_PROVENANCE_BYTES} bytes"
            raise UpdaterError(PROVENANCE_INVALID, path=path, reason=reason)
        data = parse_json(content)
        if not isinstance(data, dict):
            raise UpdaterError(PROVENANCE_INVALID, path=path, reason="not a DSSE envelope")
        envelope = Envelope.from_dict(data)
        if envelope.payload_type != PAYLOAD_TYPE:
            raise UpdaterError(
                PROVENANCE_INVALID,
                path=path,
                reason=LazyText(
                    "unexpected content: {payload_type}", {"payload_type": envelope.payload_type}
                ),
            )
        envelope.verify([key], 1)
        statement = json.loads(envelope.payload)
        kinds = (statement["_type"], statement["predicateType"])
        subjects = {item["name"]: item["digest"]["sha256"] for item in statement["subject"]}
        predicate = statement["predicate"]
        _ = predicate["runDetails"]["builder"]["id"], predicate["buildDefinition"]["buildType"]
    except VerificationError as error:
        raise UpdaterError(
            PROVENANCE_INVALID, path=path, reason="not signed by this builder"
        ) from error
    except (
        ValueError, KeyError, TypeError, AttributeError, RecursionError, FormatError,
    ) as error:  # fmt: skip
        raise UpdaterError(
            PROVENANCE_INVALID,
            path=path,
            reason="not readable",
            detail=describe_system_error(error),
        ) from error
    if kinds != (STATEMENT, PREDICATE):
        raise UpdaterError(
            PROVENANCE_INVALID,
            path=path,
            reason=LazyText("unexpected type: {kinds}", {"kinds": kinds}),
        )
    for ref in wanted:
        if subjects.get(ref.target) != ref.sha256:
            raise UpdaterError(
                PROVENANCE_INVALID,
                path=path,
                reason=LazyText("{target} not covered", {"target": ref.target}),
            )
    found: Mapping[str, Any] = predicate
    return found


@dataclass(frozen=True, order=True)
class SbomComponent:
    """One package in a release.

    Attributes:
        kind: Type of its package URL: ``pypi``, ``maven``, ``npm``.
        group: Namespace, if its type has one.
        path: Path in the tree where it was found.
    """

    kind: str
    group: str
    name: str
    version: str
    path: str


def find_components(directory: Path, tree: Tree) -> list[SbomComponent]:
    """Return all labelled packages in a tree, sorted; each once, with its first path.

    Args:
        directory: Directory of the release.
        tree: Its tree.
    """
    found: dict[tuple[str, str, str, str], SbomComponent] = {}
    for entry in tree.entries:
        if entry.type is EntryType.FILE:
            for part in _find_in_file(directory / entry.path, entry.path):
                found.setdefault((part.kind, part.group, part.name, part.version), part)
    return sorted(found.values())


def _find_in_file(path: Path, name: str) -> Iterator[SbomComponent]:
    base = name.rpartition("/")[2]
    if name.endswith(".dist-info/METADATA"):
        with path.open("rb") as stream:
            yield from _read_python_metadata(stream, name)
    elif base == "package-lock.json":
        with path.open("rb") as stream:
            yield from _read_npm_package(stream, name)
    elif base.endswith((".whl", ".jar", ".war")) and zipfile.is_zipfile(path):
        yield from _find_in_archive(path, name)


def _find_in_archive(path: Path, name: str) -> Iterator[SbomComponent]:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.file_size > MAX_LABEL_BYTES or member.flag_bits & 1:
                    continue
                if member.filename.endswith(".dist-info/METADATA"):
                    with archive.open(member) as stream:
                        yield from _read_python_metadata(stream, name)
                elif member.filename.endswith("/pom.properties"):
                    with archive.open(member) as stream:
                        yield from _read_maven_properties(stream, name)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError):
        return  # not a valid archive, so it has no labels


def _read_text(stream: IO[bytes]) -> str:
    return stream.read(MAX_LABEL_BYTES).decode("utf-8", "replace")


def _read_python_metadata(stream: IO[bytes], path: str) -> Iterator[SbomComponent]:
    headers = HeaderParser().parsestr(_read_text(stream))
    name, version = headers.get("Name", ""), headers.get("Version", "")
    if name and version:
        yield SbomComponent("pypi", "", PYPI_SEPARATORS.sub("-", name).lower(), version, path)


def _read_maven_properties(stream: IO[bytes], path: str) -> Iterator[SbomComponent]:
    lines = (line.partition("=") for line in _read_text(stream).splitlines() if line[:1] != "#")
    values = {key.strip(): value.strip() for key, _, value in lines}
    if values.get("artifactId") and values.get("version"):
        yield SbomComponent(
            "maven", values.get("groupId", ""), values["artifactId"], values["version"], path
        )


def _read_npm_package(stream: IO[bytes], path: str) -> Iterator[SbomComponent]:
    try:
        packages = json.loads(stream.read(MAX_LABEL_BYTES + 1)).get("packages", {})
        items = list(packages.items())
    except (ValueError, AttributeError, RecursionError):
        return
    for place, about in items:
        if not (isinstance(about, dict) and place.startswith("node_modules/")):
            continue
        name, version = place.rpartition("node_modules/")[2], about.get("version")
        if isinstance(version, str) and not about.get("dev"):
            group, _, short = name.rpartition("/")
            yield SbomComponent("npm", group, short, version, path)


def make_sbom(manifest: Manifest, parts: Iterable[SbomComponent], epoch: int) -> bytes:
    """Make a reproducible CycloneDX document.

    Args:
        manifest: Manifest of the release.
        parts: The components, see :func:`find_components`.
        epoch: Its timestamp, seconds since 1970.
    """
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    listed = list(parts)
    product = Component(
        name=manifest.product,
        version=manifest.version,
        type=ComponentType.APPLICATION,
        bom_ref=f"{manifest.product}@{manifest.version}",
    )
    components = []
    for part in listed:
        url = PackageURL(part.kind, part.group or None, part.name, part.version)
        components.append(
            Component(
                name=part.name,
                group=part.group or None,
                version=part.version,
                type=ComponentType.LIBRARY,
                purl=url,
                bom_ref=url.to_string(),
                properties=[Property(name=PATH_PROPERTY, value=part.path)],
            )
        )
    about = BomMetaData(component=product, timestamp=datetime.fromtimestamp(epoch, UTC))
    serial_number = uuid.uuid5(
        uuid.NAMESPACE_URL, repr((manifest.product, manifest.version, listed))
    )
    bom = Bom(components=components, metadata=about, serial_number=serial_number)
    # Only the product's dependency on all components is known, not those among them.
    bom.register_dependency(product, components)
    written = json.loads(JsonV1Dot6(bom).output_as_string())
    # The library's name and version would make the result depend on the library.
    written["metadata"].pop("tools", None)
    return json.dumps(written, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def check_sbom(content: bytes, path: str, manifest: Manifest) -> int:
    """Validate an SBOM against schema and release; return its number of components.

    Raises:
        SBOM_INVALID: If it is too large, invalid, or belongs to another release.
    """
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    if len(content) > MAX_SBOM_BYTES:
        raise UpdaterError(SBOM_INVALID, path=path, detail=f"over {MAX_SBOM_BYTES} bytes")
    with report_errors(SBOM_INVALID, ValueError, path=path):
        data = parse_json(content)
    versions = {
        "1.4": SchemaVersion.V1_4, "1.5": SchemaVersion.V1_5, "1.6": SchemaVersion.V1_6,
    }  # fmt: skip
    version = versions.get(str(data.get("specVersion"))) if isinstance(data, dict) else None
    if version is None or not isinstance(data, dict):
        raise UpdaterError(SBOM_INVALID, path=path, detail="not CycloneDX 1.4 to 1.6")
    validator = JsonStrictValidator(version)
    mistake = validator.validate_str(content.decode("utf-8"))
    if mistake is not None:
        raise UpdaterError(SBOM_INVALID, path=path, detail=str(mistake)[:500])
    product = data.get("metadata", {}).get("component", {})
    if (product.get("name"), product.get("version")) != (manifest.product, manifest.version):
        named = f"{product.get('name')} {product.get('version')}"
        raise UpdaterError(
            SBOM_INVALID, path=path, detail=LazyText("belongs to {named}", {"named": named})
        )
    return len(data.get("components", []))


@dataclass(frozen=True)
class AttachmentReport:
    """Summary of a release's checked attachments.

    Attributes:
        component_count: Number of components in the SBOM; None without an SBOM.
        provenance: Predicate of the provenance; None without one.
        provenance_unchecked: Whether a provenance exists but was not verified with a key.
    """

    component_count: int | None
    provenance: Mapping[str, Any] | None
    provenance_unchecked: bool = False


@dataclass(frozen=True)
class AttachmentBuilder:
    """Options of ``build`` for attachments.

    Attributes:
        sbom: A file from the product's own build, ``auto`` to generate it, None for none.
        source: Source and builder; required with ``signer``.
        signer: The builder's key; None for no provenance.
    """

    sbom: Path | str | None = None
    source: BuildSource | None = None
    signer: Signer | None = None

    def make_sbom(
        self, directory: Path, tree: Tree, manifest: Manifest, targets: Path, epoch: int
    ) -> TargetRef | None:
        """Write the SBOM below ``targets``; remove that of an earlier build.

        Raises:
            SBOM_INVALID: If the supplied file cannot be read or is invalid.
        """
        name = get_sbom_target_name(manifest.product, manifest.version)
        if self.sbom is None:
            durable.remove_file(targets / name)
            return None
        if isinstance(self.sbom, Path):
            with report_errors(SBOM_INVALID, OSError, ValueError, path=self.sbom):
                content = read_file(self.sbom, MAX_SBOM_BYTES)
        else:
            content = make_sbom(manifest, find_components(directory, tree), epoch)
        check_sbom(content, str(self.sbom), manifest)
        return write_target(targets, name, content)

    def make_provenance(
        self, manifest: Manifest, subjects: tuple[TargetRef, ...], targets: Path, epoch: int
    ) -> TargetRef | None:
        """Write the provenance below ``targets``; remove that of an earlier build."""
        name = get_provenance_target_name(manifest.product, manifest.version)
        if self.signer is None or self.source is None:
            durable.remove_file(targets / name)
            return None
        content = make_provenance(
            manifest.product, manifest.version, subjects, self.source, epoch, self.signer
        )
        return write_target(targets, name, content)


def check_attachments(
    document: ReleaseDocument,
    files: Mapping[str, Path],
    builder: Key | None,
    *,
    allow_unchecked: bool = False,
) -> AttachmentReport:
    """Check the attachments of a release.

    Args:
        document: The release document.
        files: Paths of the targets, by name.
        builder: The builder's public key.
        allow_unchecked: Whether to accept a provenance without a key, and report that.

    Raises:
        PUBLISHER_TARGET_MISSING: If a file is missing, unreadable or differs.
        SBOM_INVALID, PROVENANCE_INVALID: If an attachment is invalid.
        BUILDER_KEY_MISSING: If there is a provenance and no key.
    """
    parts, predicate = None, None
    if document.sbom is not None:
        content = _read_pinned(document.sbom, files)
        parts = check_sbom(content, document.sbom.target, document.manifest)
    if document.provenance is not None:
        if builder is None and allow_unchecked:
            return AttachmentReport(parts, None, provenance_unchecked=True)
        if builder is None:
            raise UpdaterError(BUILDER_KEY_MISSING, path=document.provenance.target)
        wanted = [document.archive, document.tree, *([document.sbom] if document.sbom else [])]
        content = _read_pinned(document.provenance, files)
        predicate = check_provenance(content, document.provenance.target, builder, wanted)
    return AttachmentReport(parts, predicate)


def check_published_attachments(
    feed: FeedDirectory, product: str, version: str, builder: Key | None
) -> tuple[ReleaseDocument, AttachmentReport]:
    """Check the attachments of a published release, for auditors.

    Args:
        feed: Any copy of the feed, which is verified first.
        product: Product of the release.
        version: Version of the release.
        builder: The builder's public key.

    Raises:
        FEED_BROKEN: If the feed is incomplete or invalid.
        UNKNOWN_RELEASE: If it does not contain the version.
        UpdaterError: As :func:`check_attachments`.
    """
    role = feed.read_state().delegated.get(product)
    targets = role.signed.targets if role else {}
    signed = targets.get(get_release_target_name(product, version))
    if signed is None:
        raise UpdaterError(UNKNOWN_RELEASE, product=product, version=version)
    files = {name: feed.get_target_path(target) for name, target in targets.items()}
    name = signed.path
    ref = TargetRef(target=name, length=signed.length, sha256=signed.hashes["sha256"])
    document = parse_release_document(_read_pinned(ref, files), name)
    return document, check_attachments(document, files, builder)


def _read_pinned(ref: TargetRef, files: Mapping[str, Path]) -> bytes:
    path = files.get(ref.target)
    if path is None or not path.is_file() or path.stat().st_size != ref.length:
        raise UpdaterError(PUBLISHER_TARGET_MISSING, target=ref.target)
    with report_errors(PUBLISHER_TARGET_MISSING, OSError, ValueError, target=ref.target):
        content = read_file(path, MAX_SBOM_BYTES)
    if compute_sha256(content) != ref.sha256:
        raise UpdaterError(PUBLISHER_TARGET_MISSING, target=ref.target)
    return content


def write_target(targets: Path, name: str, content: bytes) -> TargetRef:
    """Write a target atomically; return its reference for the release document."""
    path = targets / name
    durable.make_directory(path.parent)
    durable.write_file(path, content)
    return TargetRef(target=name, length=len(content), sha256=compute_sha256(content))
