"""Publish release directories to a feed in one call, with all keys in one place.

It uses the same drafts, detached signatures and thresholds as the programs; no check is skipped.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from ncen_updater.common.progress import SilentProgress
from ncen_updater.formats.release_document import Withdrawal
from ncen_updater.publisher.build.delta_packs import DeltaPackBuilder
from ncen_updater.publisher.build.release_build import build_release
from ncen_updater.publisher.distribute.publishing import PublishReport
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import FeedKeys, publish_draft
from ncen_updater.publisher.signing.draft import (
    draft_releases,
    draft_withdrawal,
)


def publish_release(
    directory: Path,
    releases: Sequence[Path],
    keys: FeedKeys,
    clock: Callable[[], datetime],
    staging: Path | None = None,
    *,
    packs: bool = False,
) -> PublishReport:
    """Build release directories; draft, sign and publish them as one event.

    Args:
        directory: The feed, created by :func:`create_feed`.
        releases: Release directories, each with its ``manifest.toml``.
        keys: Keys; as many of them sign as the threshold requires.
        clock: Returns the time (UTC).
        staging: Directory where targets are built; a temporary directory by default.
        packs: Build delta packs from the published releases.

    Raises:
        PublisherError, ManifestError: As raised by the single steps.
    """
    with tempfile.TemporaryDirectory(prefix="nu-staging-") as folder:
        place = staging or Path(folder)
        for release in releases:
            maker = DeltaPackBuilder(FeedDirectory(directory), SilentProgress()) if packs else None
            build_release(release, place, deltas=maker)
        draft = draft_releases(FeedDirectory(directory).read_state(), place, clock())
        return publish_draft(directory, draft, keys, clock, [place])


def withdraw(
    directory: Path,
    product: str,
    version: str,
    withdrawal: Withdrawal,
    keys: FeedKeys,
    clock: Callable[[], datetime],
) -> PublishReport:
    """Withdraw a release in one call."""
    draft = draft_withdrawal(
        FeedDirectory(directory).read_state(), product, version, withdrawal, clock()
    )
    return publish_draft(directory, draft, keys, clock)
