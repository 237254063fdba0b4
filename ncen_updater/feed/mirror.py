"""National mirror: a copy of the feed in a directory that any static web server can serve.

The agent's TUF client verifies everything before it is written. The order of writes ensures that
clients see either the old or the new feed: target files first, then the metadata that names them,
then the roots, and the timestamp last. The next run completes an interrupted one.

Metadata and roots are never removed, because a site that was off for years needs every root.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import TOP_LEVEL_ROLE_NAMES, Metadata, TargetFile  # type: ignore[attr-defined]

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.disk_space import require_space
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import JsonRecord
from ncen_updater.common.messages import MIRROR_BUSY, MIRROR_NOT_OURS, ROOT_CHAIN_BROKEN
from ncen_updater.common.progress import ProgressListener
from ncen_updater.feed.clock import TrustClock, get_system_time
from ncen_updater.feed.error_mapping import FeedErrorContext, map_errors
from ncen_updater.feed.errors import TrustError
from ncen_updater.feed.fetching import FEED_SCHEME, FeedFetcher, FeedFileMissingError
from ncen_updater.feed.metadata_verifier import (
    compute_expiry,
    get_max_role_bytes,
    get_target_digest,
    parse_root,
    verify_successor,
)
from ncen_updater.feed.offers import parse_offers
from ncen_updater.feed.resumable_download import DownloadStream
from ncen_updater.feed.tuf_client import TrustClient
from ncen_updater.formats.bundle_file import get_member_name
from ncen_updater.formats.release_document import (
    Offer,
    get_release_target_name,
    list_release_targets,
)

METADATA_DIRECTORY, TARGETS_DIRECTORY = "metadata", "targets"


@dataclass(frozen=True)
class MirrorReport(JsonRecord):
    """The content of a mirror after an update.

    Attributes:
        releases: Versions with all their files, by product, oldest first.
        timestamp: Version of the timestamp.
        root: Version of the newest root.
        expires_at: When the first role expires, without any grace (UTC).
        downloaded_bytes: Downloaded bytes.
        removed_files: Number of removed files of older releases.
    """

    releases: Mapping[str, tuple[str, ...]]
    timestamp: int
    root: int
    expires_at: datetime
    downloaded_bytes: int
    removed_files: int


def select_offers(offers: tuple[Offer, ...], max_releases: int | None) -> list[Offer]:
    """Select the releases for a mirror: the newest ones and all required ones. Pure."""
    offered = [offer for offer in offers if offer.withdrawn is None]
    if max_releases is None:
        return offered
    newest = offered[-max_releases:]
    return [offer for offer in offered if offer in newest or offer.required]


class _RecordingFetcher(FeedFetcher):
    """A fetcher that forwards to another one and records all metadata."""

    def __init__(self, inner: FeedFetcher) -> None:
        self._inner = inner
        self.metadata: dict[str, bytes] = {}
        self.pinned = False

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return metadata; once ``pinned`` is set, the recorded timestamp and no newer root."""
        name = url.removeprefix(FEED_SCHEME).lstrip("/").removeprefix(f"{METADATA_DIRECTORY}/")
        if self.pinned and name.endswith(".root.json"):
            raise FeedFileMissingError(name)
        if not (self.pinned and name in self.metadata):
            self.metadata[name] = self._inner.download_bytes(url, max_length)
        return self.metadata[name]

    def open_stream(self, url: str, offset: int) -> DownloadStream:
        """Open a file from an offset."""
        return self._inner.open_stream(url, offset)


