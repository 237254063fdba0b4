"""Verify metadata and downloads again, in the process that uses them.

The process that reads the feed is exposed to the network and writes only to its own directory. So
the process that builds a slot does not trust that directory. It verifies the chain again, from the
newest root in the trust state or the installed one: every later root, the targets metadata and the
product's metadata, each by its signatures, down to the release document. This needs no network and
ignores expiry. No metadata may be older than the trust state
(:mod:`~ncen_updater.feed.trust_state`).

Offers are read from the same metadata. For them snapshot and timestamp must match as well, because
they show that the metadata is the newest.

In the metadata directory::

    root_history/N.root.json    every root after the installed one
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar, cast

from tuf.api.exceptions import DownloadError, RepositoryError, UnsignedMetadataError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # exported in fact only
    Metadata,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import read_file
from ncen_updater.common.errors import UpdaterError, get_error_text
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import within_calendar
from ncen_updater.common.messages import (
    LOCAL_STORE_FAILED,
    METADATA_NOT_VERIFIED,
    METADATA_OLDER_THAN_TRUSTED,
    OFFER_INVALID,
    ROOTS_HIDDEN,
    TRUST_STATE_DAMAGED,
)
from ncen_updater.feed.emergency_halt_statements import (
    apply_emergency_halts,
    update_known_halts,
    verify_emergency_halts,
)
from ncen_updater.feed.errors import (
    MixedVersionsError,
    TrustedRootMissingError,
    TrustError,
    UnverifiedDownloadError,
)
from ncen_updater.feed.feed_summary import KnownEmergencyHalt, list_active_halts
from ncen_updater.feed.offers import FeedView, parse_offers
from ncen_updater.feed.trust_state import (
    RoleVerification,
    TrustState,
    TrustStateStore,
    VerifiedRole,
    VerifiedSet,
    record_roles,
    record_verified_set,
)
from ncen_updater.formats.release_document import Offer, get_release_target_name
from ncen_updater.formats.target_names import (
    ISSUE_TIME_FIELD,
    ROLE_FIELD,
    ROOT_HISTORY,
    ROOT_VERSION_FIELD,
)

T = TypeVar("T", Targets, Snapshot, Timestamp)

logger = logging.getLogger(__name__)

MAX_ROLE_BYTES = {"root": 512_000, "timestamp": 16_384, "snapshot": 2_000_000, "targets": 5_000_000}
#: Latest expiry in use, so that adding a grace or a time zone cannot overflow ``datetime``.
_MAX_EXPIRY = datetime(9000, 1, 1, tzinfo=UTC)
DIGEST_DIGITS = {"sha256": 64, "sha512": 128}


class RootChain:
    """The stored roots, from the installed one on.

    Args:
        trusted_root: Path of the installed root.
        directory: The metadata directory.
        history: Directory of the later roots; by default ``root_history`` in the metadata
            directory.
    """

    def __init__(self, trusted_root: Path, directory: Path, history: Path | None = None) -> None:
        self._trusted_root, self._history = trusted_root, history or directory / ROOT_HISTORY
        self._stored = directory / "root.json"

    def find_newest_root(self, verified_root: bytes) -> tuple[Root, bytes]:
        """Return the last root of the unbroken chain, and its bytes.

        Args:
            verified_root: A root verified earlier; the chain starts there unless the installed root
                is newer.

        Raises:
            TrustedRootMissingError: If the installed root cannot be used.
        """
        newest, content = _load_installed_root(self._trusted_root)
        if verified_root and (before := parse_root(verified_root).signed).version > newest.version:
            newest, content = before, verified_root
        while (later := self._load_successor(newest)) is not None:
            newest, content = later
        return newest, content

    def _load_successor(self, root: Root) -> tuple[Root, bytes] | None:
        path = self._history / f"{root.version + 1}.root.json"
        try:
            content = read_file(path, get_max_role_bytes("root"))
            return verify_successor(root, content), content
        except FileNotFoundError:
            return None
        except (OSError, RepositoryError) as error:
            logger.warning("%s does not continue the root chain: %s", path, error)
            return None

    def store_root(self, version: int, content: bytes) -> None:
        """Store a verified root."""
        durable.make_directory(self._history)
        durable.write_file(self._history / f"{version}.root.json", content)

    def download_missing_roots(self, version: int, download: Callable[[int], bytes]) -> None:
        """Download roots that are missing in the history, up to a verified version.

        If a root cannot be downloaded, the next download fails with an error that names it.
        """
        root, _ = self.find_newest_root(b"")
        while root.version < version:
            try:
                last = root.version + 1 == version  # the newest root is stored locally
                limit = get_max_role_bytes("root")
                content = read_file(self._stored, limit) if last else download(root.version + 1)
                later = verify_successor(root, content)
            except (DownloadError, RepositoryError) as error:
                logger.warning("root %d could not be downloaded again: %s", root.version + 1, error)
                return
            self.store_root(later.version, content)
            root = (self._load_successor(later) or (later,))[0]


def parse_root(content: bytes) -> Metadata[Root]:
    """Parse a root without verifying it.

    Raises:
        RepositoryError: If it is no root.
    """
    metadata = Metadata[Root].from_bytes(content)
    if not isinstance(metadata.signed, Root):
        raise RepositoryError("not root metadata")
    return metadata


def _load_root(path: Path) -> tuple[Root, bytes]:
    """Return a root that its own keys signed, and its bytes."""
    content = read_file(path, get_max_role_bytes("root"))
    root = parse_root(content)
    root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    return root.signed, content


def _load_installed_root(path: Path) -> tuple[Root, bytes]:
    try:
        return _load_root(path)
    except (OSError, RepositoryError) as error:
        raise TrustedRootMissingError(path=path, detail=get_error_text(error)) from error


def verify_successor(root: Root, content: bytes) -> Root:
    """Return the next root, which both its predecessor and its own keys signed.

    Raises:
        RepositoryError: If it is not the next root.
    """
    later = parse_root(content)
    root.verify_delegate("root", later.signed_bytes, later.signatures)
    later.signed.verify_delegate("root", later.signed_bytes, later.signatures)
    if later.signed.version != root.version + 1:
        raise RepositoryError(
            LazyText(
                N_("root {found} instead of root {expected}"),
                {"found": later.signed.version, "expected": root.version + 1},
            )
        )
    return later.signed


def _verify_role(
    content: bytes, role: str, delegator: Root | Targets, kind: type[T]
) -> tuple[T, RoleVerification]:
    """Verify a role's metadata by its signatures."""
    metadata = Metadata.from_bytes(content)
    if not isinstance(metadata.signed, kind):
        raise RepositoryError(LazyText(N_("{role}: metadata of another type"), {"role": role}))
    result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    if not result:
        raise UnsignedMetadataError(
            LazyText(
                N_("{role}: valid signatures: {count}"), {"role": role, "count": len(result.signed)}
            )
        )
    signed = metadata.signed
    issued = None
    if isinstance(signed, Targets):
        require_role(signed, role)
        issued = read_issue_time(signed)
    verified = VerifiedRole(int(signed.version), tuple(sorted(result.signed)), issued)
    keys = frozenset({*result.signed, *result.unsigned})
    return signed, RoleVerification(verified, keys, int(result.threshold))


