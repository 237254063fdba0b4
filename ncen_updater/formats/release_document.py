"""The release document: signed JSON that ties a manifest to its archive and tree.

It is the TUF target ``releases/<product>/<version>.json``. The *offer* is its short form in the
signed targets metadata (custom field ``ncen``), with which a site chooses a path without another
request.

Sites parse signed documents leniently, because they may be written for newer agents: they ignore
unknown fields and check everything else strictly. A field that an agent must understand comes with
an ``agent`` specifier that excludes older agents. The publisher, who writes these documents,
refuses unknown fields too.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from packaging.version import Version
from pydantic import Field, StringConstraints, ValidationError, model_validator

from ncen_updater.common.json_records import encode_canonical_json
from ncen_updater.formats.errors import ReleaseDocumentError, describe_excess, describe_mistakes
from ncen_updater.formats.manifest import (
    ByteCount,
    Channel,
    Country,
    Manifest,
    ProductName,
    SignedModel,
    SpecifierText,
    Urgency,
    VersionText,
)
from ncen_updater.formats.rollout import MAX_WAVES, ReleaseHalt, RolloutWave
from ncen_updater.formats.target_names import DELTAS_PREFIX, MAX_DOCUMENT_BYTES

FieldPath = tuple[int | str, ...]
Read = TypeVar("Read", bound=SignedModel)
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
MIN_CHUNK_BYTES, MAX_CHUNKS = 4 << 20, 32
#: Fields of an offer that signers may change later without making it another release.
ROLLOUT_FIELDS = ("channel", "countries", "waves", "halted", "withdrawn")


def get_archive_target_name(product: str, version: str) -> str:
    """Return the target name of the full archive: without a directory, as tufup expects it."""
    return f"{product}-{version}.tar.gz"


def get_release_target_name(product: str, version: str) -> str:
    """Return the target name of the release document."""
    return f"releases/{product}/{version}.json"


def get_tree_target_name(product: str, version: str) -> str:
    """Return the target name of the compressed tree."""
    return f"trees/{product}/{version}.json.zst"


def get_delta_target_name(product: str, origin: str, version: str) -> str:
    """Return the target name of the delta pack from one release directly to another."""
    return f"deltas/{product}/{origin}--{version}"


def get_sbom_target_name(product: str, version: str) -> str:
    """Return the target name of the SBOM (CycloneDX)."""
    return f"sbom/{product}/{version}.cdx.json"


def get_provenance_target_name(product: str, version: str) -> str:
    """Return the target name of the builder's provenance statement (in-toto)."""
    return f"provenance/{product}/{version}.intoto.json"


def list_release_targets(product: str, version: str, names: Iterable[str]) -> list[str]:
    """Return the target names of a release that are in ``names``, then that of its document. Pure.

    Its packs are those that lead to it.
    """
    document = get_release_target_name(product, version)
    own = {
        get_archive_target_name(product, version),
        get_tree_target_name(product, version),
        get_sbom_target_name(product, version),
        get_provenance_target_name(product, version),
    }
    packs, to_it = f"{DELTAS_PREFIX}{product}/", f"--{version}"
    found = [n for n in names if n in own or (n.startswith(packs) and n.endswith(to_it))]
    return [*sorted(found), document]


class TargetRef(SignedModel):
    """A TUF target of a release, with its length and digest repeated in the release document."""

    target: Annotated[str, StringConstraints(min_length=1, max_length=300)]
    length: ByteCount
    sha256: Sha256


class ChunkDigests(SignedModel):
    """Digests of the chunks of a large file, so that a wrong byte costs one chunk, not the file.

    Attributes:
        size: Bytes of each chunk except the last.
        sha256: Digest of each chunk, in order.
    """

    size: Annotated[int, Field(ge=1, lt=2**63)]
    sha256: Annotated[tuple[Sha256, ...], Field(max_length=1000)]


def compute_chunk_bytes(length: int) -> int:
    """Return the chunk size for a file: 4 MiB, doubled until the file has at most 32 chunks.

    This limits the digests in the release document to 2.2 kB, whatever the size of the file.
    """
    size = MIN_CHUNK_BYTES
    while size * MAX_CHUNKS < length:
        size *= 2
    return size


class DeltaRef(TargetRef):
    """A delta pack, which converts the tree of an earlier release into the tree of this one.

    The limits are signed here, and the agent enforces them when it applies the pack.

    Attributes:
        from_version: The earlier release, for display and for the target name.
        from_tree: Digest of its tree; the pack applies to no other tree.
        out_bytes: Total bytes of all files of the resulting tree.
        out_files: Number of entries of the resulting tree.
        max_memory_bytes: Maximum memory needed to apply the pack.
        needs: Capabilities that the agent must have.
    """

    from_version: VersionText
    from_tree: Sha256
    out_bytes: ByteCount
    out_files: ByteCount
    max_memory_bytes: ByteCount
    needs: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]{1,60}$")], ...],
        Field(max_length=20),
    ] = ()


