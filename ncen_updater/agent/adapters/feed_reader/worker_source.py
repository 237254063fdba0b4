"""Source of releases that uses a worker process: a child, or one that systemd starts.

The worker, which uses the network, gets no environment variable, connection or memory of the
process that accesses the databases, and no descriptor except that of the bundle to read. The agent
hashes its files again before it uses them.
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
    DiskMonitor,
    DiskUsage,
    DiskVerdict,
    compute_announced_allowance,
    compute_bundle_allowance,
    compute_release_allowance,
)
from ncen_updater.agent.adapters.feed_reader.feed_factory import (
    build_expiry_arguments,
    make_release_source,
)
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

#: Codes of errors of bundles and mirrors.
BUNDLE_ERROR_CODES = range(2301, 2400)
#: Errors that the worker may report. It may be compromised: no other error, and no other exit code,
#: results from its reports.
EXPECTED_ERRORS: tuple[ExpectedErrors, ...] = (
    ConfigError, TrustError, FeedError, UpgradePathError, TransferError, InsufficientSpaceError,
    ManifestError, ReleaseDocumentError, TreeError, BUNDLE_ERROR_CODES,
)  # fmt: skip
# Requests that use the network; the others read or write a directory that an operator named.
NETWORK_REQUESTS = ("refresh", "fetch")
#: The worker reports every ten seconds. Metadata is small; a partial release stays on the disk
#: after half a day, and the next download continues it.
REQUEST_LIMITS = {
    "refresh": WorkerLimits(silence_timeout_s=300, total_timeout_s=3600),
    "fetch": WorkerLimits(silence_timeout_s=300, total_timeout_s=12 * 3600),
    "import": WorkerLimits(silence_timeout_s=300, total_timeout_s=12 * 3600),
    "mirror": WorkerLimits(silence_timeout_s=300, total_timeout_s=72 * 3600),
}
#: Allowance of a request that fetches only metadata.
METADATA_ALLOWANCE = DiskUsage()
#: Names to which the worker writes if it shares the agent's state directory.
WRITABLE_NAMES = ("metadata", "downloads", "feed", "import.partial", "import.ready")


def _no_fetcher() -> NoReturn:
    raise AssertionError("the process that reads the feed has the network, and this one has none")


def _make_incomplete_error(offer: Offer) -> TrustError:
    text = LazyText("release {version} was not stored completely", {"version": offer.version})
    return TrustError(READER_FAILED, detail=text)


class WorkerReleaseSource(TufReleaseSource):
    """Source that uses a worker process for everything that needs the network.

    The worker is a child, or a process started by systemd, according to ``service.runner``. A child
    of root runs as the owner of the directory for metadata and downloads.

    Args:
        config: The configuration.
        config_path: Its file, which the worker reads again.
        product: The product; the site's product by default.
    """

    _trust_state: TrustStateStore

    def __init__(self, config: AgentConfig, config_path: Path, product: str | None = None) -> None:
        paths, service = config.paths, config.service
        self._received = paths.feed_state_directory
        memory = TrustStateStore(paths.resolve(paths.state))
        trusted_root = paths.resolve(paths.trusted_root)
        # Only for files on the disk: this source never opens a connection.
        super().__init__(
            product or config.site.product,
            state=self._received,
            trusted_root=trusted_root,
            make_fetcher=_no_fetcher,
            trust_state=memory,
            **build_expiry_arguments(config.feed),
        )
        is_separate = self._received != paths.resolve(paths.state)
        self._directories = (
            [self._received] if is_separate else [self._received / name for name in WRITABLE_NAMES]
        )
        self._unit = paths.resolve(service.fetch_socket) if service.runner == "systemd" else None
        self._worker = Worker(
            "ncen_updater.agent.adapters.feed_reader.worker",
            # An absolute path, since the worker runs in another directory.
            (str(config_path.absolute()),),
            expected_errors=EXPECTED_ERRORS,
        )
        others = {config.site.product, AGENT_PRODUCT} - {self._product}
        self._sources: list[TufReleaseSource] = [
            self,
            *(
                make_release_source(
                    name,
                    config.feed,
                    state=self._received,
                    trusted_root=trusted_root,
                    trust_state=memory,
                )
                for name in others
            ),
        ]

    def refresh(self) -> FeedView:
        """Fetch the metadata in the worker, then verify its files here.

        Raises:
            TrustError: If the metadata is not signed by trusted keys, is older than the verified
                one, or has expired.
        """
        self._ask_worker({"act": "refresh"}, None)
        view = self.load_last_view()
        if view is None:
            raise TrustError(READER_FAILED, detail="no metadata was stored")
        now = self.get_reference_time()
        if view.expires_at <= now:  # the worker reports that it verified the metadata just now
            day = "%Y-%m-%d %H:%M UTC"
            since = view.expires_at.strftime(day)
            raise RoleExpiredError(role=self._product, since=since, now=now.strftime(day))
        return view

    def require_fresh_mirror(self, directory: Path) -> None:
        """Refuse a mirror with metadata that is older than the one verified here.

        Raises:
            TrustError: If it is older, or not signed according to the verified root metadata.
        """
        from ncen_updater.feed.metadata_verifier import require_fresh_mirror

        require_fresh_mirror(directory, self._trusted_root, self._trust_state)

    def download_release(self, offer: Offer, progress: ProgressListener) -> DownloadedRelease:
        """Download in the worker, then hash its files here."""
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
        """Download in the worker, then hash its files here."""
        request = {
            "act": "fetch",
            "version": offer.version,
            "installed_trees": sorted(installed_trees),
        }
        self._ask_worker(request, progress, compute_release_allowance(offer))
        fetched = self.find_smallest_download(offer, installed_trees)
        if fetched is None:
            raise _make_incomplete_error(offer)
        return fetched

    def run_request(
        self,
        request: Mapping[str, object],
        progress: ProgressListener | None = None,
        opener: Callable[[Path], int] = open_bundle_file,
    ) -> Mapping[str, object]:
        """Run another request in the worker: an import, or an update of a mirror.

        Args:
            request: The request, with ``act`` and its values. Its ``file`` is opened here: the
                operator who names it may have more rights than the worker.
            progress: Receives the worker's reports.
            opener: Opens the file.

        Returns:
            The worker's report; empty if the request has none.

        Raises:
            BUNDLE_UNREADABLE: If the file cannot be opened.
        """
        if request.get("file") is None:
            return self._ask_worker(request, progress, METADATA_ALLOWANCE)
        descriptor = opener(Path(str(request["file"])))
        try:
            with_descriptor = {**request, "descriptor": descriptor}
            return self._ask_worker(
                with_descriptor, progress, compute_bundle_allowance(descriptor), [descriptor]
            )
        finally:
            os.close(descriptor)

    def create_worker_directory(self, directory: Path) -> None:
        """Create a missing directory to which the worker can write.

        Raises:
            LOCAL_STORE_FAILED: If it cannot be created.
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
        request: Mapping[str, object],
        progress: ProgressListener | None,
        allowance: DiskUsage = METADATA_ALLOWANCE,
        descriptors: Sequence[int] = (),
    ) -> Mapping[str, object]:
        act = str(request["act"])
        limits = REQUEST_LIMITS[act]
        if act in NETWORK_REQUESTS:  # the others also write elsewhere
            limits = replace(limits, max_file_bytes=allowance.size + MARGIN_BYTES)
        worker = replace(self._worker, limits=limits)
        if act in NETWORK_REQUESTS and self._unit is not None:
            worker = replace(worker, socket=self._unit)
        else:
            worker = replace(worker, owner=self._find_worker_user())
        watch = DiskMonitor(self._directories, allowance, self._compute_announced(act, allowance))

        def ending() -> bool:
            self._enforce_quota(watch, watch.poll())
            return False

        self._enforce_quota(watch, watch.check_now())
        try:
            message = {"product": self._product, **request}
            answer = call_worker(worker, message, progress, files=descriptors, ending=ending)
            self._enforce_quota(watch, watch.check_now())
        except InsufficientSpaceError as error:
            if error.values.get("path") in ("", "-", None):
                error.values["path"] = self._received  # the worker writes nowhere else
            raise
        except WorkerUnavailableError as error:
            if worker.socket is None:
                raise TrustError(READER_FAILED, detail=error.detail) from error
            raise UpdaterError(
                READER_UNIT_UNREACHABLE, path=worker.socket, detail=error.detail
            ) from error
        except WorkerTimeoutError as error:
            raise TrustError(READER_FAILED, detail=error.detail) from error
        except WorkerError as error:
            detail = error.detail
            if worker.socket:
                template = N_("{reason}; see: journalctl --unit 'ncen-updater-fetch@*'")
                detail = LazyText(template, {"reason": detail})
            raise TrustError(READER_FAILED, detail=detail) from error
        report = answer.get("report", {})
        if not isinstance(report, dict):
            raise TrustError(READER_FAILED, detail="invalid response")
        return report

    def _compute_announced(self, act: str, allowance: DiskUsage) -> DiskUsage | None:
        """Return the allowance for everything in the directory.

        None if the metadata on the disk cannot be verified.
        """
        offers: list[Offer] = []
        for source in self._sources:
            try:
                view = source.load_last_view()
            except UpdaterError as error:
                logger.info("cannot read the announced sizes: %s", error)
                return None
            offers += view.offers if view else []
        return compute_announced_allowance(offers) + (
            METADATA_ALLOWANCE if act in NETWORK_REQUESTS else allowance
        )

    def _enforce_quota(self, watch: DiskMonitor, verdict: DiskVerdict) -> None:
        """Raise if the worker exceeds its quota.

        Raises:
            InsufficientSpaceError: If the file system has no more space for it.
            TrustError: If it wrote more than any signed size allows.
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
        """Return the user of the worker: the owner of the directory, if the agent may choose."""
        try:
            owner = self._received.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TrustError(LOCAL_STORE_FAILED, detail=str(error)) from error
        if os.geteuid() != 0 or owner.st_uid == 0:
            return None
        return owner.st_uid, owner.st_gid