@dataclass(frozen=True)
class VerifiedProduct:
    """A product's verified metadata, with the metadata that delegates to it.

    Attributes:
        root: The newest root.
        targets: The top-level targets metadata.
        product: The product's targets metadata.
        files: Target files within the paths delegated to the product.
    """

    root: Root
    targets: Targets
    product: Targets
    files: Mapping[str, TargetFile]


class MetadataVerifier:
    """Verifies metadata in a directory that another process writes, each file once.

    Args:
        metadata_directory: The metadata directory.
        trusted_root: The root that was installed with the agent.
        trust_state: The trust state, which a process exposed to the network cannot write.
    """

    def __init__(
        self, metadata_directory: Path, trusted_root: Path, trust_state: TrustStateStore
    ) -> None:
        self._directory, self._trusted_root, self._trust_state = (
            metadata_directory,
            trusted_root,
            trust_state,
        )

    def _read_role(self, role: str) -> bytes:
        return read_file(self._directory / f"{role}.json", get_max_role_bytes(role))

    @functools.cached_property
    def _root(self) -> Root:
        """Verify the newest root, and store it in the trust state.

        Raises:
            TrustError: If the trust state cannot be read or written.
            TrustedRootMissingError: If the installed root cannot be used.
        """
        chain = RootChain(self._trusted_root, self._directory)
        metadata, content = chain.find_newest_root(self._trust_state.load().root.encode())

        def replace_root(before: TrustState) -> TrustState:
            if metadata.version <= before.root_version:
                return before
            return replace(before, root=content.decode(), root_version=int(metadata.version))

        self._trust_state.update(replace_root)
        return metadata

    def verify_product(self, product: str) -> VerifiedProduct:
        """Verify the chain of signatures to a product's metadata.

        Raises:
            RepositoryError, OSError: If the chain is broken or a file cannot be read.
            UpdaterError: If metadata is older than the trust state.
        """
        root = self._root
        targets, of_targets = _verify_role(self._read_role("targets"), "targets", root, Targets)
        signed, of_product = _verify_role(self._read_role(product), product, targets, Targets)
        self._record_roles({"targets": of_targets, product: of_product})
        roles = targets.delegations.roles if targets.delegations is not None else None
        role = (roles or {}).get(product)
        files = {
            name: file
            for name, file in signed.targets.items()
            if role is not None and role.is_delegated_path(name) and is_safe_target_path(name)
        }
        return VerifiedProduct(root, targets, signed, files)

    def record_import(self) -> None:
        """Store in the trust state that this metadata came from an offline bundle.

        Raises:
            RepositoryError, OSError: If the metadata does not verify.
        """
        version = int(self._timestamp[0].version)
        self._trust_state.update(lambda before: replace(before, offline_timestamp_version=version))

    @functools.cached_property
    def _timestamp(self) -> tuple[Timestamp, RoleVerification]:
        return _verify_role(self._read_role("timestamp"), "timestamp", self._root, Timestamp)

    def verify_complete_set(
        self, product: str, grace: timedelta, offline_grace: timedelta
    ) -> tuple[VerifiedProduct, datetime]:
        """Verify a product's metadata, and that snapshot and timestamp name the same versions.

        Args:
            product: The product.
            grace: How long timestamp and snapshot are accepted after they expire.
            offline_grace: The same for metadata from an offline bundle.

        Returns:
            The metadata, and when the first of its roles expires. If an interrupted reader left
            roles of different versions, the expiry of the last complete verification of this
            version is returned.

        Raises:
            RepositoryError, OSError: If the chain is broken or a file cannot be read.
            UpdaterError: If metadata is older than the trust state, or the versions do not match.
        """
        root, (timestamp, of_timestamp) = self._root, self._timestamp
        before = self._trust_state.load()
        # Before the first verification it is unknown whether the metadata came from a bundle.
        if before.offline_timestamp_version == timestamp.version or not before.roles:
            grace = max(grace, offline_grace)
        version = timestamp.snapshot_meta.version
        snapshot, of_snapshot = _verify_role(
            self._read_role("snapshot"), "snapshot", root, Snapshot
        )
        newest = timestamp.unrecognized_fields.get(ROOT_VERSION_FIELD)
        if isinstance(newest, int) and newest > root.version:
            raise TrustError(ROOTS_HIDDEN, version=root.version, newest=newest)
        self._record_roles({"timestamp": of_timestamp, "snapshot": of_snapshot})
        found = self.verify_product(product)
        matches = snapshot.version == version and all(
            _get_named_version(snapshot, role) == signed.version
            for role, signed in (("targets", found.targets), (product, found.product))
        )
        strict = map(compute_expiry, (found.root, found.targets, found.product))
        expires = min(*strict, compute_expiry(timestamp, grace), compute_expiry(snapshot, grace))
        if matches:
            self._trust_state.update(
                lambda before: self._record_verified_set(before, product, found, expires)
            )
            return found, expires
        known = self._trust_state.load().verified_sets.get(product)
        if known is None or known.version != found.product.version:
            raise MixedVersionsError(role=product)
        return found, known.expires

    def verify_emergency_halts(
        self, product: str, versions: Collection[str]
    ) -> tuple[KnownEmergencyHalt, ...]:
        """Return the active emergency halts of a product, after storing those of the timestamp.

        Args:
            product: The product.
            versions: The signed releases of the product.

        Raises:
            RepositoryError, OSError: If the timestamp does not verify.
            UpdaterError: If the timestamp is older than the trust state.
        """
        root, (timestamp, of_timestamp) = self._root, self._timestamp
        self._record_roles({"timestamp": of_timestamp})
        reference = self._trust_state.get_reference_time()
        found = verify_emergency_halts(root, timestamp)

        def record(before: TrustState) -> TrustState:
            seen = update_known_halts(before.emergency_halts, found, product, versions, reference)
            return replace(before, emergency_halts=seen)

        return list_active_halts(
            self._trust_state.update(record).emergency_halts, product, reference
        )

    def _record_verified_set(
        self, before: TrustState, product: str, found: VerifiedProduct, expires: datetime
    ) -> TrustState:
        times = [read_issue_time(signed) for signed in (found.root, found.targets, found.product)]
        newest = max((time for time in times if time is not None), default=None)
        if newest is not None and max(self._trust_state.now(), newest) >= expires:
            newest = None  # issue time after the expiry: do not trust it as a clock floor
        return record_verified_set(
            before, product, VerifiedSet(int(found.product.version), expires), newest
        )

    def _record_roles(self, verifications: Mapping[str, RoleVerification]) -> None:
        self._trust_state.update(
            lambda before: record_roles(before, verifications, self._trust_state.now())
        )


