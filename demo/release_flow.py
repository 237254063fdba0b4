"""From release directories to a feed in one call, with all keys in one hand.

Nothing here is a short cut past the signers: the same drafts, detached signatures and thresholds
as in the programs.
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
    """Build release directories, draft, sign and publish them as one event.

    Args:
        directory: The feed; made by :func:`create_feed`.
        releases: Release directories, each with its ``manifest.toml``.
        keys: As many signers sign as the threshold asks for.
        clock: The time (UTC).
        staging: Where targets are built and kept; a temporary directory by default.
        packs: Make delta packs from the releases that are published already.

    Raises:
        PublisherError, ManifestError: As the single steps do.
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