class Withdrawal(SignedModel):
    """A withdrawal: the reason, and the advice to sites that run the release."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    advice: Annotated[str, StringConstraints(max_length=1000)] = ""


class Offer(SignedModel):
    """A release in the signed targets metadata, with the fields needed to choose a path.

    Attributes:
        unpacked_bytes: Total bytes of all files of the tree.
        archive: The full archive.
        deltas: Bytes of each delta pack, by the version that it starts from.
        waves: When the release opens to which sites; without waves, to all at once.
        halted: Set while no more sites shall start to install the release.
        withdrawn: Set if the Secretariat withdrew the release.
    """

    product: ProductName
    version: VersionText
    upgrade_from: SpecifierText
    required: bool = False
    channel: Channel = Channel.STABLE
    urgency: Urgency = Urgency.ROUTINE
    agent: SpecifierText = ">=0.1"
    countries: tuple[Country, ...] = ()
    archive: TargetRef
    unpacked_bytes: ByteCount
    deltas: Annotated[dict[VersionText, ByteCount], Field(max_length=100)] = Field(
        default_factory=dict
    )
    waves: Annotated[tuple[RolloutWave, ...], Field(max_length=MAX_WAVES)] = ()
    halted: ReleaseHalt | None = None
    withdrawn: Withdrawal | None = None

    @property
    def release_version(self) -> Version:
        """Return the parsed version."""
        return Version(self.version)

    def is_same_release(self, other: Offer) -> bool:
        """Return whether both are the same release, ignoring the fields of the rollout."""
        return (
            self.model_copy(update={name: getattr(other, name) for name in ROLLOUT_FIELDS}) == other
        )

    def count_download_bytes(self, origin: str | None) -> int:
        """Return the bytes of the smallest complete download for a site that runs ``origin``."""
        return min(self.archive.length, self.deltas.get(origin or "", self.archive.length))


class ReleaseDocument(SignedModel):
    """A complete release.

    Attributes:
        tree: The compressed tree (zstd).
        tree_digest: Digest of the uncompressed canonical JSON of the tree.
        tree_bytes: Length of that JSON; decompression stops there.
        migrations: SHA-256 of every file named in the manifest, by its path in the tree.
        deltas: Delta packs to this release. A site that uses one does not download the tree.
        archive_chunks: Digests of the chunks of the archive; a small archive has none.
        sbom: The SBOM, for auditors; sites do not download it.
        provenance: The builder's provenance statement, for auditors.
    """

    schema_: Annotated[Literal[1], Field(alias="schema")]
    manifest: Manifest
    archive: TargetRef
    tree: TargetRef
    tree_digest: Sha256
    tree_bytes: ByteCount
    unpacked_bytes: ByteCount
    migrations: dict[str, Sha256] = Field(default_factory=dict)
    deltas: Annotated[tuple[DeltaRef, ...], Field(max_length=100)] = ()
    archive_chunks: ChunkDigests | None = None
    sbom: TargetRef | None = None
    provenance: TargetRef | None = None

    @model_validator(mode="after")
    def _check_chunk_count(self) -> ReleaseDocument:
        chunks = self.archive_chunks
        if chunks and len(chunks.sha256) != -(-self.archive.length // chunks.size):
            raise ValueError("chunk digests do not cover the archive")
        return self

    def to_canonical_json(self) -> bytes:
        """Return the signed canonical JSON."""
        return encode_canonical_json(self.model_dump(mode="json", by_alias=True, exclude_none=True))

    def to_offer(self) -> Offer:
        """Return the offer for the targets metadata."""
        manifest = self.manifest
        return Offer(
            product=manifest.product,
            version=manifest.version,
            upgrade_from=manifest.upgrade_from,
            required=manifest.required,
            channel=manifest.channel,
            urgency=manifest.urgency,
            agent=manifest.agent,
            countries=manifest.countries,
            archive=self.archive,
            unpacked_bytes=self.unpacked_bytes,
            deltas={ref.from_version: ref.length for ref in self.deltas},
        )


def parse_release_document(
    content: bytes, source: str, *, lenient: bool = False
) -> ReleaseDocument:
    """Parse a release document.

    Args:
        content: The JSON.
        source: Its name for error messages.
        lenient: Whether to ignore unknown fields, as sites do.

    Raises:
        ReleaseDocumentError: If it is too large, not JSON, or does not match the schema.
    """
    if len(content) > MAX_DOCUMENT_BYTES:
        detail = describe_excess(len(content), MAX_DOCUMENT_BYTES)
        raise ReleaseDocumentError(source=source, detail=detail)
    try:
        data = json.loads(content)
        if lenient:
            return parse_leniently(ReleaseDocument, data)
        return ReleaseDocument.model_validate(data)
    except (ValidationError, ValueError, RecursionError) as error:
        raise ReleaseDocumentError(
            source=source, detail=describe_mistakes(error, source)
        ) from error


def drop_fields(data: Mapping[str, Any], paths: Iterable[FieldPath]) -> dict[str, Any]:
    """Return a copy of data without the fields at some paths; absent ones are ignored. Pure."""
    result = copy.deepcopy(dict(data))
    for *tables, name in paths:
        table: Any = result
        try:
            for part in tables:
                table = table[part]
            del table[name]
        except (KeyError, IndexError, TypeError):
            continue
    return result


def parse_leniently(model: type[Read], data: object) -> Read:
    """Validate signed data, ignoring unknown fields.

    Args:
        model: The expected model.
        data: The signed data.

    Raises:
        ValidationError: If the data is invalid in any other way.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        unknown = [item["loc"] for item in found if item["type"] == "extra_forbidden"]
        if not unknown or not isinstance(data, Mapping):
            raise
        return model.model_validate(drop_fields(data, unknown))