def _get_named_version(snapshot: Snapshot, role: str) -> int | None:
    meta = snapshot.meta.get(f"{role}.json")
    return None if meta is None else int(meta.version)


def verify_offer(verifier: MetadataVerifier, offer: Offer) -> tuple[int, str]:
    """Verify the chain of signatures to a release.

    Args:
        verifier: Verifier of the directory that the feed-reading process wrote.
        offer: The release.

    Returns:
        Signed length and SHA-256 of the release document.

    Raises:
        UnverifiedDownloadError: If no chain of signatures leads to the release.
        TrustError: If metadata is older than the trust state.
        TrustedRootMissingError: If the installed root cannot be used.
    """
    product, version = offer.product, offer.version
    with _map_verification_errors(version):
        found = verifier.verify_product(product)
        offers = parse_offers(product, found.files)
        verified = next((o for o in offers if o.version == version), None)
        if verified is None or not offer.is_same_release(verified):
            raise UnverifiedDownloadError(version=version, detail="not in the metadata")
        file = found.files[get_release_target_name(product, version)]
        return int(file.length), str(file.hashes["sha256"])


def verify_view(
    verifier: MetadataVerifier,
    product: str,
    stored_view: FeedView,
    grace: timedelta,
    offline_grace: timedelta,
) -> FeedView:
    """Return the view of the feed with offers, halts and expiry read from verified metadata.

    Args:
        verifier: Verifier of the directory that the feed-reading process wrote.
        product: The product.
        stored_view: The view that the feed-reading process stored.
        grace: How long timestamp and snapshot are accepted after they expire.
        offline_grace: The same for metadata from an offline bundle.

    Raises:
        METADATA_NOT_VERIFIED: If the metadata does not verify.
        TrustError: If metadata is older than the trust state.
        TrustedRootMissingError: If the installed root cannot be used.
    """
    with _map_verification_errors(None):
        found, expires = verifier.verify_complete_set(product, grace, offline_grace)
        offers = parse_offers(product, found.files)
        halts = verifier.verify_emergency_halts(product, {offer.version for offer in offers})
        return replace(
            stored_view,
            offers=apply_emergency_halts(offers, halts),
            emergency_halts=halts,
            version=int(found.product.version),
            expires_at=min(stored_view.expires_at, expires),
        )


