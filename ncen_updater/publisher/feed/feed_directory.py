"""The feed directory: read and verified completely, edited as drafts, written file by file.

``metadata/`` and ``targets/`` are in one directory that any static web server can serve. The
publisher keeps no other record of the feed, so no second record can contradict it.

:class:`FeedRepository` alone sets version, expiry, issue time and signatures. Offline roles become
drafts without signatures; online roles are signed at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]
    DelegatedRole,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
    VerificationResult,
)
from tuf.repository import Repository  # type: ignore[attr-defined]

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    FEED_BROKEN,
    FEED_BUSY,
    FEED_DIRECTORY_MISSING,
    KEY_CHANGE_NOT_ATOMIC,
    UNKNOWN_PRODUCT,
)
from ncen_updater.formats.release_document import Offer
from ncen_updater.formats.rollout import PUBLISH_AFTER_FIELD, WAIVERS_FIELD, Waiver
from ncen_updater.formats.target_names import OFFER_FIELD, RELEASES_PREFIX, ROLE_FIELD
from ncen_updater.publisher.errors import describe_system_error
from ncen_updater.publisher.feed.role_policy import (
    ONLINE_ROLES,
    FeedPolicy,
    read_issue_time,
    read_policy,
    stamp_metadata,
)

MAX_METADATA_BYTES = 5_000_000
COPY_BLOCK = 1 << 20


@dataclass(frozen=True)
class FeedState:
    """One consistent set of metadata.

    Attributes:
        root: The newest root.
        targets: The top-level targets that the snapshot names.
        delegated: Metadata of each product's role that has been published.
        snapshot: None before the first publication.
        timestamp: None before the first publication.
        previous_roots: All published roots, from the first to the newest.
    """

    root: Metadata[Root]
    targets: Metadata[Targets]
    delegated: Mapping[str, Metadata[Targets]] = field(default_factory=dict)
    snapshot: Metadata[Snapshot] | None = None
    timestamp: Metadata[Timestamp] | None = None
    previous_roots: tuple[Metadata[Root], ...] = ()

    def get_role(self, role: str) -> Metadata[Any] | None:
        """Return the metadata of a role; None if it has none yet."""
        if role in ("root", "targets", "snapshot", "timestamp"):
            return cast("Metadata[Any] | None", getattr(self, role))
        return self.delegated.get(role)

    def replace_roles(self, changed: Mapping[str, Metadata[Any]]) -> FeedState:
        """Return a state with new versions of some roles; this one is not changed.

        Products that the new targets no longer delegate to are removed.
        """
        top: dict[str, Any] = {
            k: v for k, v in changed.items() if k in ("root", "targets", "snapshot", "timestamp")
        }
        known = list_delegated_roles(changed.get("targets", self.targets).signed)
        delegated = {**self.delegated, **{k: v for k, v in changed.items() if k not in top}}
        delegated = {role: metadata for role, metadata in delegated.items() if role in known}
        return replace(self, delegated=delegated, **top)

    @property
    def policy(self) -> FeedPolicy:
        """Return the policy of the newest root."""
        return read_policy(self.root.signed)

    def list_offline_roles(self) -> list[str]:
        """Return the offline roles that have a version."""
        return ["root", "targets", *self.delegated]


def list_delegated_roles(targets: Targets) -> dict[str, DelegatedRole]:
    """Return the delegations of the top-level targets, in search order."""
    if targets.delegations is None or targets.delegations.roles is None:
        return {}
    return dict(targets.delegations.roles)


def list_offers(targets: Targets) -> list[Offer]:
    """Return the offers of a product's role, oldest version first."""
    offers = [
        Offer.model_validate(target.custom[OFFER_FIELD])
        for name, target in targets.targets.items()
        if name.startswith(RELEASES_PREFIX) and target.custom and OFFER_FIELD in target.custom
    ]
    return sorted(offers, key=lambda offer: offer.release_version)


def make_unknown_role_error(state: FeedState, name: str) -> UpdaterError:
    """Return the error for an unknown role, which names the existing ones."""
    known = ", ".join(sorted(list_delegated_roles(state.targets.signed)))
    return UpdaterError(UNKNOWN_PRODUCT, product=name, known=known or "-")


