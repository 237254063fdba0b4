"""From keys and release directories to a feed in one call, for tests and the demonstration.

Nothing here is a short cut past the officers: the same drafts, detached signatures and thresholds
as in the programs, only with all keys in one hand.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from securesystemslib.signer import Signer

from ncen_updater.common.progress import Silent
from ncen_updater.formats.document import Withdrawal
from ncen_updater.publisher.build.build import build_release
from ncen_updater.publisher.build.deltas import DeltaMaker
from ncen_updater.publisher.feed.feed import Feed
from ncen_updater.publisher.feed.publish import OnlineSigners, Published, Publisher
from ncen_updater.publisher.signing.ceremony import Ceremony, RoleHolders
from ncen_updater.publisher.signing.draft import (
    Draft,
    draft_first,
    draft_releases,
    draft_withdrawal,
)
from ncen_updater.publisher.signing.event import SigningEvent
from ncen_updater.publisher.signing.keys import new_key, open_signer
from ncen_updater.publisher.signing.roles import OFFLINE_DAYS, ONLINE_DAYS, ONLINE_ROLES

#: Keys that protect nothing, and are opened again and again.
PLAY: Final = 1 << 12


@dataclass(frozen=True)
class KeyRing:
    """All keys of a feed in one hand.

    Attributes:
        officers: Keys of root, targets and every product.
        online: Keys of snapshot and timestamp.
        threshold: How many officers sign.
    """

    officers: tuple[Signer, ...]
    online: OnlineSigners
    threshold: int


def make_keys(
    directory: Path,
    passphrase: str,
    officers: Sequence[str] = ("amina", "bo", "chen"),
    threshold: int = 2,
) -> KeyRing:
    """Make encrypted keys, or open those that lie in ``directory`` already.

    Args:
        directory: Where the key files are.
        passphrase: The same for all; in earnest every officer has an own one.
        officers: Their names.
        threshold: How many of them must sign.
    """

    def signer(name: str) -> Signer:
        path = directory / f"{name}.pem"
        if not path.exists():
            new_key(directory, name, passphrase, cost=PLAY)
        return open_signer(path, lambda _: passphrase)

    return KeyRing(
        officers=tuple(signer(name) for name in officers),
        online={role: (signer(role),) for role in ONLINE_ROLES},
        threshold=threshold,
    )


def make_feed(
    directory: Path,
    keys: KeyRing,
    clock: Callable[[], datetime],
    products: Sequence[str] = ("ncen", "ncen-updater"),
    plain_tufup: Sequence[str] = (),
    expiry_days: Mapping[str, int] | None = None,
) -> Published:
    """Hold the ceremony of a new feed and publish its first, empty state.

    Args:
        directory: The feed; ``metadata/1.root.json`` in it is what sites trust first.
        keys: Officers sign root, targets and every product.
        clock: The time (UTC).
        products: A role for each.
        plain_tufup: Products whose archives unmodified tufup clients must find.
        expiry_days: Other periods than the usual ones, by role.
    """
    days = {**ONLINE_DAYS, **(expiry_days or {})}
    public = tuple(signer.public_key for signer in keys.officers)
    roles = {
        name: RoleHolders(public, keys.threshold, days.get(name, OFFLINE_DAYS))
        for name in ("root", "targets", *products)
    }
    for role in ONLINE_ROLES:
        online = tuple(signer.public_key for signer in keys.online[role])
        roles[role] = RoleHolders(online, 1, days[role])
    draft = draft_first(Ceremony(roles, tuple(plain_tufup)), clock())
    return publish_draft(directory, draft, keys, clock)


def publish_draft(
    directory: Path,
    draft: Draft,
    keys: KeyRing,
    clock: Callable[[], datetime],
    staging: Sequence[Path] = (),
) -> Published:
    """Let as many officers as are needed sign a draft, and publish it."""
    feed = Feed(directory)
    base = feed.state() if feed.exists else None
    with tempfile.TemporaryDirectory(prefix="nu-event-") as folder:
        event = SigningEvent.create(Path(folder) / "event", draft.title, draft.roles, base)
        for officer in keys.officers[: keys.threshold]:
            event.sign(officer, event.digest)
        return Publisher(feed, clock).publish(event, staging, keys.online)


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