class FeedMirror:
    """A mirror of the feed in one directory.

    Args:
        directory: The directory that the web server serves.
        state: The agent's state directory, for the clock floor and for metadata being verified.
        trusted_root: The root that was installed with the agent.
        now: The system clock.
    """

    def __init__(
        self,
        directory: Path,
        *,
        state: Path,
        trusted_root: Path,
        now: Callable[[], datetime] = get_system_time,
    ) -> None:
        self._directory, self._trusted_root, self._now = directory, trusted_root, now
        name = hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()[:12]
        self._state, self._staging = state, state / f"mirror-{name}"

    def update_mirror(
        self,
        fetcher: FeedFetcher,
        progress: ProgressListener,
        *,
        max_releases: int | None = None,
        grace: timedelta = timedelta(0),
        is_available: Callable[[str], bool] = lambda _: True,
        dry_run: bool = False,
    ) -> MirrorReport:
        """Update the mirror from the feed.

        Args:
            fetcher: Fetcher of the feed or of a bundle.
            progress: Receives the progress.
            max_releases: Number of newest releases to retain per product, besides required ones;
                all by default.
            grace: How long timestamp and snapshot are accepted after they expire; for bundles.
            is_available: Returns whether the source has a file, by its name in the feed; for
                bundles.
            dry_run: Verify the metadata and return the expected report; write nothing.

        Raises:
            MIRROR_BUSY: If another process is updating the mirror.
            MIRROR_NOT_OURS: If the directory contains other files.
            UpdaterError: Of the trust, network or transfer family; clients still see the old feed.
        """
        with self._lock_directory(dry_run):
            try:
                return self._update(
                    _RecordingFetcher(fetcher), progress, max_releases, grace, is_available, dry_run
                )
            finally:
                shutil.rmtree(self._staging, ignore_errors=True)

    @contextlib.contextmanager
    def _lock_directory(self, dry_run: bool) -> Iterator[None]:
        if dry_run and not self._directory.exists():
            yield
            return
        durable.make_directory(self._directory)
        if any(
            path.name not in (METADATA_DIRECTORY, TARGETS_DIRECTORY)
            for path in self._directory.iterdir()
        ):
            raise UpdaterError(MIRROR_NOT_OURS, path=self._directory)
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise UpdaterError(MIRROR_BUSY, path=self._directory) from error
        try:
            yield
        finally:
            os.close(descriptor)

    # -- verify ----------------------------------------------------------------------------------

    def _update(
        self,
        fetcher: _RecordingFetcher,
        progress: ProgressListener,
        max_releases: int | None,
        grace: timedelta,
        is_available: Callable[[str], bool],
        dry_run: bool,
    ) -> MirrorReport:
        progress.report(LazyText(N_("reading the metadata")))
        self._stage_known_metadata()
        first = self._make_client("", fetcher, grace)
        first.refresh()
        fetcher.pinned = True  # all products from the same timestamp
        roots = self._collect_roots(fetcher, first.root_version)
        wanted: dict[str, TargetFile] = {}
        releases: dict[str, tuple[str, ...]] = {}
        clients: dict[str, TrustClient] = {}
        for product in first.list_products():
            client = clients[product] = self._make_client(product, fetcher, grace)
            listed = client.list_product_targets()
            complete = []
            for offer in select_offers(parse_offers(product, listed), max_releases):
                names = [
                    n
                    for n in list_release_targets(offer.product, offer.version, listed)
                    if is_available(_name_in_feed(listed[n]))
                ]
                wanted.update({name: listed[name] for name in names})
                if get_release_target_name(product, offer.version) in names and len(names) > 1:
                    complete.append(offer.version)
            releases[product] = tuple(complete)
        missing = [t for t in wanted.values() if not self._is_present(t)]
        report = MirrorReport(
            releases=releases,
            timestamp=first.timestamp_version,
            root=first.root_version,
            expires_at=self._find_earliest_expiry(clients),
            downloaded_bytes=sum(target.length for target in missing),
            removed_files=len(self._list_outdated_files(wanted)) if max_releases is not None else 0,
        )
        if not dry_run:
            require_space(self._directory, report.downloaded_bytes)
            self._write_mirror(clients, wanted, roots, progress)
            if max_releases is not None:
                for path in self._list_outdated_files(wanted):
                    durable.remove_file(path)
        return report

    def _find_earliest_expiry(self, products: Iterable[str]) -> datetime:
        metadata = self._staging / METADATA_DIRECTORY
        verified = [metadata / f"{role}.json" for role in (*TOP_LEVEL_ROLE_NAMES, *products)]
        return min(
            compute_expiry(Metadata.from_bytes(path.read_bytes()).signed) for path in verified
        )

    def _stage_known_metadata(self) -> None:
        """Copy the mirror's newest metadata into the staging directory, without its roots."""
        shutil.rmtree(self._staging, ignore_errors=True)
        durable.make_directory(self._staging / METADATA_DIRECTORY)
        floor = self._state / "clock.json"
        if floor.exists():
            shutil.copyfile(floor, self._staging / floor.name)
        metadata = self._directory / METADATA_DIRECTORY
        newest: dict[str, tuple[int, Path]] = {}
        for path in metadata.glob("*.json"):
            number, _, role = path.name.removesuffix(".json").rpartition(".")
            if role != "root" and (number.isdigit() or role == "timestamp"):
                version = int(number or 0)
                newest[role] = max(newest.get(role, (0, path)), (version, path))
        for role, (_, path) in newest.items():
            shutil.copyfile(path, self._staging / METADATA_DIRECTORY / f"{role}.json")

    def _make_client(self, product: str, fetcher: FeedFetcher, grace: timedelta) -> TrustClient:
        return TrustClient(
            product,
            metadata_directory=self._staging / METADATA_DIRECTORY,
            trusted_root=self._trusted_root,
            fetcher=fetcher,
            clock=TrustClock(self._staging / "clock.json", self._now),
            grace=grace,
        )

    def _collect_roots(self, fetcher: _RecordingFetcher, newest: int) -> dict[int, bytes]:
        """Return every root from version 1 on, each signed by its predecessor."""
        installed = self._trusted_root.read_bytes()
        number = parse_root(installed).signed.version
        chain = {number: installed}
        for later in range(number + 1, newest + 1):
            chain[later] = fetcher.metadata[f"{later}.root.json"]
        for earlier in range(number - 1, 0, -1):
            name = f"{earlier}.root.json"
            stored = self._directory / METADATA_DIRECTORY / name
            with map_errors(FeedErrorContext("root", self._now(), self._now(), None, number)):
                fetcher.pinned = False
                content = (
                    stored.read_bytes()
                    if stored.exists()
                    else fetcher.download_bytes(
                        f"{FEED_SCHEME}/{METADATA_DIRECTORY}/{name}", get_max_role_bytes("root")
                    )
                )
                fetcher.pinned = True
            try:
                verify_successor(parse_root(content).signed, chain[earlier + 1])
            except RepositoryError as error:
                raise TrustError(ROOT_CHAIN_BROKEN, version=earlier, detail=name) from error
            chain[earlier] = content
        return chain

    # -- write -----------------------------------------------------------------------------------

    def _get_target_path(self, target: TargetFile) -> Path:
        return self._directory / _name_in_feed(target)

    def _is_present(self, target: TargetFile) -> bool:
        path = self._get_target_path(target)
        return path.is_file() and path.stat().st_size == target.length

    def _write_mirror(
        self,
        clients: Mapping[str, TrustClient],
        wanted: Mapping[str, TargetFile],
        roots: Mapping[int, bytes],
        progress: ProgressListener,
    ) -> None:
        for name, target in wanted.items():
            client = next(c for c in clients.values() if name in c.list_product_targets())
            client.download_target_file(target, self._get_target_path(target), progress)
        metadata = self._directory / METADATA_DIRECTORY
        durable.make_directory(metadata)
        for leftover in self._directory.rglob(".*.partial*"):
            durable.remove_file(leftover)  # left by an interrupted run
        verified = {
            path.stem: path.read_bytes()
            for path in (self._staging / METADATA_DIRECTORY).glob("*.json")
        }
        timestamp = verified.pop("timestamp")
        verified.pop("root")
        written_last = ("targets", "snapshot")
        for role in sorted(
            verified, key=lambda r: written_last.index(r) if r in written_last else -1
        ):
            version = Metadata.from_bytes(verified[role]).signed.version
            _write_if_changed(metadata / f"{version}.{role}.json", verified[role])
        for number in sorted(roots):
            _write_if_changed(metadata / f"{number}.root.json", roots[number])
        _write_if_changed(metadata / "timestamp.json", timestamp)

    def _list_outdated_files(self, wanted: Mapping[str, TargetFile]) -> list[Path]:
        current = {self._get_target_path(target) for target in wanted.values()}
        files = (self._directory / TARGETS_DIRECTORY).rglob("*")
        return sorted(path for path in files if path.is_file() and path not in current)


def _name_in_feed(target: TargetFile) -> str:
    return get_member_name(target.path, get_target_digest(target)[1])


def _write_if_changed(path: Path, content: bytes) -> None:
    if not (path.is_file() and path.read_bytes() == content):
        durable.write_file(path, content)
