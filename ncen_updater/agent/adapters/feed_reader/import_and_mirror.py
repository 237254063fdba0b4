"""Imports and mirrors, run by the worker process that reads untrusted data."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import cast

from packaging.version import Version

from ncen_updater.agent.adapters.feed_reader.feed_factory import make_http_fetcher
from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    MIRROR_FORBIDDEN,
    NO_FEED_TO_MIRROR,
)
from ncen_updater.common.progress import Amount, ProgressListener
from ncen_updater.feed.bundle_fetcher import BundleFetcher, map_bundle_errors, read_verified_members
from ncen_updater.feed.bundle_import import BundleImporter, ImportSite
from ncen_updater.feed.mirror import FeedMirror
from ncen_updater.feed.resumable_download import DOWNLOAD_PROGRESS
from ncen_updater.formats.bundle_file import open_bundle

WorkerRequest = Mapping[str, object]


def _get_bundle(request: WorkerRequest) -> tuple[Path, int | None]:
    """Return the bundle and the descriptor opened by the agent, which may have more rights."""
    return Path(str(request["file"])), cast("int | None", request.get("descriptor"))


class _BundleProgress:
    """Progress listener that reports files of a bundle as extracted, not downloaded."""

    def __init__(self, inner: ProgressListener) -> None:
        self._inner = inner

    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        """Pass the report on, reworded."""
        if text.template == DOWNLOAD_PROGRESS:
            text = LazyText(N_("extracting {name} from the offline bundle"), text.values)
        self._inner.report(text, amount)


def _run_import(
    config: AgentConfig, request: WorkerRequest, progress: ProgressListener
) -> dict[str, object]:
    current = request.get("current")
    site = ImportSite(
        product=config.site.product,
        site=config.site.id,
        country=config.site.country,
        channel=config.site.channel,
        current=Version(str(current)) if current is not None else None,
        agent=Version(str(request["agent"])),
        grace=timedelta(days=config.feed.offline_grace_days),
    )
    paths = config.paths
    importer = BundleImporter(paths.feed_state_directory, paths.resolve(paths.trusted_root), site)
    bundle_progress = _BundleProgress(progress)
    file, descriptor = _get_bundle(request)
    dry_run = request.get("dry_run") is True
    return importer.import_bundle(
        file, bundle_progress, dry_run=dry_run, descriptor=descriptor
    ).to_json()


def _run_mirror(
    config: AgentConfig, request: WorkerRequest, progress: ProgressListener
) -> dict[str, object]:
    directory = Path(str(request["directory"]))
    try:
        if directory.exists() and not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(f"{directory} belongs to another user")
        with durable.make_world_readable():
            return _update_mirror(config, request, progress)
    except PermissionError as error:
        user = pwd.getpwuid(os.geteuid()).pw_name
        raise UpdaterError(
            MIRROR_FORBIDDEN, user=user, path=directory, detail=str(error)
        ) from error


def _update_mirror(
    config: AgentConfig, request: WorkerRequest, progress: ProgressListener
) -> dict[str, object]:
    paths = config.paths
    mirror = FeedMirror(
        Path(str(request["directory"])),
        state=paths.feed_state_directory,
        trusted_root=paths.resolve(paths.trusted_root),
    )
    max_releases = cast("int | None", request["keep"])
    dry_run = request.get("dry_run") is True
    if request.get("file") is not None:
        grace = timedelta(days=config.feed.offline_grace_days)
        with (
            open_bundle(*_get_bundle(request)) as bundle,
            map_bundle_errors(grace),
        ):
            members = read_verified_members(bundle, progress)
            return mirror.update_mirror(
                BundleFetcher(bundle, members),
                _BundleProgress(progress),
                max_releases=max_releases,
                grace=grace,
                is_available=members.__contains__,
                dry_run=dry_run,
            ).to_json()
    if config.feed.offline:
        raise UpdaterError(NO_FEED_TO_MIRROR)
    fetcher = make_http_fetcher(config.feed, zone=config.service.get_timezone())
    try:
        grace = timedelta(days=config.feed.mirror_grace_days)
        return mirror.update_mirror(
            fetcher, progress, max_releases=max_releases, grace=grace, dry_run=dry_run
        ).to_json()
    finally:
        fetcher.close()


HANDLERS: Mapping[
    str, Callable[[AgentConfig, WorkerRequest, ProgressListener], dict[str, object]]
] = {
    "import": _run_import,
    "mirror": _run_mirror,
}
