"""A national mirror: a copy of the feed in a directory that any static web server can serve.

Everything is verified by the agent's own client before it is written, and written so that whoever
reads the mirror meanwhile sees the old feed or the new one: files first, then the lists that name
them, then the roots, and last the timestamp. A run that was killed is completed by the next one.

Lists and roots are never removed: a server that was off for years walks every root.
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
from typing import IO, Final

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, TargetFile  # type: ignore[attr-defined]

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.disk_space import require_space
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import MIRROR_BUSY, MIRROR_NOT_OURS, ROOT_CHAIN_BROKEN
from ncen_updater.common.progress import Progress
from ncen_updater.common.records import Record
from ncen_updater.feed.client import TrustClient
from ncen_updater.feed.clock import TrustClock, system_now
from ncen_updater.feed.error_mapping import FeedContext, plain_errors
from ncen_updater.feed.errors import TrustError
from ncen_updater.feed.fetching import FEED_SCHEME, FeedFetcher, NotThere
from ncen_updater.feed.offers import offers_of
from ncen_updater.feed.resumable_download import DownloadPart
from ncen_updater.feed.signed_lists import digest_of, lapses_at
from ncen_updater.formats.bundle.form import target_member
from ncen_updater.formats.document import Offer, archive_target, release_target, tree_target

MAX_ROOT_BYTES = 512_000
LISTS, FILES = "metadata", "targets"
TOP_ROLES: Final = ("root", "targets", "snapshot", "timestamp")


@dataclass(frozen=True)
class MirrorReport(Record):
    """What a mirror holds after a run.

    Attributes:
        releases: Versions that are there whole, by product, oldest first.
        timestamp: Version of its timestamp.
        root: Number of its newest root.
        expires_at: When the first of its lists lapses, without any grace (UTC).
        brought: Bytes of the files that were brought.
        removed: Files of older releases that were removed.
    """

    releases: Mapping[str, tuple[str, ...]]
    timestamp: int
    root: int
    expires_at: datetime
    brought: int
    removed: int


def names_of(offer: Offer, listed: Mapping[str, TargetFile]) -> list[str]:
    """Return every signed file that belongs to a release, its document last; pure."""
    product, version = offer.product, offer.version
    exact = {archive_target(product, version), tree_target(product, version)}
    document = release_target(product, version)
    found = sorted(
        name
        for name in listed
        if name in exact
        or (name.startswith(f"deltas/{product}/") and name.endswith(f"--{version}"))
        or name.startswith((f"sbom/{product}/{version}.", f"provenance/{product}/{version}."))
    )
    return [*found, document]


def kept_offers(offers: tuple[Offer, ...], keep: int | None) -> list[Offer]:
    """The releases that a mirror holds: the newest ones, and every required stop; pure."""
    offered = [offer for offer in offers if offer.withdrawn is None]
    if keep is None:
        return offered
    newest = offered[-keep:]
    return [offer for offer in offered if offer in newest or offer.required]


class _Recording(FeedFetcher):
    """Passes on, and remembers every list that went by."""

    def __init__(self, inner: FeedFetcher) -> None:
        self._inner = inner
        self.lists: dict[str, bytes] = {}
        self.pinned = False

    def _fetch(self, url: str) -> Iterator[bytes]:
        yield self.download_bytes(url, MAX_ROOT_BYTES)

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return a list; once pinned, no newer timestamp or root."""
        name = url.removeprefix(FEED_SCHEME).lstrip("/").removeprefix(f"{LISTS}/")
        if self.pinned and name.endswith(".root.json"):
            raise NotThere(name)
        if not (self.pinned and name in self.lists):
            self.lists[name] = self._inner.download_bytes(url, max_length)
        return self.lists[name]

    @contextlib.contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """Never asked for: lists are read whole, and files by :meth:`open`."""
        with self._inner.download_file(url, max_length) as stream:
            yield stream

    def open(self, url: str, offset: int) -> DownloadPart:
        """Open a file from an offset."""
        return self._inner.open(url, offset)


