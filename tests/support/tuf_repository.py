"""Small feed with real signatures, in which tests can change every part."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from backports import zstd
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (  # type: ignore[attr-defined]
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from ncen_updater.common.json_records import compute_sha256
from ncen_updater.formats.manifest import parse_manifest
from ncen_updater.formats.release_document import (
    ReleaseDocument,
    TargetRef,
    get_archive_target_name,
    get_release_target_name,
    get_tree_target_name,
)
from ncen_updater.formats.tree import EntryType, Tree, scan_tree

TOP_ROLES = {"root": (3, 2), "targets": (2, 2), "snapshot": (1, 1), "timestamp": (1, 1)}
PERIODS = {"root": 365, "targets": 365, "snapshot": 30, "timestamp": 7}
PRODUCTS = ("ncen", "ncen-updater")


def pack(tree: Tree, source: Path) -> bytes:
    """Pack a directory like the publisher: sorted, without owners and times."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in tree.entries:
            info = tarfile.TarInfo(entry.path)
            info.mode = entry.mode
            if entry.type is EntryType.DIRECTORY:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif entry.type is EntryType.SYMLINK:
                info.type, info.linkname = tarfile.SYMTYPE, entry.target or ""
                tar.addfile(info)
            else:
                info.size = entry.size
                with (source / entry.path).open("rb") as stream:
                    tar.addfile(info, stream)
    return gzip.compress(raw.getvalue(), 1, mtime=0)


def ref(target: str, content: bytes) -> TargetRef:
    """Return the target reference of some bytes."""
    return TargetRef(target=target, length=len(content), sha256=compute_sha256(content))


@dataclass
class Built:
    """Files of a release before signing."""

    document: ReleaseDocument
    files: dict[str, bytes]


def build_release(
    directory: Path,
    version: str,
    *,
    product: str = "ncen",
    content: dict[str, bytes] | None = None,
    manifest: dict[str, object] | None = None,
) -> Built:
    """Build archive, tree and document of a small release."""
    source = directory / f"source-{product}-{version}"
    shutil.rmtree(source, ignore_errors=True)
    for name, data in (content or {"bin/app": b"x" * 5000, "VERSION": version.encode()}).items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o644)
    (source / "link").symlink_to(next(iter(sorted(p.name for p in source.iterdir()))))
    for item in source.rglob("*"):
        if item.is_dir() and not item.is_symlink():
            item.chmod(0o755)
    tree = scan_tree(source)
    archive, tree_file = pack(tree, source), zstd.compress(tree.to_canonical_json())
    head: dict[str, object] = {"schema": 1, "product": product, "version": version}
    document = ReleaseDocument.model_validate(
        {
            "schema": 1,
            "manifest": parse_manifest({**head, **(manifest or {})}, "test"),
            "archive": ref(get_archive_target_name(product, version), archive),
            "tree": ref(get_tree_target_name(product, version), tree_file),
            "tree_digest": tree.compute_digest(),
            "tree_bytes": len(tree.to_canonical_json()),
            "unpacked_bytes": tree.total_bytes,
        }
    )
    files = {
        get_archive_target_name(product, version): archive,
        get_tree_target_name(product, version): tree_file,
        get_release_target_name(product, version): document.to_canonical_json(),
    }
    return Built(document, files)