def verify_role(state: FeedState, role: str) -> VerificationResult:
    """Verify the signatures of a role with the keys that its delegator has in ``state``.

    The root is verified with its own keys only; the step from the previous root is verified when a
    new root is published.

    Raises:
        KeyError: If the state has no metadata of the role.
    """
    metadata = state.get_role(role)
    if metadata is None:
        raise KeyError(role)
    delegator: Root | Targets = (
        state.root.signed
        if role in ("root", "targets", "snapshot", "timestamp")
        else state.targets.signed
    )
    return delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)


def must_write_root_last(
    before: FeedState | None,
    after: FeedState,
    *,
    accept: bool,
    names_missing_root: bool = False,
) -> bool:
    """Tell whether the timestamp has to go before new roots, so that sites always see a valid feed.

    Args:
        before: What sites see now; None for nothing.
        after: What they will see.
        accept: Whether sites that update meanwhile may fail once.
        names_missing_root: Whether the new timestamp names a root that is not there yet.

    Raises:
        KEY_CHANGE_NOT_ATOMIC: If there is no safe order of writes.
    """
    if before is None or after.root.signed.version == before.root.signed.version:
        return False
    if _is_verifiable(replace(before, root=after.root)):
        return False
    if _is_verifiable(replace(after, root=before.root)) and not names_missing_root:
        return True
    if accept:
        return False
    raise UpdaterError(
        KEY_CHANGE_NOT_ATOMIC,
        reason="the published and the new metadata are not valid under each other's root",
    )


def _is_verifiable(state: FeedState) -> bool:
    return all(verify_role(state, role) for role in ("targets", *state.delegated, *ONLINE_ROLES))


def get_target_file_name(target: TargetFile) -> str:
    """Return the path of a target below ``targets/``: its file name is prefixed by the digest."""
    directory, _, name = target.path.rpartition("/")
    hashed = f"{target.hashes['sha256']}.{name}"
    return f"{directory}/{hashed}" if directory else hashed


class SourceChangedError(Exception):
    """A file that changed after it was checked."""


class DurableWriter:
    """A writer that uses temporary file, flush, rename, and flush of the directory.

    Each call leaves the old file or the new one.
    """

    def write_file(self, path: Path, content: bytes) -> None:
        """Write or replace a small file."""
        durable.make_directory(path.parent)
        durable.write_file(path, content)

    def copy_file(self, path: Path, source: Path, sha256: str) -> None:
        """Copy a large file in blocks of 1 MiB; the written bytes are those that were hashed.

        Raises:
            SourceChangedError: If its digest differs; nothing was written.
        """
        durable.make_directory(path.parent)
        digest = hashlib.sha256()
        with source.open("rb") as reader, durable.open_for_replace(path) as stream:
            while block := reader.read(COPY_BLOCK):
                digest.update(block)
                stream.write(block)
            if digest.hexdigest() != sha256:
                raise SourceChangedError(source)


