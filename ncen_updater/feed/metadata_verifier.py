"""Verification of the files that the feed-reading process left, by the process that uses them.

A hostile network can reach that process, which writes to its own directory alone. So the process
that builds a slot verifies the chain again, from the newest root in the trust state or the
installed one: every root since, the targets metadata and the product's metadata, each by its
signatures, down to the release document. This needs no network and ignores expiry. Nothing may be
older than the trust state (:mod:`~ncen_updater.feed.trust_state`).

Offers are read from the same metadata; there snapshot and timestamp have to agree, as they show
that there is no newer metadata.

In the metadata directory::

    root_history/N.root.json    every root after the installed one
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar, cast

from tuf.api.exceptions import DownloadError, RepositoryError, UnsignedMetadataError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # exported in fact only  # type: ignore[attr-defined]  # exported in fact only
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
from ncen_updater.common.bounded_io import FileTooLargeError, NotRegularFileError, read_file
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


class RootChain:
    """The roots from the installed one on, as they lie on the disk.

    Args:
        trusted_root: The installed root.
        lists: The directory of the lists.
        history: Where the later roots are; in a directory below the lists by default.
    """

    def __init__(self, trusted_root: Path, lists: Path, history: Path | None = None) -> None:
        self._trusted_root, self._history = trusted_root, history or lists / ROOT_HISTORY
        self._stored = lists / "root.json"

    def get_newest_root(self) -> Root:
        """Return the last root of the unbroken chain from the installed one.

        Raises:
            TrustedRootMissingError: If the installed root cannot be used.
        """
        return self.find_newest_root(b"")[0]

    def find_newest_root(self, verified_root: bytes) -> tuple[Root, bytes]:
        """Return the last root of the unbroken chain from the installed one, and its bytes.

        Args:
            verified_root: A root that was proved before; it counts unless the installed one is
                newer.

        Raises:
            TrustedRootMissingError: If the installed root cannot be used.
        """
        try:
            content = read_file(self._trusted_root, get_max_role_bytes("root"))
            root = _parse_root(content)
            root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
        except (OSError, RepositoryError) as error:
            raise TrustedRootMissingError(
                path=self._trusted_root, detail=get_error_text(error)
            ) from error
        newest = root.signed
        if verified_root and (before := _parse_root(verified_root).signed).version > newest.version:
            newest, content = before, verified_root
        while (later := self._load_successor(newest)) is not None:
            newest, content = later
        return newest, content

    def _load_successor(self, root: Root) -> tuple[Root, bytes] | None:
        path = self._history / f"{root.version + 1}.root.json"
        try:
            content = read_file(path, get_max_role_bytes("root"))
            return _verify_successor(root, content), content
        except FileNotFoundError:
            return None
        except (OSError, RepositoryError) as error:
            logger.warning("%s does not lead on: %s", path, error)
            return None

    def store_root(self, version: int, content: bytes) -> None:
        """Keep a root that was verified."""
        durable.make_directory(self._history)
        durable.write_file(self._history / f"{version}.root.json", content)

    def download_missing_roots(self, version: int, download: Callable[[int], bytes]) -> None:
        """Fetch again what is missing of the roots up to one that was verified.

        A gap that stays costs nothing but the next download, which says what it lacks.
        """
        root = self.get_newest_root()
        while root.version < version:
            try:
                last = root.version + 1 == version  # that one lies here, also without a network
                content = self._read_newest_root() if last else download(root.version + 1)
                later = _verify_successor(root, content)
            except (DownloadError, RepositoryError) as error:
                logger.warning("root %d could not be had again: %s", root.version + 1, error)
                return
            self.store_root(later.version, content)
            root = (self._load_successor(later) or (later,))[0]

    def _read_newest_root(self) -> bytes:
        return read_file(self._stored, get_max_role_bytes("root"))


def _parse_root(content: bytes) -> Metadata[Root]:
    metadata = Metadata[Root].from_bytes(content)
    if not isinstance(metadata.signed, Root):
        raise RepositoryError("not root metadata")
    return metadata


def _verify_successor(root: Root, content: bytes) -> Root:
    later = _parse_root(content)
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
    """Verify a list by its signatures."""
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
    seen = VerifiedRole(int(signed.version), tuple(sorted(result.signed)), issued)
    keys = frozenset({*result.signed, *result.unsigned})
    return signed, RoleVerification(seen, keys, int(result.threshold))


@dataclass(frozen=True)
class VerifiedProduct:
    """A product's list, with those that lead to it.

    Attributes:
        root: The newest root.
        targets: The list of the products.
        product: The product's own.
        files: What it may name, and names.
    """

    root: Root
    targets: Targets
    product: Targets
    files: Mapping[str, TargetFile]


class MetadataVerifier:
    """Proves what lies in a directory that another process writes to.

    Args:
        metadata_directory: The directory of the lists.
        trusted_root: The root that was installed with the agent.
        trust_state: What was proved before.
    """

    def __init__(
        self, metadata_directory: Path, trusted_root: Path, trust_state: TrustStateStore
    ) -> None:
        self._lists, self._trusted_root, self._memory = (
            metadata_directory,
            trusted_root,
            trust_state,
        )

    def _read_role(self, role: str) -> bytes:
        return read_file(self._lists / f"{role}.json", get_max_role_bytes(role))

    def verify_root(self) -> Root:
        """Verify the newest root, and store it in the trust state.

        Raises:
            TrustError: If it cannot be remembered.
            TrustedRootMissingError: If there is no installed root to begin at.
        """
        chain = RootChain(self._trusted_root, self._lists)
        metadata, content = chain.find_newest_root(self._memory.load().root.encode())

        def keep(before: TrustState) -> TrustState:
            if metadata.version <= before.root_version:
                return before
            return replace(before, root=content.decode(), root_version=int(metadata.version))

        self._memory.update(keep)
        return metadata

    def verify_product(self, product: str) -> VerifiedProduct:
        """Follow the signatures to a product's list.

        Raises:
            RepositoryError, OSError: If they do not lead there.
            UpdaterError: If a list is older than what was proved before.
        """
        root = self.verify_root()
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
        """Remember that the lists came on a medium just now.

        Raises:
            RepositoryError, OSError: If their signatures do not count.
        """
        timestamp, _ = self._verify_timestamp(self.verify_root())
        version = int(timestamp.version)
        self._memory.update(lambda before: replace(before, offline_timestamp_version=version))

    def _verify_timestamp(self, root: Root) -> tuple[Timestamp, RoleVerification]:
        return _verify_role(self._read_role("timestamp"), "timestamp", root, Timestamp)

    def verify_complete_set(
        self, product: str, grace: timedelta, offline_grace: timedelta
    ) -> tuple[VerifiedProduct, datetime]:
        """Follow the signatures to a product's list, and see that no newer one is known.

        Args:
            product: The product.
            grace: How long timestamp and snapshot count beyond their expiry.
            offline_grace: The same where they came on a medium.

        Returns:
            The list, and when the first of all lapses: where the reader was interrupted in the
            middle, as it was when this list was last proved whole.

        Raises:
            RepositoryError, OSError: If the signatures do not lead there.
            UpdaterError: If a list is older than what was proved before, or they do not belong
                together.
        """
        root = self.verify_root()
        timestamp, of_timestamp = self._verify_timestamp(root)
        before = self._memory.load()
        # Before the first proof it is not known how they came.
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
        fits = snapshot.version == version and all(
            _get_named_version(snapshot, role) == signed.version
            for role, signed in (("targets", found.targets), (product, found.product))
        )
        strict = map(lapses_at, (found.root, found.targets, found.product))
        expires = min(*strict, lapses_at(timestamp, grace), lapses_at(snapshot, grace))
        if fits:
            self._memory.update(
                lambda before: self._record_verified_set(before, product, found, expires)
            )
            return found, expires
        known = self._memory.load().verified_sets.get(product)
        if known is None or known.version != found.product.version:
            raise MixedVersionsError(role=product)
        return found, known.expires

    def verify_emergency_halts(
        self, product: str, versions: Collection[str]
    ) -> tuple[KnownEmergencyHalt, ...]:
        """Return the active emergency halts of a product; those of the timestamp are stored.

        Args:
            product: The product.
            versions: Its releases, as signed.

        Raises:
            RepositoryError, OSError: If the signatures do not lead to the timestamp.
            UpdaterError: If it is older than what was proved before.
        """
        root = self.verify_root()
        timestamp, of_timestamp = self._verify_timestamp(root)
        self._record_roles({"timestamp": of_timestamp})
        reference = self._memory.get_reference_time()
        found = verify_emergency_halts(root, timestamp)

        def note(before: TrustState) -> TrustState:
            seen = update_known_halts(before.emergency_halts, found, product, versions, reference)
            return replace(before, emergency_halts=seen)

        return list_active_halts(self._memory.update(note).emergency_halts, product, reference)

    def _record_verified_set(
        self, before: TrustState, product: str, found: VerifiedProduct, expires: datetime
    ) -> TrustState:
        lines = [read_issue_time(signed) for signed in (found.root, found.targets, found.product)]
        newest = max((time for time in lines if time is not None), default=None)
        if newest is not None and max(self._memory.now(), newest) >= expires:
            newest = None  # signed ahead: they do not hold under it
        return record_verified_set(
            before, product, VerifiedSet(int(found.product.version), expires), newest
        )

    def _record_roles(self, lists: Mapping[str, RoleVerification]) -> None:
        self._memory.update(lambda before: record_roles(before, lists, self._memory.now()))


def _get_named_version(snapshot: Snapshot, role: str) -> int | None:
    meta = snapshot.meta.get(f"{role}.json")
    return None if meta is None else int(meta.version)


def verify_offer(verifier: MetadataVerifier, offer: Offer) -> tuple[int, str]:
    """Follow the signatures to a release.

    Args:
        verifier: Of what the process that reads the feed left.
        offer: The release.

    Returns:
        Length and SHA-256 of its document, as signers signed them.

    Raises:
        UnverifiedDownloadError: If they do not lead there.
        TrustError: If a list is older than what was proved here before.
        TrustedRootMissingError: If there is no installed root to begin at.
    """
    product, version = offer.product, offer.version
    with _map_verification_errors(version):
        found = verifier.verify_product(product)
        offers = parse_offers(product, found.files)
        proved = next((o for o in offers if o.version == version), None)
        if proved is None or not offer.is_same_release(proved):
            raise UnverifiedDownloadError(version=version, detail="not in the metadata")
        file = found.files[get_release_target_name(product, version)]
        return int(file.length), str(file.hashes["sha256"])


def verify_view(
    prover: MetadataVerifier,
    product: str,
    stored_view: FeedView,
    grace: timedelta,
    offline_grace: timedelta,
) -> FeedView:
    """Read what is on offer out of the lists themselves.

    Args:
        prover: Of what the process that reads the feed left.
        product: The product.
        stored_view: What that process says of them.
        grace: How long timestamp and snapshot count beyond their expiry.
        offline_grace: The same where they came on a medium.

    Raises:
        METADATA_NOT_VERIFIED: If signatures do not lead to them.
        TrustError: If a list is older than what was proved here before.
        TrustedRootMissingError: If there is no installed root to begin at.
    """
    with _map_verification_errors(None):
        found, expires = prover.verify_complete_set(product, grace, offline_grace)
        offers = parse_offers(product, found.files)
        halts = prover.verify_emergency_halts(product, {offer.version for offer in offers})
        return replace(
            stored_view,
            offers=apply_emergency_halts(offers, halts),
            emergency_halts=halts,
            version=int(found.product.version),
            expires_at=min(stored_view.expires_at, expires),
        )


def verify_import(prover: MetadataVerifier) -> None:
    """Prove the timestamp that a medium brought just now, and remember that it did.

    Raises:
        METADATA_NOT_VERIFIED: If its signatures do not count.
    """
    with _map_verification_errors(None):
        prover.record_import()


def refuse_older_mirror(directory: Path, trusted_root: Path, memory: TrustStateStore) -> None:
    """Refuse a mirror whose lists are older than what was proved here; nothing is remembered of it.

    Args:
        directory: The mirror, as it is served.
        trusted_root: The root that was installed with the agent.
        memory: What was proved before; where that is nothing, all is well.

    Raises:
        TrustError: If a list is older, or does not follow from the roots that were proved here.
        TrustedRootMissingError: If there is no installed root to begin at.
    """
    before = memory.load()
    if not before.roles:
        return
    lists = directory / "metadata"

    def read(name: str, role: str) -> bytes:
        return read_file(lists / f"{name}.json", get_max_role_bytes(role))

    with _map_verification_errors(None):
        root, _ = RootChain(trusted_root, lists, lists).find_newest_root(before.root.encode())
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
        for product in products & before.roles.keys():  # not one that was taken out of the feed
            content = read(f"{_get_named_version(snapshot, product)}.{product}", product)
            _, found[product] = _verify_role(content, product, targets, Targets)
        record_roles(before, found, memory.now())


#: Said as they are: of the memory, of the lists themselves, or of what was asked.
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
    except (
        RepositoryError,
        UpdaterError,
        NotRegularFileError,
        FileTooLargeError,
        OSError,
        ValueError,
    ) as error:
        if isinstance(
            error, UnverifiedDownloadError | TrustedRootMissingError | MixedVersionsError
        ):
            raise
        if isinstance(error, UpdaterError) and error.message in PASSED_THROUGH:
            raise
        if version is None:
            raise TrustError(METADATA_NOT_VERIFIED, detail=get_error_text(error)) from error
        raise UnverifiedDownloadError(version=version, detail=get_error_text(error)) from error


logger = logging.getLogger(__name__)


MAX_ROLE_BYTES = {"root": 512_000, "timestamp": 16_384, "snapshot": 2_000_000, "targets": 5_000_000}


#: No list lapses later here: a grace and a zone are added without leaving the calendar.
_LAST = datetime(9000, 1, 1, tzinfo=UTC)


DIGEST_DIGITS = {"sha256": 64, "sha512": 128}


class TufWrongRoleError(RepositoryError):
    """A list whose signers meant it for another role."""

    def __init__(self, role: str, other: str) -> None:
        super().__init__(f"{role}: signed for {other}")
        self.role, self.other = role, other


def get_max_role_bytes(role: str) -> int:
    """Return the maximum size of a role's metadata.

    It does not depend on the length in the metadata that names it, which one key alone may sign.
    """
    return MAX_ROLE_BYTES.get(role, MAX_ROLE_BYTES["targets"])


def _load_root(path: Path) -> tuple[int, bytes] | None:
    """Version and bytes of a root that verifies by its own keys; None if there is no such file."""
    try:
        content = path.read_bytes()
        metadata = Metadata[Root].from_bytes(content)
        if not isinstance(metadata.signed, Root):
            return None
        metadata.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    except (OSError, RepositoryError) as error:
        logger.info("no usable root in %s: %s", path, error)
        return None
    return int(metadata.signed.version), content


def restore_root(directory: Path, trusted_root: Path) -> None:
    """Make sure that the metadata directory holds a root to start from.

    The stored root stays if it is whole and not older than the installed one. Of the same version
    and another content it is that of another feed, as where a wrong root was installed and put
    right: no later list of this feed would ever follow from it.

    Raises:
        TrustedRootMissingError: If the installed one cannot be used: nothing could be proved by it.
    """
    durable.make_directory(directory)
    stored = directory / "root.json"
    have, installed = _load_root(stored), _load_root(trusted_root)
    if installed is None:
        raise TrustedRootMissingError(path=trusted_root)
    version, content = installed
    if have is None or version > have[0] or (version == have[0] and content != have[1]):
        # The first use of a new site is not worth a warning; a root that vanished later is.
        level = logging.WARNING if any(directory.iterdir()) else logging.INFO
        was = have[0] if have else None
        logger.log(level, "root from %s: version %s, was %s", trusted_root, version, was)
        durable.write_file(stored, content)


def parse_unverified(data: bytes) -> Signed | None:
    """Read a list whose signatures nobody has looked at; None if it is none."""
    try:
        return cast("Signed", Metadata.from_bytes(data).signed)
    except DeserializationError as error:
        logger.info("not metadata: %s", error)
        return None


def require_role(signed: Targets, role: str) -> None:
    """Refuse a list that its signers meant for another role, though its signatures fit.

    Raises:
        TufWrongRoleError: If it says so.
    """
    says = signed.unrecognized_fields.get(ROLE_FIELD, role)  # another publisher's says nothing
    if says != role:
        raise TufWrongRoleError(role, str(says))


def read_issue_time(signed: Root | Targets) -> datetime | None:
    """Read when signers signed a list; None if it does not say so in a way that can be believed."""
    text = signed.unrecognized_fields.get(ISSUE_TIME_FIELD)
    if text is None:
        return None
    try:
        issued = within_calendar(datetime.fromisoformat(text))
    except (TypeError, ValueError) as error:
        logger.warning("field %s cannot be read: %s", ISSUE_TIME_FIELD, error)
        return None
    return issued if issued < signed.expires else None  # else a slip of the pen


def lapses_at(signed: Signed, grace: timedelta = timedelta(0)) -> datetime:
    """Return when a list lapses; one of the calendar's last years lapses before them."""
    return min(signed.expires, _LAST) + grace


def get_target_digest(target: TargetFile) -> tuple[str, str]:
    """Return the algorithm and the digest against which a file is checked.

    Releases are signed with SHA-256 throughout; other publishers may use SHA-512 alone.

    Raises:
        OFFER_INVALID: If it was signed with neither, or with what cannot be one: it becomes a name.
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
    """Tell whether the name of a file in a list leads nowhere but to a place below the feed."""
    return not ({"", ".", ".."} & set(path.split("/")) or "\\" in path or "\0" in path)