def verify_import(verifier: MetadataVerifier) -> None:
    """Verify the timestamp of a bundle just imported, and store its version in the trust state.

    Raises:
        METADATA_NOT_VERIFIED: If the timestamp does not verify.
    """
    with _map_verification_errors(None):
        verifier.record_import()


def require_fresh_mirror(directory: Path, trusted_root: Path, trust_state: TrustStateStore) -> None:
    """Refuse a mirror whose metadata is older than the trust state. The trust state is not changed.

    Args:
        directory: The mirror's directory, as the web server serves it.
        trusted_root: The root that was installed with the agent.
        trust_state: The trust state; an empty one accepts every mirror.

    Raises:
        TrustError: If metadata is older than the trust state or does not follow from its root.
        TrustedRootMissingError: If the installed root cannot be used.
    """
    before = trust_state.load()
    if not before.roles:
        return
    metadata = directory / "metadata"

    def read(name: str, role: str) -> bytes:
        return read_file(metadata / f"{name}.json", get_max_role_bytes(role))

    with _map_verification_errors(None):
        root, _ = RootChain(trusted_root, metadata, metadata).find_newest_root(before.root.encode())
        timestamp, first = _verify_role(
            read("timestamp", "timestamp"), "timestamp", root, Timestamp
        )
        version = timestamp.snapshot_meta.version
        content = read(f"{version}.snapshot", "snapshot")
        snapshot, second = _verify_role(content, "snapshot", root, Snapshot)
        content = read(f"{_get_named_version(snapshot, 'targets')}.targets", "targets")
        targets, third = _verify_role(content, "targets", root, Targets)
        found = {"timestamp": first, "snapshot": second, "targets": third}
        delegations = targets.delegations
        products = set(delegations.roles or ()) if delegations is not None else set()
        for product in products & before.roles.keys():  # removed products are skipped
            content = read(f"{_get_named_version(snapshot, product)}.{product}", product)
            _, found[product] = _verify_role(content, product, targets, Targets)
        record_roles(before, found, trust_state.now())