class Mirror:
    """One mirror.

    Args:
        directory: What the web server serves.
        state: The agent's state directory, for the clock's floor and the lists being verified.
        trusted_root: The root that was installed with the agent.
        now: The system clock.
    """

    def __init__(
        self,
        directory: Path,
        *,
        state: Path,
        trusted_root: Path,
        now: Callable[[], datetime] = system_now,
    ) -> None:
        self._directory, self._trusted_root, self._now = directory, trusted_root, now
        name = hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()[:12]
        self._state, self._staging = state, state / f"mirror-{name}"

    def renew(
        self,
        fetcher: FeedFetcher,
        progress: Progress,
        *,
        keep: int | None = None,
        grace: timedelta = timedelta(0),
        available: Callable[[str], bool] = lambda _: True,
        dry_run: bool = False,
    ) -> MirrorReport:
        """Make the mirror like the feed.

        Args:
            fetcher: The feed, or a bundle.
            progress: Told what is done.
            keep: How many releases of each product stay besides required stops; all by default.
            grace: How long timestamp and snapshot count beyond their expiry; for bundles.
            available: Whether a file can be had, by its name below the feed; for bundles.
            dry_run: Verify the lists and say what would be there; bring nothing.

        Raises:
            MirrorBusy: If another run is at it.
            MirrorNotOurs: If the directory holds something else.
            UpdaterError: Of the trust, network or transfer family; readers see the old mirror.
        """
        with self._alone(dry_run):
            try:
                return self._renew(_Recording(fetcher), progress, keep, grace, available, dry_run)
            finally:
                shutil.rmtree(self._staging, ignore_errors=True)

    @contextlib.contextmanager
    def _alone(self, dry_run: bool) -> Iterator[None]:
        if dry_run and not self._directory.exists():
            yield
            return
        durable.make_directory(self._directory)
        if any(path.name not in (LISTS, FILES) for path in self._directory.iterdir()):
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

    def _renew(
        self,
        fetcher: _Recording,
        progress: Progress,
        keep: int | None,
        grace: timedelta,
        available: Callable[[str], bool],
        dry_run: bool,
    ) -> MirrorReport:
        progress.tell(Text(N_("reading the signed list")))
        self._stage()
        first = self._client("", fetcher, grace)
        first.refresh()
        fetcher.pinned = True  # all products as of one moment
        roots = self._roots(fetcher, first.root_version)
        wanted: dict[str, TargetFile] = {}
        releases: dict[str, tuple[str, ...]] = {}
        clients: dict[str, TrustClient] = {}
        for product in first.products():
            client = clients[product] = self._client(product, fetcher, grace)
            listed = client.product_targets()
            whole = []
            for offer in kept_offers(offers_of(product, listed), keep):
                names = [n for n in names_of(offer, listed) if available(_served(listed[n]))]
                wanted.update({name: listed[name] for name in names})
                if release_target(product, offer.version) in names and len(names) > 1:
                    whole.append(offer.version)
            releases[product] = tuple(whole)
        missing = [t for t in wanted.values() if not self._there(t)]
        report = MirrorReport(
            releases=releases,
            timestamp=first.timestamp_version,
            root=first.root_version,
            expires_at=self._lapses(clients),
            brought=sum(target.length for target in missing),
            removed=len(self._older(wanted)) if keep is not None else 0,
        )
        if not dry_run:
            require_space(self._directory, report.brought)
            self._write(clients, wanted, roots, progress)
            if keep is not None:
                for path in self._older(wanted):
                    durable.remove(path)
        return report

    def _lapses(self, products: Iterable[str]) -> datetime:
        lists = self._staging / LISTS
        verified = [lists / f"{role}.json" for role in (*TOP_ROLES, *products)]
        return min(lapses_at(Metadata.from_bytes(path.read_bytes()).signed) for path in verified)

    def _stage(self) -> None:
        """Give the client the lists of the mirror to compare with; never its roots."""
        shutil.rmtree(self._staging, ignore_errors=True)
        durable.make_directory(self._staging / LISTS)
        floor = self._state / "clock.json"
        if floor.exists():
            shutil.copyfile(floor, self._staging / floor.name)
        lists = self._directory / LISTS
        newest: dict[str, tuple[int, Path]] = {}
        for path in lists.glob("*.json"):
            number, _, role = path.name.removesuffix(".json").rpartition(".")
            if role != "root" and (number.isdigit() or role == "timestamp"):
                version = int(number or 0)
                newest[role] = max(newest.get(role, (0, path)), (version, path))
        for role, (_, path) in newest.items():
            shutil.copyfile(path, self._staging / LISTS / f"{role}.json")

    def _client(self, product: str, fetcher: FeedFetcher, grace: timedelta) -> TrustClient:
        return TrustClient(
            product,
            metadata_directory=self._staging / LISTS,
            trusted_root=self._trusted_root,
            fetcher=fetcher,
            clock=TrustClock(self._staging / "clock.json", self._now),
            grace=grace,
        )

    def _roots(self, fetcher: _Recording, newest: int) -> dict[int, bytes]:
        """Return every root from the first on, each signed by the one before it as well."""
        installed = self._trusted_root.read_bytes()
        number = _root(installed).version
        chain = {number: installed}
        for later in range(number + 1, newest + 1):
            chain[later] = fetcher.lists[f"{later}.root.json"]
        for earlier in range(number - 1, 0, -1):
            name = f"{earlier}.root.json"
            have = self._directory / LISTS / name
            with plain_errors(FeedContext("root", self._now(), self._now(), None, number)):
                fetcher.pinned = False
                content = (
                    have.read_bytes()
                    if have.exists()
                    else fetcher.download_bytes(f"{FEED_SCHEME}/{LISTS}/{name}", MAX_ROOT_BYTES)
                )
                fetcher.pinned = True
            if not _follows(content, chain[earlier + 1]):
                raise TrustError(ROOT_CHAIN_BROKEN, version=earlier, detail=name)
            chain[earlier] = content
        return chain

    # -- write -----------------------------------------------------------------------------------

    def _path(self, target: TargetFile) -> Path:
        return self._directory / _served(target)

    def _there(self, target: TargetFile) -> bool:
        path = self._path(target)
        return path.is_file() and path.stat().st_size == target.length

    def _write(
        self,
        clients: Mapping[str, TrustClient],
        wanted: Mapping[str, TargetFile],
        roots: Mapping[int, bytes],
        progress: Progress,
    ) -> None:
        for name, target in wanted.items():
            client = next(c for c in clients.values() if name in c.product_targets())
            client.fetch_target(target, self._path(target), progress)
        lists = self._directory / LISTS
        durable.make_directory(lists)
        for leftover in self._directory.rglob(".*.partial*"):
            durable.remove(leftover)  # of a run that was killed
        verified = {path.stem: path.read_bytes() for path in (self._staging / LISTS).glob("*.json")}
        timestamp = verified.pop("timestamp")
        verified.pop("root")
        last = ("targets", "snapshot")
        for role in sorted(verified, key=lambda r: last.index(r) if r in last else -1):
            version = Metadata.from_bytes(verified[role]).signed.version
            _put(lists / f"{version}.{role}.json", verified[role])
        for number in sorted(roots):
            _put(lists / f"{number}.root.json", roots[number])
        _put(lists / "timestamp.json", timestamp)

    def _older(self, wanted: Mapping[str, TargetFile]) -> list[Path]:
        kept = {self._path(target) for target in wanted.values()}
        files = (self._directory / FILES).rglob("*")
        return sorted(path for path in files if path.is_file() and path not in kept)


def _served(target: TargetFile) -> str:
    return target_member(target.path, digest_of(target)[1])


def _put(path: Path, content: bytes) -> None:
    if not (path.is_file() and path.read_bytes() == content):
        durable.write(path, content)


def _root(content: bytes) -> Root:
    return Metadata[Root].from_bytes(content).signed


def _follows(earlier: bytes, later: bytes) -> bool:
    try:
        before, after = Metadata[Root].from_bytes(earlier), Metadata[Root].from_bytes(later)
        before.signed.verify_delegate("root", after.signed_bytes, after.signatures)
    except RepositoryError:
        return False
    return bool(before.signed.version + 1 == after.signed.version)
