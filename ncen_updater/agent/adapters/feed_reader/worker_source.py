"""The feed, read by a process of its own: a child, or one that systemd starts.

The process that uses the network gets no environment variable, connection or memory of the process
that reaches the databases, and no descriptor but that of the bundle to read. Its files are hashed
again here before they are used.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from ncen_updater.agent.adapters.feed_reader.disk_quota import (
    MARGIN_BYTES,
    RESERVED_BYTES,
    DiskAllowance,
    DiskMonitor,
    DiskVerdict,
    compute_announced_allowance,
    compute_release_allowance,
    of_bundle,
)
from ncen_updater.agent.adapters.feed_reader.feed_factory import make_release_source, validity
from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.config.errors import ConfigError
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.disk_space import make_space_error
from ncen_updater.common.errors import InsufficientSpaceError, UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    LOCAL_STORE_FAILED,
    READER_FAILED,
    READER_FILLS_DISK,
    READER_TIMED_OUT,
    READER_UNIT_UNREACHABLE,
)
from ncen_updater.common.progress import ProgressListener
from ncen_updater.common.workers import (
    ExpectedErrors,
    Worker,
    WorkerError,
    WorkerLimits,
    WorkerTimeoutError,
    WorkerUnavailableError,
    call_worker,
)
from ncen_updater.feed.errors import FeedError, RoleExpiredError, TrustError, UpgradePathError
from ncen_updater.feed.offers import DownloadedPack, DownloadedRelease, FeedView
from ncen_updater.feed.trust_state import TrustStateStore
from ncen_updater.feed.tuf_source import TufReleaseSource
from ncen_updater.formats.bundle_file import open_bundle_file
from ncen_updater.formats.errors import (
    ManifestError,
    ReleaseDocumentError,
    TransferError,
    TreeError,
)
from ncen_updater.formats.release_document import Offer
from ncen_updater.formats.target_names import AGENT_PRODUCT

logger = logging.getLogger(__name__)

#: Codes of bundles and mirrors.
BUNDLE_ERROR_CODES = range(2301, 2400)
#: What it may report. It may have been taken over: no other error, and no other exit code, comes
#: of what it says.
EXPECTED_ERRORS: tuple[ExpectedErrors, ...] = (
    ConfigError, TrustError, FeedError, UpgradePathError, TransferError, InsufficientSpaceError,
    ManifestError, ReleaseDocumentError, TreeError, BUNDLE_ERROR_CODES,
)  # fmt: skip
# What talks to the network; the rest reads a medium of the person who types the command.
NETWORK_ACTS = ("refresh", "fetch")
#: Signs of life come every ten seconds. A list is small; what of a release came in half a day is
#: kept, and the next download goes on from there.
ACT_LIMITS = {
    "refresh": WorkerLimits(silence_timeout_s=300, total_timeout_s=3600),
    "fetch": WorkerLimits(silence_timeout_s=300, total_timeout_s=12 * 3600),
    "import": WorkerLimits(silence_timeout_s=300, total_timeout_s=12 * 3600),
    "mirror": WorkerLimits(silence_timeout_s=300, total_timeout_s=72 * 3600),
}
#: What an act brings that fetches lists alone.
METADATA_ALLOWANCE = DiskAllowance()
#: What it writes to where its directory is not its own, but the state directory.
WRITABLE_NAMES = ("metadata", "downloads", "feed", "import.partial", "import.ready")


def _no_fetcher() -> NoReturn:
    raise AssertionError("the process that reads the feed has the network, and this one has none")


def _make_incomplete_error(offer: Offer) -> TrustError:
    text = LazyText("release {version} was not stored completely", {"version": offer.version})
    return TrustError(READER_FAILED, detail=text)


class WorkerReleaseSource(TufReleaseSource):
    """A source that asks another process for everything that needs the network.

    It is a child, or one that systemd starts, as ``service.runner`` says. A child of root works as
    the user to whom the directory of lists and downloads belongs.

    Args:
        config: The configuration.
        config_path: Its file; the child reads it again.
        product: Whose releases; those of the site's product by default.
    """

    _memory: TrustStateStore

    def __init__(self, config: AgentConfig, config_path: Path, product: str | None = None) -> None:
        paths, service = config.paths, config.service
        self._received = paths.feed_state_directory
        memory = TrustStateStore(paths.resolve(paths.state))
        trusted_root = paths.resolve(paths.trusted_root)
        # For what lies on the disk: it never opens a connection.
        super().__init__(
            product or config.site.product,
            state=self._received,
            trusted_root=trusted_root,
            make_fetcher=_no_fetcher,
            trust_state=memory,
            **validity(config.feed),
        )
        apart = self._received != paths.resolve(paths.state)
        self._places = (
            [self._received] if apart else [self._received / name for name in WRITABLE_NAMES]
        )
        self._unit = paths.resolve(service.fetch_socket) if service.runner == "systemd" else None
        self._worker = Worker(
            "ncen_updater.agent.adapters.feed_reader.worker",
            # It is read again from another directory.
            (str(config_path.absolute()),),
            expected_errors=EXPECTED_ERRORS,
        )
        others = {config.site.product, AGENT_PRODUCT} - {self._product}
        self._lists: list[TufReleaseSource] = [
            self,
            *(
                make_release_source(
                    name,
                    config.feed,
                    state=self._received,
                    trusted_root=trusted_root,
                    memory=memory,
                )
                for name in others
            ),
        ]

    def refresh(self) -> FeedView:
        """Fetch and verify the list in the child, then prove what it left.

        Raises:
            TrustError: If it does not follow, is older than what was proved here, or has lapsed.
        """
        self._ask_worker({"act": "refresh"}, None)
        view = self.load_last_view()
        if view is None:
            raise TrustError(READER_FAILED, detail="no metadata was stored")
        now = self.get_reference_time()
        if view.expires_at <= now:  # it says that it verified them just now
            day = "%Y-%m-%d %H:%M UTC"
            since = view.expires_at.strftime(day)
            raise RoleExpiredError(role=self._product, since=since, now=now.strftime(day))
        return view

    def require_fresh_mirror(self, directory: Path) -> None:
        """Refuse a mirror whose lists are older than what was proved here.

        Raises:
            TrustError: If they are, or do not follow from the roots that were proved here.
        """
        from ncen_updater.feed.metadata_verifier import refuse_older_mirror

        refuse_older_mirror(directory, self._trusted_root, self._memory)

    def download_release(self, offer: Offer, progress: ProgressListener) -> DownloadedRelease:
        """Download in the child, then hash here what it left."""
        self._ask_worker(
            {"act": "fetch", "version": offer.version}, progress, compute_release_allowance(offer)
        )
        fetched = self.find_downloaded_release(offer)
        if fetched is None:
            raise _make_incomplete_error(offer)
        return fetched

    def download_smallest(
        self, offer: Offer, installed_trees: Collection[str], progress: ProgressListener
    ) -> DownloadedRelease | DownloadedPack:
        """Download in the child, then hash here what it left."""
        order = {"act": "fetch", "version": offer.version, "have": sorted(installed_trees)}
        self._ask_worker(order, progress, compute_release_allowance(offer))
        fetched = self.find_smallest_download(offer, installed_trees)
        if fetched is None:
            raise _make_incomplete_error(offer)
        return fetched

    def run_act(
        self,
        request: Mapping[str, object],
        progress: ProgressListener | None = None,
        opener: Callable[[Path], int] = open_bundle_file,
    ) -> Mapping[str, object]:
        """Let the child do something else that needs the network or reads a medium.

        Args:
            request: What, with ``act`` and the act's own values. Its ``file`` is opened here: the
                person who names it may read more than the child.
            progress: Told what the child tells.
            opener: Opens the file.

        Returns:
            What the child reported; empty if it only did what it was told.

        Raises:
            BUNDLE_UNREADABLE: If the file cannot be opened.
        """
        if request.get("file") is None:
            return self._ask_worker(request, progress, METADATA_ALLOWANCE)
        descriptor = opener(Path(str(request["file"])))
        try:
            asked = {**request, "descriptor": descriptor}
            return self._ask_worker(asked, progress, of_bundle(descriptor), [descriptor])
        finally:
            os.close(descriptor)

    def create_worker_directory(self, directory: Path) -> None:
        """Make a directory that is missing, for the child to write to.

        Raises:
            LOCAL_STORE_FAILED: If it cannot be made.
        """
        if directory.exists():
            return
        owner = self._find_worker_user()
        try:
            with durable.make_world_readable():
                durable.make_directory(directory)
            if owner is not None:
                os.chown(directory, *owner)
        except OSError as error:
            raise TrustError(LOCAL_STORE_FAILED, detail=str(error)) from error

    def _ask_worker(
        self,
        order: Mapping[str, object],
        progress: ProgressListener | None,
        brings: DiskAllowance = METADATA_ALLOWANCE,
        descriptors: Sequence[int] = (),
    ) -> Mapping[str, object]:
        act = str(order["act"])
        limits = ACT_LIMITS[act]
        if act in NETWORK_ACTS:  # the others write elsewhere, too, and for a person
            limits = replace(limits, max_file_bytes=brings.size + MARGIN_BYTES)
        worker = replace(self._worker, limits=limits)
        if act in NETWORK_ACTS and self._unit is not None:
            worker = replace(worker, socket=self._unit)
        else:
            worker = replace(worker, owner=self._find_worker_user())
        watch = DiskMonitor(self._places, brings, self._compute_announced(act, brings))

        def ending() -> bool:
            self._enforce_quota(watch, watch.poll())
            return False

        self._enforce_quota(watch, watch.check_now())
        try:
            asked = {"product": self._product, **order}
            answer = call_worker(worker, asked, progress, files=descriptors, ending=ending)
            self._enforce_quota(watch, watch.check_now())
        except InsufficientSpaceError as error:
            if error.values.get("path") in ("", "-", None):
                error.values["path"] = self._received  # the child writes nowhere else
            raise
        except WorkerUnavailableError as error:
            if worker.socket is None:
                raise TrustError(READER_FAILED, detail=error.detail) from error
            raise UpdaterError(
                READER_UNIT_UNREACHABLE, path=worker.socket, detail=error.detail
            ) from error
        except WorkerTimeoutError as error:
            raise TrustError(READER_TIMED_OUT, detail=error.detail) from error
        except WorkerError as error:
            detail = error.detail
            if worker.socket:
                words = N_("{reason}; see: journalctl --unit 'ncen-updater-fetch@*'")
                detail = LazyText(words, {"reason": detail})
            raise TrustError(READER_FAILED, detail=detail) from error
        report = answer.get("report", {})
        if not isinstance(report, dict):
            raise TrustError(READER_FAILED, detail="invalid response")
        return report

    def _compute_announced(self, act: str, brings: DiskAllowance) -> DiskAllowance | None:
        """Return the disk space everything may take in total.

        None where the metadata on the disk cannot be verified.
        """
        offers: list[Offer] = []
        for source in self._lists:
            try:
                view = source.load_last_view()
            except UpdaterError as error:
                logger.info("what a list announces is not known: %s", error)
                return None
            offers += view.offers if view else []
        return compute_announced_allowance(offers) + (
            METADATA_ALLOWANCE if act in NETWORK_ACTS else brings
        )

    def _enforce_quota(self, watch: DiskMonitor, verdict: DiskVerdict) -> None:
        """End the reader where it leaves more than it may.

        Raises:
            InsufficientSpaceError: If the file system has no more room for it.
            TrustError: If nothing that was signed weighs as much.
        """
        if verdict is DiskVerdict.OK:
            return
        if verdict is DiskVerdict.NO_SPACE:
            raise make_space_error(self._received, RESERVED_BYTES)
        raise TrustError(
            READER_FILLS_DISK, path=self._received, size_bytes=watch.now.size,
            names=watch.now.inodes, detail=verdict.value,
        )  # fmt: skip

    def _find_worker_user(self) -> tuple[int, int] | None:
        """Find whose rights the child has: the owner's of the directory, where we may choose."""
        try:
            owner = self._received.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TrustError(LOCAL_STORE_FAILED, detail=str(error)) from error
        if os.geteuid() != 0 or owner.st_uid == 0:
            return None
        return owner.st_uid, owner.st_gid
