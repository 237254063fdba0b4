"""The agent's TUF client: ``tufup``'s client, changed so that no failure looks like success.

Changes and reasons:

* Errors. tufup reports an unreachable feed and a bad signature as "no update". Here every failure
  of a public method raises :class:`~ncen_updater.common.errors.UpdaterError` (``error_mapping``).
* Expiry is compared with :class:`~ncen_updater.feed.clock.TrustClock`. A grace, for offline
  bundles, extends it for timestamp and snapshot only.
* A missing or damaged local root is restored from the installed one, and the root chain is read
  again.
* Writes are flushed. The metadata directory protects against rollback attacks: all versions of the
  agent share it, and it is never emptied.
* Targets of a delegated role are listed, limited to the paths delegated to it.
* A role with two delegating roles is verified under each of them.
* Metadata that was signed for another role is refused, even if its signatures are valid.
* Large files go through ``resumable_download``; nothing is written to TMPDIR.
* Nothing is unpacked or installed: tufup would do so without a filter. tufup's own public methods
  are not used.

Use one instance per cycle, and a new one after a failure. Only one process at a time may use a
metadata directory; the caller holds the agent's lock.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast
from urllib.parse import quote

from tuf.api.exceptions import BadVersionNumberError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import Metadata, Signed, TargetFile, Targets  # type: ignore[attr-defined]
from tuf.ngclient.config import UpdaterConfig

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import PRODUCT_NOT_IN_FEED, ROOTS_HIDDEN
from ncen_updater.common.progress import ProgressListener
from ncen_updater.feed.clock import TrustClock
from ncen_updater.feed.error_mapping import (
    FeedErrorContext,
    TufMixedRolesError,
    TufRoleExpiredError,
    map_errors,
)
from ncen_updater.feed.errors import TrustError
from ncen_updater.feed.fetching import FEED_SCHEME, FeedFetcher
from ncen_updater.feed.guarded_tufup_client import Client
from ncen_updater.feed.metadata_verifier import (
    RootChain,
    compute_expiry,
    get_max_role_bytes,
    get_target_digest,
    is_safe_target_path,
    parse_unverified,
    read_issue_time,
    require_role,
    restore_root,
)
from ncen_updater.feed.release_files import DOCUMENT_NAME, write_document_record
from ncen_updater.feed.resumable_download import ExpectedFile, download_file
from ncen_updater.formats.errors import ReleaseDocumentError, describe_excess
from ncen_updater.formats.release_document import ChunkDigests
from ncen_updater.formats.target_names import (
    MAX_DOCUMENT_BYTES,
    METADATA_PREFIX,
    ROOT_VERSION_FIELD,
    TARGETS_PREFIX,
)

logger = logging.getLogger(__name__)

#: Unlimited: the predecessor's signers signed each root, each root is stored at once, and only the
#: newest stays in memory. An interrupted update of the root continues where it stopped.
MAX_ROOT_ROTATIONS = 1 << 31


class TrustClient(Client):  # type: ignore[misc]  # tufup is untyped
    """Verified metadata and files of one product.

    Args:
        product: Name of the product's delegated role.
        metadata_directory: Directory of the verified metadata.
        trusted_root: The root that was installed with the agent.
        fetcher: Downloads files by their name in the feed.
        clock: The clock for expiry.
        grace: How long timestamp and snapshot are accepted after they expire.
    """

    def __init__(
        self,
        product: str,
        *,
        metadata_directory: Path,
        trusted_root: Path,
        fetcher: FeedFetcher,
        clock: TrustClock,
        grace: timedelta = timedelta(0),
    ) -> None:
        self.product = product
        self._clock, self._grace = clock, grace
        self._loaded: set[tuple[str, str]] = set()
        self._received: dict[str, bytes] = {}
        self._refreshed = False
        self._facts = FeedErrorContext("root", clock.get_reference_time(), clock.now(), None, 0)
        with map_errors(self._facts):
            restore_root(metadata_directory, trusted_root)
            super().__init__(
                app_name=product,
                app_install_dir=metadata_directory,  # tufup's own installation is never used
                current_version="0",
                metadata_dir=metadata_directory,
                metadata_base_url=FEED_SCHEME + METADATA_PREFIX,
                target_dir=metadata_directory,
                target_base_url=FEED_SCHEME + TARGETS_PREFIX,
                config=UpdaterConfig(MAX_ROOT_ROTATIONS),
            )
        self._roots = RootChain(trusted_root, metadata_directory)
        self._fetcher = fetcher  # tufup's constructor takes none; its own is unused so far
        self._set_reference_time()

    # -- public --------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Download and verify the top-level metadata; a second call does nothing.

        Raises:
            UpdaterError: Of the trust or network family.
        """
        if self._refreshed:
            return
        with self._map_errors("root"):
            super().refresh()
            self._check_expiry_without_grace("targets")
            self._roots.download_missing_roots(self.root_version, self._download_root)
            self._refreshed = True

    def load_product_role(self) -> Targets:
        """Return the verified targets metadata of the product.

        Raises:
            UpdaterError: Of the trust or network family.
        """
        self.refresh()
        with self._map_errors(self.product):
            delegations = self._trusted_set.targets.delegations
            roles = delegations.roles if delegations is not None else None
            if not roles or self.product not in roles:
                raise TrustError(PRODUCT_NOT_IN_FEED, product=self.product)
            targets = self._load_targets(self.product, "targets")
            self._check_expiry_without_grace(self.product)
            return targets

    def list_product_targets(self) -> dict[str, TargetFile]:
        """Return the product's target files, without names outside its delegated paths."""
        role = self.load_product_role()
        delegation = self._trusted_set.targets.delegations.roles[self.product]
        allowed = {
            path: target
            for path, target in role.targets.items()
            if delegation.is_delegated_path(path) and is_safe_target_path(path)
        }
        for path in role.targets.keys() - allowed.keys():
            logger.warning("role %s may not name %r: left out", self.product, path)
        return allowed

    @property
    def expires_at(self) -> datetime:
        """Return when the timestamp expires."""
        return compute_expiry(self._trusted_set.timestamp)

    @property
    def timestamp_version(self) -> int:
        """Return the version of the timestamp."""
        return int(self._trusted_set.timestamp.version)

    @property
    def root_version(self) -> int:
        """Return the version of the newest root."""
        return int(self._trusted_set.root.version)

    def list_products(self) -> tuple[str, ...]:
        """Return the products in the snapshot metadata, in the order of the delegations."""
        delegations = self._trusted_set.targets.delegations
        named = self._trusted_set.snapshot.meta
        roles = (delegations.roles or {}) if delegations is not None else {}
        return tuple(name for name in roles if f"{name}.json" in named)

    def get_usable_until(self) -> datetime:
        """Return when the first role expires, with the grace for timestamp and snapshot."""
        trusted = self._trusted_set
        roles = ["root", "targets", *([self.product] if self.product in trusted else [])]
        times = [compute_expiry(trusted[role]) for role in roles]
        times += [compute_expiry(trusted[role], self._grace) for role in ("timestamp", "snapshot")]
        return min(times)

    def download_document(
        self, target: TargetFile, directory: Path, progress: ProgressListener
    ) -> None:
        """Download a release document with its record into the directory of its release.

        Raises:
            ReleaseDocumentError: If it is too large.
            UpdaterError: Of the trust, network or transfer family.
        """
        if target.length > MAX_DOCUMENT_BYTES:
            detail = describe_excess(target.length, MAX_DOCUMENT_BYTES)
            raise ReleaseDocumentError(source=target.path, detail=detail)
        self.download_target_file(target, directory / DOCUMENT_NAME, progress)
        write_document_record(directory, target.length, target.hashes["sha256"])

    def download_target_file(
        self,
        target: TargetFile,
        path: Path,
        progress: ProgressListener,
        chunks: ChunkDigests | None = None,
    ) -> None:
        """Download and verify a file, resuming an earlier attempt.

        Args:
            target: The file in the signed metadata.
            path: Where to store it.
            progress: Receives the bytes so far.
            chunks: Digests of its chunks, if they were signed.

        Raises:
            UpdaterError: Of the trust, network or transfer family.
        """
        with self._map_errors(target.path):
            algorithm, digest = get_target_digest(target)
            parts = (chunks.size, chunks.sha256) if chunks else (0, ())
            wanted = ExpectedFile(target.path, target.length, digest, *parts, algorithm=algorithm)
            directory, _, base = target.path.rpartition("/")
            if self._trusted_set.root.consistent_snapshot:
                base = f"{digest}.{base}"
            name = f"{directory}/{base}" if directory else base
            url = f"{FEED_SCHEME}{TARGETS_PREFIX}{name}"
            download_file(
                lambda offset: self._fetcher.open_stream(url, offset),
                path,
                wanted,
                progress,
                mirror_count=self._fetcher.mirror_count,
                on_wrong_bytes=self._fetcher.demote_mirror,
            )

    # -- internal ------------------------------------------------------------------------------

    def _map_errors(self, name: str) -> AbstractContextManager[FeedErrorContext]:
        facts = self._facts
        facts.name = name
        facts.server = getattr(self._fetcher, "server_date", None)
        return map_errors(facts)

    def _set_reference_time(self, signed: datetime | None = None) -> None:
        reference = self._clock.get_reference_time()
        now = reference if signed is None else max(reference, signed)
        self._facts.now, self._facts.system = now, self._clock.now()
        self._trusted_set.reference_time = now - self._grace

    def _check_expiry_without_grace(self, name: str) -> None:
        """Check expiry again after loading: without grace, and with the newest signed time.

        That time becomes the clock floor only if no metadata has expired at that time. Otherwise
        signers whose clock was ahead would lock this site out until then, whatever they sign later.
        """
        trusted = self._trusted_set
        times = [read_issue_time(trusted[role]) for role in ("root", "targets", name)]
        signed = max((time for time in times if time is not None), default=None)
        self._set_reference_time(signed)
        now = self._facts.now
        for role in ("root", "targets", name):
            if trusted[role].is_expired(now):
                raise TufRoleExpiredError(role, trusted[role].expires)
        for role in ("timestamp", "snapshot"):
            if trusted[role].is_expired(trusted.reference_time):
                raise TufRoleExpiredError(role, trusted[role].expires)
        if signed is not None:
            self._clock.raise_floor(signed)

    def _download_root(self, version: int) -> bytes:
        return self._download_metadata("root", get_max_role_bytes("root"), version)

    def _persist_metadata(self, rolename: str, data: bytes) -> None:
        if rolename == "root":
            self._roots.store_root(self.root_version, data)
        durable.write_file(Path(self._dir) / f"{quote(rolename, '')}.json", data)

    def _download_metadata(self, rolename: str, length: int, version: int | None = None) -> bytes:
        self._facts.name = rolename
        limit = min(length, get_max_role_bytes(rolename))
        try:
            data = cast("bytes", super()._download_metadata(rolename, limit, version))
            self._received[rolename] = data
            return data
        finally:
            self._facts.server = getattr(self._fetcher, "server_date", None)

    def _load_root(self) -> None:
        super()._load_root()
        self._facts.root_version = self._trusted_set.root.version

    def _load_timestamp(self) -> None:
        try:
            super()._load_timestamp()
        except ExpiredMetadataError as error:
            expired = self._find_expired_role("root", "timestamp")
            if expired is not None and expired.role == "root":
                # A missing newer root looks like an expired root. This timestamp is unverified; it
                # is only used to choose between two errors.
                self._require_newest_root(parse_unverified(self._received["timestamp"]))
            raise expired or error from error
        self._require_newest_root(self._trusted_set.timestamp)

    def _require_newest_root(self, timestamp: Signed | None) -> None:
        fields = timestamp.unrecognized_fields if timestamp is not None else {}
        newest, present = fields.get(ROOT_VERSION_FIELD), self._trusted_set.root.version
        # metadata of other publishers lacks this field
        if isinstance(newest, int) and newest > present:
            raise TrustError(ROOTS_HIDDEN, version=present, newest=newest)

    def _load_snapshot(self) -> None:
        try:
            super()._load_snapshot()
        except ExpiredMetadataError as error:
            raise self._find_expired_role("timestamp", "snapshot") or error from error
        except BadVersionNumberError as error:
            wanted = self._trusted_set.timestamp.snapshot_meta.version
            self._facts.name = "snapshot"
            if Metadata.from_bytes(self._received["snapshot"]).signed.version != wanted:
                raise TufMixedRolesError(*error.args) from error
            raise

    def _find_expired_role(self, *roles: str) -> TufRoleExpiredError | None:
        trusted = self._trusted_set
        for role in roles:
            if role in trusted and trusted[role].is_expired(trusted.reference_time):
                return TufRoleExpiredError(role, trusted[role].expires)
        return None

    def _load_targets(self, role: str, parent_role: str) -> Targets:
        trusted = self._trusted_set
        # Not "role in trusted": another delegating role may have loaded it under other keys.
        if (role, parent_role) in self._loaded:
            return cast("Targets", trusted[role])
        try:
            targets = trusted.update_delegated_targets(
                self._load_local_metadata(role), role, parent_role
            )
            require_role(targets, role)
        except (OSError, RepositoryError) as error:
            logger.debug("stored %s is not current: %s", role, error)
            targets = self._download_role(role, parent_role)
        self._loaded.add((role, parent_role))
        return cast("Targets", targets)

    def _download_role(self, role: str, parent_role: str) -> Targets:
        trusted = self._trusted_set
        self._facts.name = role
        meta = trusted.snapshot.meta.get(f"{role}.json")
        if meta is None:
            raise TufMixedRolesError(
                LazyText(N_("{role} is missing in the snapshot metadata"), {"role": role})
            )
        version = meta.version if trusted.root.consistent_snapshot else None
        data = self._download_metadata(role, meta.length or self.config.targets_max_length, version)
        try:
            targets = trusted.update_delegated_targets(data, role, parent_role)
        except ExpiredMetadataError as error:
            # tuf verifies signatures, digest and version before it checks expiry.
            raise TufRoleExpiredError(role, Metadata.from_bytes(data).signed.expires) from error
        except BadVersionNumberError as error:
            raise TufMixedRolesError(*error.args) from error
        require_role(targets, role)
        self._persist_metadata(role, data)
        return cast("Targets", targets)
