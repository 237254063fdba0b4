"""What the process that reads the feed left is proved by whoever uses it.

That process is the part that a hostile line can reach, and all that it leaves lies in its own
directory. So whoever builds a slot of it begins again at the newest root that was proved here, or
the installed one: through every root since, the list of the products and the product's own list,
each by its signatures, to the release document. The network is not needed, and nothing lapses: what
was signed stays signed. Nothing may be older than what was proved before
(:mod:`~ncen_updater.feed.proved`).

What is on offer is read out of these lists, too; there snapshot and timestamp have to agree, as
they say that there is no newer list.

In the directory of the lists::

    root_history/N.root.json    every root after the installed one
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from tuf.api.exceptions import DownloadError, RepositoryError, UnsignedMetadataError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # exported in fact only
    Metadata,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import NotReadable, TooLarge, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    LIST_NOT_PROVED,
    LOCAL_STORE_FAILED,
    OFFER_INVALID,
    PROVED_DAMAGED,
    PROVED_OLDER,
    ROOTS_HIDDEN,
)
from ncen_updater.feed.brake_statements import braked, brakes_of, noted
from ncen_updater.feed.brakes import BrakeSeen, in_force
from ncen_updater.feed.errors import MixedVersions, NotProved, TrustedRootMissing, TrustError
from ncen_updater.feed.offers import offers_of
from ncen_updater.feed.proved import (
    ListProof,
    ListSeen,
    Proved,
    ProvedMemory,
    Whole,
    advanced,
    held,
)
from ncen_updater.feed.release_source import FeedView
from ncen_updater.feed.signed_lists import is_plain, issued_at, lapses_at, most_bytes, require_role
from ncen_updater.formats.document import Offer, release_target
from ncen_updater.formats.tuf_names import ROOT_HISTORY, ROOT_VERSION_FIELD

T = TypeVar("T", Targets, Snapshot, Timestamp)

logger = logging.getLogger(__name__)

LISTS = "metadata"


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

    def newest(self) -> Root:
        """The last root that each one before it leads to, from the installed one on.

        Raises:
            TrustedRootMissing: If the installed root cannot be used.
        """
        return self.newest_after(b"")[0]

    def newest_after(self, proved: bytes) -> tuple[Root, bytes]:
        """The last root that each one before it leads to, and its bytes.

        Args:
            proved: A root that was proved before; it counts unless the installed one is newer.

        Raises:
            TrustedRootMissing: If the installed root cannot be used.
        """
        try:
            content = read_file(self._trusted_root, most_bytes("root"))
            root = _root(content)
            root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
        except (OSError, RepositoryError) as error:
            raise TrustedRootMissing(path=self._trusted_root, detail=str(error)) from error
        newest = root.signed
        if proved and (before := _root(proved).signed).version > newest.version:
            newest, content = before, proved
        while (later := self._after(newest)) is not None:
            newest, content = later
        return newest, content

    def _after(self, root: Root) -> tuple[Root, bytes] | None:
        path = self._history / f"{root.version + 1}.root.json"
        try:
            content = read_file(path, most_bytes("root"))
            return _follows(root, content), content
        except FileNotFoundError:
            return None
        except (OSError, RepositoryError) as error:
            logger.warning("%s does not lead on: %s", path, error)
            return None

    def keep(self, version: int, content: bytes) -> None:
        """Keep a root that was verified."""
        durable.make_directory(self._history)
        durable.write(self._history / f"{version}.root.json", content)

    def complete(self, version: int, fetch: Callable[[int], bytes]) -> None:
        """Fetch again what is missing of the roots up to one that was verified.

        A gap that stays costs nothing but the next download, which says what it lacks.
        """
        root = self.newest()
        while root.version < version:
            try:
                last = root.version + 1 == version  # that one lies here, also without a network
                content = self._newest_stored() if last else fetch(root.version + 1)
                later = _follows(root, content)
            except (DownloadError, RepositoryError) as error:
                logger.warning("root %d could not be had again: %s", root.version + 1, error)
                return
            self.keep(later.version, content)
            root = (self._after(later) or (later,))[0]

    def _newest_stored(self) -> bytes:
        return read_file(self._stored, most_bytes("root"))


def _root(content: bytes) -> Metadata[Root]:
    metadata = Metadata[Root].from_bytes(content)
    if not isinstance(metadata.signed, Root):
        raise RepositoryError("not a root")
    return metadata


def _follows(root: Root, content: bytes) -> Root:
    later = _root(content)
    root.verify_delegate("root", later.signed_bytes, later.signatures)
    later.signed.verify_delegate("root", later.signed_bytes, later.signatures)
    if later.signed.version != root.version + 1:
        raise RepositoryError(f"root {later.signed.version} in the place of {root.version + 1}")
    return later.signed


def _signed(
    content: bytes, role: str, delegator: Root | Targets, kind: type[T]
) -> tuple[T, ListProof]:
    """Verify a list by its signatures."""
    metadata = Metadata.from_bytes(content)
    if not isinstance(metadata.signed, kind):
        raise RepositoryError(f"{role} is another kind of list")
    result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    if not result:
        raise UnsignedMetadataError(f"{role} was signed by {len(result.signed)} keys that count")
    signed = metadata.signed
    issued = None
    if isinstance(signed, Targets):
        require_role(signed, role)
        issued = issued_at(signed)
    seen = ListSeen(int(signed.version), tuple(sorted(result.signed)), issued)
    keys = frozenset({*result.signed, *result.unsigned})
    return signed, ListProof(seen, keys, int(result.threshold))


@dataclass(frozen=True)
class ProvedList:
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


class Prover:
    """Proves what lies in a directory that another process writes to.

    Args:
        lists: The directory of the lists.
        trusted_root: The root that was installed with the agent.
        memory: What was proved before.
    """

    def __init__(self, lists: Path, trusted_root: Path, memory: ProvedMemory) -> None:
        self._lists, self._trusted_root, self._memory = lists, trusted_root, memory

    def _read(self, role: str) -> bytes:
        return read_file(self._lists / f"{role}.json", most_bytes(role))

    def root(self) -> Root:
        """The newest root that can be proved; it is remembered from now on.

        Raises:
            TrustError: If it cannot be remembered.
            TrustedRootMissing: If there is no installed root to begin at.
        """
        chain = RootChain(self._trusted_root, self._lists)
        metadata, content = chain.newest_after(self._memory.load().root.encode())

        def keep(before: Proved) -> Proved:
            if metadata.version <= before.root_version:
                return before
            return replace(before, root=content.decode(), root_version=int(metadata.version))

        self._memory.update(keep)
        return metadata

    def product(self, product: str) -> ProvedList:
        """Follow the signatures to a product's list.

        Raises:
            RepositoryError, OSError: If they do not lead there.
            UpdaterError: If a list is older than what was proved before.
        """
        root = self.root()
        targets, of_targets = _signed(self._read("targets"), "targets", root, Targets)
        signed, of_product = _signed(self._read(product), product, targets, Targets)
        self._advance({"targets": of_targets, product: of_product})
        roles = targets.delegations.roles if targets.delegations is not None else None
        role = (roles or {}).get(product)
        files = {
            name: file
            for name, file in signed.targets.items()
            if role is not None and role.is_delegated_path(name) and is_plain(name)
        }
        return ProvedList(root, targets, signed, files)

    def imported(self) -> None:
        """Remember that the lists came on a medium just now.

        Raises:
            RepositoryError, OSError: If their signatures do not count.
        """
        timestamp, _ = self._timestamp(self.root())
        version = int(timestamp.version)
        self._memory.update(lambda before: replace(before, medium=version))

    def _timestamp(self, root: Root) -> tuple[Timestamp, ListProof]:
        return _signed(self._read("timestamp"), "timestamp", root, Timestamp)

    def whole(
        self, product: str, grace: timedelta, by_medium: timedelta
    ) -> tuple[ProvedList, datetime]:
        """Follow the signatures to a product's list, and see that no newer one is known.

        Args:
            product: The product.
            grace: How long timestamp and snapshot count beyond their expiry.
            by_medium: The same where they came on a medium.

        Returns:
            The list, and when the first of all lapses: where the reader was interrupted in the
            middle, as it was when this list was last proved whole.

        Raises:
            RepositoryError, OSError: If the signatures do not lead there.
            UpdaterError: If a list is older than what was proved before, or they do not belong
                together.
        """
        root = self.root()
        timestamp, of_timestamp = self._timestamp(root)
        before = self._memory.load()
        # Before the first proof it is not known how they came.
        if before.medium == timestamp.version or not before.lists:
            grace = max(grace, by_medium)
        version = timestamp.snapshot_meta.version
        snapshot, of_snapshot = _signed(self._read("snapshot"), "snapshot", root, Snapshot)
        newest = timestamp.unrecognized_fields.get(ROOT_VERSION_FIELD)
        if isinstance(newest, int) and newest > root.version:
            raise TrustError(ROOTS_HIDDEN, version=root.version, newest=newest)
        self._advance({"timestamp": of_timestamp, "snapshot": of_snapshot})
        found = self.product(product)
        fits = snapshot.version == version and all(
            _named(snapshot, role) == signed.version
            for role, signed in (("targets", found.targets), (product, found.product))
        )
        strict = map(lapses_at, (found.root, found.targets, found.product))
        expires = min(*strict, lapses_at(timestamp, grace), lapses_at(snapshot, grace))
        if fits:
            self._memory.update(lambda before: self._held(before, product, found, expires))
            return found, expires
        known = self._memory.load().whole.get(product)
        if known is None or known.version != found.product.version:
            raise MixedVersions(role=product)
        return found, known.expires

    def brakes(self, product: str, versions: Collection[str]) -> tuple[BrakeSeen, ...]:
        """The brakes of a product that hold now; what the timestamp carries is remembered.

        Args:
            product: The product.
            versions: Its releases, as its officers signed them.

        Raises:
            RepositoryError, OSError: If the signatures do not lead to the timestamp.
            UpdaterError: If it is older than what was proved before.
        """
        root = self.root()
        timestamp, of_timestamp = self._timestamp(root)
        self._advance({"timestamp": of_timestamp})
        reference = self._memory.reference()
        found = brakes_of(root, timestamp)

        def note(before: Proved) -> Proved:
            seen = noted(before.brakes, found, product, versions, reference)
            return replace(before, brakes=seen)

        return in_force(self._memory.update(note).brakes, product, reference)

    def _held(self, before: Proved, product: str, found: ProvedList, expires: datetime) -> Proved:
        said = [issued_at(signed) for signed in (found.root, found.targets, found.product)]
        newest = max((time for time in said if time is not None), default=None)
        if newest is not None and max(self._memory.now(), newest) >= expires:
            newest = None  # signed ahead: they do not hold under it
        return held(before, product, Whole(int(found.product.version), expires), newest)

    def _advance(self, lists: Mapping[str, ListProof]) -> None:
        self._memory.update(lambda before: advanced(before, lists, self._memory.now()))


def _named(snapshot: Snapshot, role: str) -> int | None:
    meta = snapshot.meta.get(f"{role}.json")
    return None if meta is None else int(meta.version)


def prove_offer(prover: Prover, offer: Offer) -> tuple[int, str]:
    """Follow the signatures to a release.

    Args:
        prover: Of what the process that reads the feed left.
        offer: The release.

    Returns:
        Length and SHA-256 of its document, as officers signed them.

    Raises:
        NotProved: If they do not lead there.
        TrustError: If a list is older than what was proved here before.
        TrustedRootMissing: If there is no installed root to begin at.
    """
    product, version = offer.product, offer.version
    with _proving(version):
        found = prover.product(product)
        offers = offers_of(product, found.files)
        proved = next((o for o in offers if o.version == version), None)
        if proved is None or not offer.same_release(proved):
            raise NotProved(version=version, detail="no signed list names it so")
        file = found.files[release_target(product, version)]
        return int(file.length), str(file.hashes["sha256"])


def prove_view(
    prover: Prover, product: str, left: FeedView, grace: timedelta, by_medium: timedelta
) -> FeedView:
    """Read what is on offer out of the lists themselves.

    Args:
        prover: Of what the process that reads the feed left.
        product: The product.
        left: What that process says of them.
        grace: How long timestamp and snapshot count beyond their expiry.
        by_medium: The same where they came on a medium.

    Raises:
        ListNotProved: If signatures do not lead to them.
        TrustError: If a list is older than what was proved here before.
        TrustedRootMissing: If there is no installed root to begin at.
    """
    with _proving(None):
        found, expires = prover.whole(product, grace, by_medium)
        offers = offers_of(product, found.files)
        brakes = prover.brakes(product, {offer.version for offer in offers})
        return replace(
            left,
            offers=braked(offers, brakes),
            brakes=brakes,
            version=int(found.product.version),
            expires_at=min(left.expires_at, expires),
        )


def prove_import(prover: Prover) -> None:
    """Prove the timestamp that a medium brought just now, and remember that it did.

    Raises:
        ListNotProved: If its signatures do not count.
    """
    with _proving(None):
        prover.imported()


def compare_mirror(directory: Path, trusted_root: Path, memory: ProvedMemory) -> None:
    """Refuse a mirror whose lists are older than what was proved here; nothing is remembered of it.

    Args:
        directory: The mirror, as it is served.
        trusted_root: The root that was installed with the agent.
        memory: What was proved before; where that is nothing, all is well.

    Raises:
        TrustError: If a list is older, or does not follow from the roots that were proved here.
        TrustedRootMissing: If there is no installed root to begin at.
    """
    before = memory.load()
    if not before.lists:
        return
    lists = directory / "metadata"

    def read(name: str, role: str) -> bytes:
        return read_file(lists / f"{name}.json", most_bytes(role))

    with _proving(None):
        root, _ = RootChain(trusted_root, lists, lists).newest_after(before.root.encode())
        timestamp, first = _signed(read("timestamp", "timestamp"), "timestamp", root, Timestamp)
        version = timestamp.snapshot_meta.version
        content = read(f"{version}.snapshot", "snapshot")
        snapshot, second = _signed(content, "snapshot", root, Snapshot)
        content = read(f"{_named(snapshot, 'targets')}.targets", "targets")
        targets, third = _signed(content, "targets", root, Targets)
        found = {"timestamp": first, "snapshot": second, "targets": third}
        delegations = targets.delegations
        products = set(delegations.roles or ()) if delegations is not None else set()
        for product in products & before.lists.keys():  # not one that was taken out of the feed
            content = read(f"{_named(snapshot, product)}.{product}", product)
            _, found[product] = _signed(content, product, targets, Targets)
        advanced(before, found, memory.now())


#: Said as they are: of the memory, of the lists themselves, or of what was asked.
AS_THEY_ARE = (PROVED_OLDER, PROVED_DAMAGED, LOCAL_STORE_FAILED, ROOTS_HIDDEN, OFFER_INVALID)


@contextlib.contextmanager
def _proving(version: str | None) -> Iterator[None]:
    try:
        yield
    except (RepositoryError, UpdaterError, NotReadable, TooLarge, OSError, ValueError) as error:
        if isinstance(error, NotProved | TrustedRootMissing | MixedVersions):
            raise
        if isinstance(error, UpdaterError) and error.message in AS_THEY_ARE:
            raise
        if version is None:
            raise TrustError(LIST_NOT_PROVED, detail=str(error)) from error
        raise NotProved(version=version, detail=str(error)) from error
