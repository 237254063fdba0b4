"""What the process that reads foreign bytes does besides reading the feed: imports and mirrors."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import cast

from packaging.version import Version

from ncen_updater.agent.adapters.feed_reader.site_feed import http_fetcher
from ncen_updater.agent.config.model import AgentConfig
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import (
    MIRROR_FORBIDDEN,
    NO_FEED_TO_MIRROR,
)
from ncen_updater.common.progress import Progress
from ncen_updater.feed.mirror import Mirror
from ncen_updater.feed.offline.fetcher import BundleFetcher, in_words_of_bundles, read_whole
from ncen_updater.feed.offline.importing import BundleImport, Importer
from ncen_updater.feed.resumable_download import DOWNLOADING
from ncen_updater.formats.bundle.bundle_file import open_bundle

Order = Mapping[str, object]


def _bundle(order: Order) -> tuple[Path, int | None]:
    """The bundle as the agent opened it: a stick may be readable by its owner alone."""
    return Path(str(order["file"])), cast("int | None", order.get("descriptor"))


class _FromMedium:
    """Says of files that come from a medium that they are read, not downloaded."""

    def __init__(self, inner: Progress) -> None:
        self._inner = inner

    def tell(self, what: Text, done: int | None = None, total: int | None = None) -> None:
        """Pass it on in other words."""
        if what.template == DOWNLOADING:
            what = Text(N_("Taking {name} out of the bundle (bytes)"), what.values)
        self._inner.tell(what, done, total)


def _import(config: AgentConfig, order: Order, progress: Progress) -> dict[str, object]:
    current = order.get("current")
    site = Importer(
        product=config.site.product,
        site=config.site.id,
        country=config.site.country,
        channel=config.site.channel,
        current=Version(str(current)) if current is not None else None,
        agent=Version(str(order["agent"])),
        grace=timedelta(days=config.feed.offline_grace_days),
    )
    paths = config.paths
    work = BundleImport(paths.received_directory, paths.resolve(paths.trusted_root), site)
    told = _FromMedium(progress)
    file, descriptor = _bundle(order)
    dry_run = order.get("dry_run") is True
    return work.run(file, told, dry_run=dry_run, descriptor=descriptor).to_json()


def _mirror(config: AgentConfig, order: Order, progress: Progress) -> dict[str, object]:
    directory = Path(str(order["directory"]))
    try:
        if directory.exists() and not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(f"{directory} belongs to somebody else")
        with durable.readable_by_all():
            return _renew(config, order, progress)
    except PermissionError as error:
        user = pwd.getpwuid(os.geteuid()).pw_name
        raise UpdaterError(
            MIRROR_FORBIDDEN, user=user, path=directory, detail=str(error)
        ) from error


def _renew(config: AgentConfig, order: Order, progress: Progress) -> dict[str, object]:
    paths = config.paths
    mirror = Mirror(
        Path(str(order["directory"])),
        state=paths.received_directory,
        trusted_root=paths.resolve(paths.trusted_root),
    )
    keep = cast("int | None", order["keep"])
    dry_run = order.get("dry_run") is True
    if order.get("file") is not None:
        grace = timedelta(days=config.feed.offline_grace_days)
        with (
            open_bundle(*_bundle(order)) as bundle,
            in_words_of_bundles(grace),
        ):
            members = read_whole(bundle, progress)
            return mirror.renew(
                BundleFetcher(bundle, members),
                _FromMedium(progress),
                keep=keep,
                grace=grace,
                available=members.__contains__,
                dry_run=dry_run,
            ).to_json()
    if config.feed.offline:
        raise UpdaterError(NO_FEED_TO_MIRROR)
    fetcher = http_fetcher(config.feed, zone=config.service.zone())
    try:
        grace = timedelta(days=config.feed.mirror_grace_days)
        return mirror.renew(fetcher, progress, keep=keep, grace=grace, dry_run=dry_run).to_json()
    finally:
        fetcher.close()


ACTS: Mapping[str, Callable[[AgentConfig, Order, Progress], dict[str, object]]] = {
    "import": _import,
    "mirror": _mirror,
}
