"""The release document: the signed JSON that ties a manifest to its archive and tree.

It is the TUF target ``releases/<product>/<version>.json``. The *offer* is the short form that
travels inside the signed targets metadata (custom field ``ncen``), so that a site can decide what
concerns it without a further request.

Signed documents that were written for newer agents are parsed leniently. A name that an agent must
understand comes with an ``agent`` that shuts out those that do not. So a site passes over names
that it does not know; everything else is read as strictly as ever, and the publisher, who writes
these documents, refuses unknown names as well.
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
from ncen_updater.formats.target_names import MAX_DOCUMENT_BYTES

FieldPath = tuple[int | str, ...]
Read = TypeVar("Read", bound=SignedModel)
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
MIN_CHUNK_BYTES, MAX_CHUNKS = 4 << 20, 32
#: Fields of an offer that signers may sign again while the release stays what it is.
ROLLOUT_FIELDS = ("channel", "countries", "waves", "halted", "withdrawn")


def get_archive_target_name(product: str, version: str) -> str:
    """Name of the full archive: flat, as a tufup client expects it."""
    return f"{product}-{version}.tar.gz"


def get_release_target_name(product: str, version: str) -> str:
    """Name of the release document."""
    return f"releases/{product}/{version}.json"


def get_tree_target_name(product: str, version: str) -> str:
    """Name of the compressed tree."""
    return f"trees/{product}/{version}.json.zst"


def get_delta_target_name(product: str, origin: str, version: str) -> str:
    """Name of the delta pack that leads from one release straight to another."""
    return f"deltas/{product}/{origin}--{version}"


def get_sbom_target_name(product: str, version: str) -> str:
    """Name of the list of parts (CycloneDX)."""
    return f"sbom/{product}/{version}.cdx.json"


def get_provenance_target_name(product: str, version: str) -> str:
    """Name of the builder's statement (in-toto)."""
    return f"provenance/{product}/{version}.intoto.json"


class TargetRef(SignedModel):
    """A TUF target that belongs to a release, pinned a second time by its digest."""

    target: Annotated[str, StringConstraints(min_length=1, max_length=300)]
    length: ByteCount
    sha256: Sha256


class ChunkDigests(SignedModel):
    """Digests of the parts of a large file: wrong bytes on the way cost a part and not the file.

    Attributes:
        size: Bytes of each part but the last.
        sha256: Of each part, in their order.
    """

    size: Annotated[int, Field(ge=1, lt=2**63)]
    sha256: Annotated[tuple[Sha256, ...], Field(max_length=1000)]


def compute_chunk_bytes(length: int) -> int:
    """Size of the parts of a file: 4 MiB, doubled until there are at most 32 of them.

    So the digests stay below 2.2 kB in the release document, whatever the size of the file.
    """
    size = MIN_CHUNK_BYTES
    while size * MAX_CHUNKS < length:
        size *= 2
    return size


class DeltaRef(TargetRef):
    """A delta pack: how the tree of an earlier release becomes that of this one.

    What a pack may do to the machine that applies it is signed here and enforced there.

    Attributes:
        from_version: The earlier release, for people and for the name.
        from_tree: Digest of its tree; the pack fits no other.
        out_bytes: Bytes of all files of the tree that comes out.
        out_files: Number of its entries.
        max_memory_bytes: The most memory that applying it asks for.
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
    """A release taken back: why, and what sites that have it should do."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    advice: Annotated[str, StringConstraints(max_length=1000)] = ""


class Offer(SignedModel):
    """What the signed metadata say of one release, enough to choose a path.

    Attributes:
        unpacked_bytes: Bytes of all files of the tree.
        archive: The full archive.
        deltas: Bytes of each delta pack, by the version that it starts from.
        waves: When it opens to which sites; to all of them at once if there is none.
        halted: Set while no further site shall begin with it.
        withdrawn: Set when the Secretariat took the release back.
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
        """Return the version, parsed."""
        return Version(self.version)

    def is_same_release(self, other: Offer) -> bool:
        """Tell whether both name the same release, whatever was signed since of who may have it."""
        return (
            self.model_copy(update={name: getattr(other, name) for name in ROLLOUT_FIELDS}) == other
        )

    def count_download_bytes(self, origin: str | None) -> int:
        """Bytes of the smallest file that brings it to a site that runs ``origin``, whole."""
        return min(self.archive.length, self.deltas.get(origin or "", self.archive.length))


class ReleaseDocument(SignedModel):
    """One release, whole.

    Attributes:
        tree: The compressed tree (zstd); ``tree_digest`` is that of its uncompressed byte form.
        tree_bytes: Length of the uncompressed byte form, the most that may come out.
        migrations: SHA-256 of every file that the manifest names, by its path in the tree.
        deltas: The delta packs that lead here. A site that uses one does not fetch the tree.
        archive_chunks: Digests of the parts of the archive; a small one has none.
        sbom: The list of parts, for auditors; sites do not fetch it.
        provenance: The builder's statement, likewise.
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
            raise ValueError("part digests do not cover the archive")
        return self

    def to_canonical_json(self) -> bytes:
        """Return the signed byte form."""
        return encode_canonical_json(self.model_dump(mode="json", by_alias=True, exclude_none=True))

    def to_offer(self) -> Offer:
        """Return the short form for the targets metadata."""
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
    """Read a release document from its byte form.

    Args:
        content: The bytes.
        source: Where they are from, for words.
        lenient: Whether names that are not known are passed over, as sites do.

    Raises:
        ReleaseDocumentError: If it is too large, not JSON, or breaks the schema.
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


def drop_fields(data: Mapping[str, Any], places: Iterable[FieldPath]) -> dict[str, Any]:
    """Return data without what stands at some places, where something does; pure."""
    result = copy.deepcopy(dict(data))
    for *tables, name in places:
        table: Any = result
        try:
            for part in tables:
                table = table[part]
            del table[name]
        except (KeyError, IndexError, TypeError):
            continue
    return result


def parse_leniently(model: type[Read], data: object) -> Read:
    """Read a document, passing over names that are not known.

    Args:
        model: Its form.
        data: What was signed.

    Raises:
        ValidationError: If it is wrong in any other way.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        unknown = [item["loc"] for item in found if item["type"] == "extra_forbidden"]
        if not unknown or not isinstance(data, Mapping):
            raise
        return model.model_validate(drop_fields(data, unknown))