#: Errors that are raised unchanged, because their message already names the cause.
PASSED_THROUGH = (
    METADATA_OLDER_THAN_TRUSTED,
    TRUST_STATE_DAMAGED,
    LOCAL_STORE_FAILED,
    ROOTS_HIDDEN,
    OFFER_INVALID,
)


@contextlib.contextmanager
def _map_verification_errors(version: str | None) -> Iterator[None]:
    try:
        yield
    except (RepositoryError, UpdaterError, OSError, ValueError) as error:
        if isinstance(
            error, UnverifiedDownloadError | TrustedRootMissingError | MixedVersionsError
        ):
            raise
        if isinstance(error, UpdaterError) and error.message in PASSED_THROUGH:
            raise
        if version is None:
            raise TrustError(METADATA_NOT_VERIFIED, detail=get_error_text(error)) from error
        raise UnverifiedDownloadError(version=version, detail=get_error_text(error)) from error


class TufWrongRoleError(RepositoryError):
    """Metadata that was signed for another role."""

    def __init__(self, role: str, other: str) -> None:
        super().__init__(f"{role}: signed for {other}")
        self.role, self.other = role, other


def get_max_role_bytes(role: str) -> int:
    """Return the maximum size of a role's metadata in bytes.

    The limit does not depend on the length in the metadata that names the role: a single key may
    have signed that.
    """
    return MAX_ROLE_BYTES.get(role, MAX_ROLE_BYTES["targets"])


