"""From release directories to a feed in one call, with all keys in one hand.

Nothing here is a short cut past the officers: the same drafts, detached signatures and thresholds
as in the programs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from ncen_updater.common.progress import Silent
from ncen_updater.formats.document import Withdrawal
from ncen_updater.publisher.build.build import build_release
from ncen_updater.publisher.build.deltas import DeltaMaker
from ncen_updater.publisher.feed.feed import Feed
from ncen_updater.publisher.feed.publish import Published
from ncen_updater.publisher.new.trial import KeyRing, publish_draft
from ncen_updater.publisher.signing.draft import (
    draft_releases,
    draft_withdrawal,
)


def publish_release(
    directory: Path,
    releases: Sequence[Path],
    keys: KeyRing,
    clock: Callable[[], datetime],
    staging: Path | None = None,
    *,
    packs: bool = False,
) -> Published:
    """Build release directories, draft, sign and publish them as one event.

    Args:
        directory: The feed; made by :func:`make_feed`.
        releases: Release directories, each with its ``manifest.toml``.
        keys: As many officers sign as the threshold asks for.
        clock: The time (UTC).
        staging: Where targets are built and kept; a temporary directory by default.
        packs: Make delta packs from the releases that are published already.

    Raises:
        PublisherError, BadManifest: As the single steps do.
    """
    with tempfile.TemporaryDirectory(prefix="nu-staging-") as folder:
        place = staging or Path(folder)
        for release in releases:
            maker = DeltaMaker(Feed(directory), Silent()) if packs else None
            build_release(release, place, deltas=maker)
        draft = draft_releases(Feed(directory).state(), place, clock())
        return publish_draft(directory, draft, keys, clock, [place])


def withdraw(
    directory: Path,
    product: str,
    version: str,
    withdrawal: Withdrawal,
    keys: KeyRing,
    clock: Callable[[], datetime],
) -> Published:
    """Withdraw a release in one call."""
    draft = draft_withdrawal(Feed(directory).state(), product, version, withdrawal, clock())
    return publish_draft(directory, draft, keys, clock)
