"""SBOM and provenance of a release: made by the build, checked before anyone signs.

The provenance states what built a release and from which source: an in-toto statement (SLSA
provenance v1) in a DSSE envelope, signed by the builder's own key. It has no time and no machine
name, so that the same build gives the same bytes. Sites do not trust the builder's key.

The SBOM (CycloneDX) comes from the product's own build or from a scanner, and is checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from ncen_updater.publisher.errors import describe_system_error, report_errors
from ncen_updater.publisher.feed.feed_directory import FeedDirectory

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
#: What 'build' does; described in docs/reference/release-format.md.
BUILD_TYPE = f"{STATEMENT_TYPES}/build/v1"
MAX_PROVENANCE_BYTES = 1_000_000
MAX_SBOM_BYTES = 50_000_000


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
        sbom: File with the SBOM; None for none.
        source: Source and builder; required with ``signer``.
        signer: The builder's key; None for no provenance.
    """

    sbom: Path | None = None
    source: BuildSource | None = None
    signer: Signer | None = None

    def copy_sbom(self, manifest: Manifest, targets: Path) -> TargetRef | None:
        """Copy the SBOM below ``targets``; remove that of an earlier build.

        Raises:
            SBOM_INVALID: If the file cannot be read or is invalid.
        """
        name = get_sbom_target_name(manifest.product, manifest.version)
        if self.sbom is None:
            durable.remove_file(targets / name)
            return None
        with report_errors(SBOM_INVALID, OSError, ValueError, path=self.sbom):
            content = read_file(self.sbom, MAX_SBOM_BYTES)
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