def restore_root(directory: Path, trusted_root: Path) -> None:
    """Ensure that the metadata directory contains a root to start from.

    The stored root is kept if it is valid and not older than the installed one. A stored root of
    the same version with other content belongs to another feed (a wrong root was installed and
    then replaced), from which no metadata of this feed can follow. So it is replaced.

    Raises:
        TrustedRootMissingError: If the installed root cannot be used.
    """
    durable.make_directory(directory)
    stored, installed = directory / "root.json", _load_installed_root(trusted_root)
    try:
        present, content = _load_root(stored)
        fits = (present.version, content) == (installed[0].version, installed[1])
        if present.version > installed[0].version or fits:
            return
        reason: object = f"version {present.version}"
    except (OSError, RepositoryError) as error:
        reason = error
    # A new site has no root yet; if other metadata is stored, a missing root is a warning.
    level = logging.WARNING if any(directory.iterdir()) else logging.INFO
    logger.log(level, "root %s replaced by %s: %s", stored, trusted_root, reason)
    durable.write_file(stored, installed[1])


def parse_unverified(data: bytes) -> Signed | None:
    """Parse metadata without verifying its signatures; return None if it is not metadata."""
    try:
        return cast("Signed", Metadata.from_bytes(data).signed)
    except DeserializationError as error:
        logger.info("not metadata: %s", error)
        return None


def require_role(signed: Targets, role: str) -> None:
    """Refuse metadata that was signed for another role, even if its signatures are valid.

    Raises:
        TufWrongRoleError: If its role field names another role.
    """
    named = signed.unrecognized_fields.get(ROLE_FIELD, role)  # other publishers lack the field
    if named != role:
        raise TufWrongRoleError(role, str(named))


def read_issue_time(signed: Root | Targets) -> datetime | None:
    """Return when signers signed the metadata; None without a plausible time."""
    text = signed.unrecognized_fields.get(ISSUE_TIME_FIELD)
    if text is None:
        return None
    try:
        issued = within_calendar(datetime.fromisoformat(text))
    except (TypeError, ValueError) as error:
        logger.warning("field %s cannot be read: %s", ISSUE_TIME_FIELD, error)
        return None
    return issued if issued < signed.expires else None  # a mistake: issued after its expiry


def compute_expiry(signed: Signed, grace: timedelta = timedelta(0)) -> datetime:
    """Return when metadata expires, plus a grace; limited so that ``datetime`` cannot overflow."""
    return min(signed.expires, _MAX_EXPIRY) + grace


def get_target_digest(target: TargetFile) -> tuple[str, str]:
    """Return algorithm and digest with which a file is verified.

    Our releases are always signed with SHA-256; other publishers may use only SHA-512.

    Raises:
        OFFER_INVALID: If there is neither, or the digest is not hexadecimal of the right length:
            it becomes part of a file name.
    """
    for algorithm, digits in DIGEST_DIGITS.items():
        if algorithm in target.hashes:
            digest = str(target.hashes[algorithm])
            if not re.fullmatch(rf"[0-9a-f]{{{digits}}}", digest):
                raise TrustError(
                    OFFER_INVALID,
                    name=target.path,
                    detail=LazyText(
                        "{digest} is not a valid {algorithm} digest",
                        {"digest": repr(digest[:80]), "algorithm": algorithm},
                    ),
                )
            return algorithm, digest
    raise TrustError(OFFER_INVALID, name=target.path, detail="no SHA-256 or SHA-512 digest")


def is_safe_target_path(path: str) -> bool:
    """Return whether a target path stays below the feed's directory."""
    return not ({"", ".", ".."} & set(path.split("/")) or "\\" in path or "\0" in path)