class FeedDirectory:
    """A feed directory.

    Args:
        directory: The directory that the web server serves, with ``metadata`` and ``targets``.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.metadata_directory = directory / "metadata"
        self.targets_directory = directory / "targets"

    @property
    def exists(self) -> bool:
        """Return whether a publication was ever completed: the timestamp is written last."""
        return (self.metadata_directory / "timestamp.json").exists()

    @contextlib.contextmanager
    def lock(self, *, make: bool = False) -> Iterator[None]:
        """Lock the feed against other publishers during the block; a lock ends with its process.

        Args:
            make: Whether to create the directory for a new feed; otherwise a mistyped path is an
                error.

        Raises:
            FEED_DIRECTORY_MISSING: If the directory does not exist.
            FEED_BUSY: If another process holds the lock.
        """
        if make:
            durable.make_directory(self.directory)
        try:
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise UpdaterError(FEED_DIRECTORY_MISSING, path=self.directory) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UpdaterError(FEED_BUSY, path=self.directory) from error
            yield
        finally:
            os.close(descriptor)

    def read_roots(self) -> list[Metadata[Root]]:
        """Return all roots, from the first on.

        Raises:
            FEED_DIRECTORY_MISSING: If the directory does not exist.
            FEED_BROKEN: If there is no root, one is missing, or one is not signed by its
                predecessor.
        """
        numbers = sorted(
            int(path.name.split(".")[0])
            for path in self.metadata_directory.glob("*.root.json")
            if re.fullmatch(r"[0-9]{1,9}", path.name.split(".")[0])
        )
        if not self.directory.exists():
            raise UpdaterError(FEED_DIRECTORY_MISSING, path=self.directory)
        if not numbers or numbers != list(range(1, len(numbers) + 1)):
            raise self._make_broken_error(f"roots 1 to N must all be there, found {numbers}")
        chain: list[Metadata[Root]] = []
        for number in numbers:
            root: Metadata[Root] = self._read_metadata(f"{number}.root.json", Root, number)
            previous = chain[-1].signed if chain else None
            if not root.signed.get_root_verification_result(
                previous, root.signed_bytes, root.signatures
            ):
                raise self._make_broken_error(f"root {number} is not signed by enough signers")
            chain.append(root)
        return chain

    def read_state(self, verify: bool = True) -> FeedState:
        """Read the feed and verify all signatures and versions, but not expiry.

        Args:
            verify: False to skip the thresholds of all roles but the root, because an interrupted
                change of keys is about to be completed.

        Raises:
            FEED_BROKEN: Naming what is missing or invalid.
        """
        chain = tuple(self.read_roots())
        state = self.assemble_state(chain, self._read_metadata("timestamp.json", Timestamp, None))
        for role in ("timestamp", "snapshot", "targets", *state.delegated) if verify else ():
            result = verify_role(state, role)
            if not result:
                raise self._make_broken_error(
                    f"{role} has {len(result.signed)} of {result.threshold}"
                )
        try:
            state.policy  # noqa: B018 - read for its check
        except ValueError as error:
            raise self._make_broken_error(describe_system_error(error)) from error
        return state

    def assemble_state(
        self, chain: tuple[Metadata[Root], ...], timestamp: Metadata[Timestamp]
    ) -> FeedState:
        """Read the metadata that a timestamp names; verify versions, but no signatures.

        Args:
            chain: The roots that sites see with it.
            timestamp: The timestamp.

        Raises:
            FEED_BROKEN: Naming what is missing or invalid.
        """
        number = timestamp.signed.snapshot_meta.version
        snapshot: Metadata[Snapshot] = self._read_metadata(
            f"{number}.snapshot.json", Snapshot, number
        )
        versions = {
            name.removesuffix(".json"): meta.version for name, meta in snapshot.signed.meta.items()
        }
        if "targets" not in versions:
            raise self._make_broken_error("no targets in snapshot")
        loaded: dict[str, Metadata[Targets]] = {
            role: self._read_metadata(f"{version}.{role}.json", Targets, version)
            for role, version in versions.items()
        }
        targets = loaded.pop("targets")
        known = list_delegated_roles(targets.signed)
        delegated = {role: loaded[role] for role in known if role in loaded}
        return FeedState(chain[-1], targets, delegated, snapshot, timestamp, chain)

    def iter_signed_metadata(self) -> Iterator[tuple[str, Metadata[Any]]]:
        """Yield all versions of all offline roles in the feed, each with its role.

        Raises:
            FEED_BROKEN: If one cannot be read, or has another role or version.
        """
        for path in sorted(self.metadata_directory.glob("*.json")):
            found = re.fullmatch(r"([0-9]{1,9})\.([a-z][a-z0-9-]*)\.json", path.name)
            if found is not None and found[2] not in ("snapshot", "timestamp"):
                kind = Root if found[2] == "root" else Targets
                yield found[2], self._read_metadata(path.name, kind, int(found[1]))

    def read_targets(self, role: str, version: int) -> Targets:
        """Return a version of a product's role.

        Raises:
            FEED_BROKEN: If it cannot be read, or has another role or version.
        """
        return cast(
            "Targets", self._read_metadata(f"{version}.{role}.json", Targets, version).signed
        )

    def list_waivers(self) -> tuple[tuple[date, Waiver], ...]:
        """Return the publications that waived a condition, each with its day, oldest first.

        The snapshot of a publication records its waivers, so each listed publication took place.

        Raises:
            FEED_BROKEN: If a snapshot cannot be read.
        """
        found = []
        timestamp = self._read_metadata("timestamp.json", Timestamp, None)
        for number in range(1, timestamp.signed.snapshot_meta.version + 1):
            path = self.get_metadata_path("snapshot", number)
            if path.exists():
                signed = self._read_metadata(path.name, Snapshot, number).signed
                for one in signed.unrecognized_fields.get(WAIVERS_FIELD, ()):
                    day = date.fromisoformat(read_issue_time(signed)[:10])
                    found.append((day, Waiver.model_validate(one)))
        return tuple(found)

    def get_metadata_path(self, role: str, version: int) -> Path:
        """Return the path of a version of a role."""
        name = "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"
        return self.metadata_directory / name

    def get_target_path(self, target: TargetFile) -> Path:
        """Return the path of a target."""
        return self.targets_directory / get_target_file_name(target)

    def _make_broken_error(self, reason: str) -> UpdaterError:
        return UpdaterError(FEED_BROKEN, path=self.directory, reason=reason)

    def _read_metadata(self, name: str, kind: type[Any], version: int | None) -> Metadata[Any]:
        path = self.metadata_directory / name
        try:
            metadata: Metadata[Any] = Metadata.from_bytes(read_file(path, MAX_METADATA_BYTES))
        except (OSError, RepositoryError) as error:
            raise self._make_broken_error(
                f"{name} cannot be read: {describe_system_error(error)}"
            ) from error
        role = name.removesuffix(".json").rpartition(".")[2]
        value = metadata.signed.unrecognized_fields.get(ROLE_FIELD)
        if not isinstance(metadata.signed, kind) or value != role:
            raise self._make_broken_error(f"{name} holds another role")
        if version is not None and metadata.signed.version != version:
            raise self._make_broken_error(f"{name} holds version {metadata.signed.version}")
        return metadata


class FeedRepository(Repository):
    """Makes new versions of roles, based on a state.

    Args:
        state: The base, which is not changed; None for the first versions of a feed.
        policy: Policy with the expiry periods.
        now: Time of the edit (UTC), from which issue time and expiry are computed.
        signers: Signers of the online roles.

    Attributes:
        changed: The new versions, by role.
    """

    def __init__(
        self,
        state: FeedState | None,
        policy: FeedPolicy,
        now: datetime,
        signers: Mapping[str, Sequence[Signer]] | None = None,
    ) -> None:
        self._state = state
        self._policy = policy
        self._now = now.astimezone(UTC).replace(microsecond=0)
        self._signers = signers or {}
        self.changed: dict[str, Metadata[Any]] = {}

    def open(self, role: str) -> Metadata[Any]:
        """Return a copy of the role's newest version, or a first one."""
        if role in self.changed:
            return deepcopy(self.changed[role])
        known = deepcopy(self._get_published(role))
        if known is not None:
            # These fields belong to the publication of that version only.
            for field in (PUBLISH_AFTER_FIELD, WAIVERS_FIELD):
                known.signed.unrecognized_fields.pop(field, None)
            return known
        kinds: dict[str, type[Any]] = {"snapshot": Snapshot, "timestamp": Timestamp}
        return Metadata(kinds.get(role, Targets)(version=1))

    def _get_published(self, role: str) -> Metadata[Any] | None:
        return None if self._state is None else self._state.get_role(role)

    def _now_known(self) -> FeedState:
        if self._state is None:
            raise RuntimeError("publish the offline roles first")
        return self._state.replace_roles(self.changed)

    def close(self, role: str, md: Metadata[Any]) -> None:
        """Set version, expiry and signatures of new metadata.

        The version is one above the published one, however often it is edited.
        """
        before = self._get_published(role)
        md.signed.version = (before.signed.version if before else 0) + 1
        days = self._policy.expiry_days[role]
        md.signed.expires = self._now + timedelta(days=days)
        stamp_metadata(md.signed, role, self._now)
        md.signatures.clear()
        for signer in self._signers.get(role, ()):
            signature = md.sign(signer, append=True)
            # A token signs without an error even if its key does not match the public key file.
            signer.public_key.verify_signature(signature, md.signed_bytes)
        self.changed[role] = md

    @property
    def targets_infos(self) -> dict[str, MetaFile]:
        """Return the versions of the roles for the next snapshot."""
        state = self._now_known()
        return {
            "targets.json": MetaFile(version=state.targets.signed.version),
            **{
                f"{role}.json": MetaFile(version=metadata.signed.version)
                for role, metadata in state.delegated.items()
            },
        }

    @property
    def snapshot_info(self) -> MetaFile:
        """Return the version of the snapshot for the next timestamp."""
        snapshot = self._now_known().snapshot
        if snapshot is None:
            raise RuntimeError("publish snapshot before timestamp")
        return MetaFile(version=snapshot.signed.version)