@dataclass
class Feed:
    """A feed in a directory: ``metadata/`` and ``targets/``.

    Change ``roles`` (the ``signed`` parts), ``files`` or ``signers`` and call :meth:`publish`.
    """

    directory: Path
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    signers: dict[str, list[CryptoSigner]] = field(default_factory=dict)
    roles: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    published: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for role, (count, _) in {**TOP_ROLES, **dict.fromkeys(PRODUCTS, (2, 2))}.items():
            self.signers[role] = [CryptoSigner.generate_ed25519() for _ in range(count)]
        root = Root(consistent_snapshot=True, expires=self.expiry("root"))
        for role, (_, threshold) in TOP_ROLES.items():
            for signer in self.signers[role]:
                root.add_key(signer.public_key, role)
            root.roles[role].threshold = threshold
        self.roles["root"] = root
        targets = Targets(expires=self.expiry("targets"))
        keys = {s.public_key.keyid: s.public_key for p in PRODUCTS for s in self.signers[p]}
        targets.delegations = Delegations(
            keys,
            {
                product: DelegatedRole(
                    product,
                    [s.public_key.keyid for s in self.signers[product]],
                    2,
                    True,
                    paths=[f"{product}-[0-9]*", f"releases/{product}/*", f"trees/{product}/*"],
                )
                for product in PRODUCTS
            },
        )
        self.roles["targets"] = targets
        for product in PRODUCTS:
            self.roles[product] = Targets(expires=self.expiry("targets"))
        self.roles["snapshot"] = Snapshot(expires=self.expiry("snapshot"))
        self.roles["timestamp"] = Timestamp(expires=self.expiry("timestamp"))
        for role in self.roles.values():
            role.version = 0  # the first publication raises it to 1
        self.publish()

    def expiry(self, role: str) -> datetime:
        """Return when a role signed now expires."""
        return self.now + timedelta(days=PERIODS.get(role, 365))

    @property
    def metadata(self) -> Path:
        """Return the directory of the served metadata."""
        return self.directory / "metadata"

    @property
    def targets(self) -> Path:
        """Return the directory of the served target files."""
        return self.directory / "targets"

    def trusted_root(self, path: Path, version: int = 1) -> Path:
        """Copy a root to the path where an agent has it installed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((self.metadata / f"{version}.root.json").read_bytes())
        return path

    def sign(self, role: str, signers: list[CryptoSigner] | None = None) -> bytes:
        """Return a role's metadata, signed by its keys or by others."""
        metadata = Metadata(self.roles[role])
        for signer in self.signers[role] if signers is None else signers:
            metadata.sign(signer, append=True)
        return bytes(metadata.to_bytes())

    def write(self, name: str, content: bytes) -> None:
        """Write one metadata file."""
        self.metadata.mkdir(parents=True, exist_ok=True)
        (self.metadata / name).write_bytes(content)

    def rotate_root(self) -> None:
        """Sign and serve the next version of root with its present content."""
        self.roles["root"].version += 1
        self.write(f"{self.roles['root'].version}.root.json", self.sign("root"))

    def publish(self, *roles: str, keep_expiry: bool = False) -> None:
        """Raise the versions of the named roles (all but root by default) and serve them."""
        if self.roles["root"].version == 0:
            self.rotate_root()
        for role in roles or ("targets", *PRODUCTS):
            if role in ("snapshot", "timestamp"):
                continue
            signed = self.roles[role]
            signed.version += 1
            if not keep_expiry:
                signed.expires = self.expiry(role)
            self.write(f"{signed.version}.{role}.json", self.sign(role))
            self.roles["snapshot"].meta[f"{role}.json"] = MetaFile(signed.version)
        for role in ("snapshot", "timestamp"):
            signed = self.roles[role]
            signed.version += 1
            if not keep_expiry:
                signed.expires = self.expiry(role)
        snapshot = self.roles["snapshot"]
        self.write(f"{snapshot.version}.snapshot.json", self.sign("snapshot"))
        self.roles["timestamp"].snapshot_meta = MetaFile(snapshot.version)
        self.write("timestamp.json", self.sign("timestamp"))

    def add_file(
        self, role: str, name: str, content: bytes, custom: dict[str, object] | None = None
    ) -> None:
        """Add a file to the targets of a role and serve it."""
        target = TargetFile.from_data(name, content, ["sha256"])
        if custom is not None:
            target.unrecognized_fields["custom"] = custom
        self.roles[role].targets[name] = target
        self.serve(name, content)

    def serve(self, name: str, content: bytes, digest: str | None = None) -> Path:
        """Serve bytes at the path for this digest (by default their own)."""
        directory, _, base = name.rpartition("/")
        path = self.targets / directory / f"{digest or hashlib.sha256(content).hexdigest()}.{base}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def add_release(
        self,
        version: str,
        *,
        product: str = "ncen",
        role: str | None = None,
        change_offer: Callable[[dict[str, object]], None] | None = None,
        content: dict[str, bytes] | None = None,
        manifest: dict[str, object] | None = None,
    ) -> Built:
        """Build a release and add its files as targets; call :meth:`publish` afterwards."""
        built = build_release(
            self.directory, version, product=product, content=content, manifest=manifest
        )
        offer = built.document.to_offer().model_dump(mode="json", exclude_none=True)
        if change_offer is not None:
            change_offer(offer)
        for name, data in built.files.items():
            custom: dict[str, object] | None = (
                {"ncen": offer} if name.startswith("releases/") else None
            )
            self.add_file(role or product, name, data, custom)
        return built

    def served(self, target: TargetRef) -> Path:
        """Return the served path of a file of a release."""
        directory, _, base = target.target.rpartition("/")
        return self.targets / directory / f"{target.sha256}.{base}"
