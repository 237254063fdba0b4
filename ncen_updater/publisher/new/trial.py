"""Files of a trial: the built releases, their feed, and the state of the site.

The feed belongs to one test site: the one that trusts its first root. A new test site gets a new
feed, with the earlier builds of releases that did not change.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from securesystemslib.signer import Signer

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.json_records import compute_sha256
from ncen_updater.common.messages import NOTHING_TO_DO
from ncen_updater.publisher.build.release_build import MANIFEST_NAME, build_release, scan_release
from ncen_updater.publisher.distribute.publishing import OnlineSigners, Publisher, PublishReport
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.feed.role_policy import (
    OFFLINE_EXPIRY_DAYS,
    ONLINE_EXPIRY_DAYS,
    ONLINE_ROLES,
)
from ncen_updater.publisher.new.sandbox_site import FIRST_ROOT, SandboxSite
from ncen_updater.publisher.signing.ceremony import Ceremony, RoleHolders
from ncen_updater.publisher.signing.draft import (
    Draft,
    draft_initial_roles,
    draft_releases,
)
from ncen_updater.publisher.signing.keys import create_key, open_signer
from ncen_updater.publisher.signing.signing_event import SigningEvent

#: Keys that protect nothing, and are opened again and again.
TEST_SCRYPT_COST: Final = 1 << 12


@dataclass(frozen=True)
class FeedKeys:
    """All keys of a feed in one hand.

    Attributes:
        signers: Keys of root, targets and every product.
        online: Keys of snapshot and timestamp.
        threshold: How many signers sign.
    """

    signers: tuple[Signer, ...]
    online: OnlineSigners
    threshold: int


#: Signers of a feed to try with.
SIGNERS = ("amina", "bo", "chen")


def create_keys(directory: Path, passphrase: str) -> FeedKeys:
    """Make encrypted keys, or open those that lie in ``directory`` already.

    Args:
        directory: Where the key files are.
        passphrase: The same for all; in earnest every signer has an own one.
    """

    def signer(name: str) -> Signer:
        path = directory / f"{name}.pem"
        if not path.exists():
            create_key(directory, name, passphrase, cost=TEST_SCRYPT_COST)
        return open_signer(path, lambda _: passphrase)

    return FeedKeys(
        signers=tuple(signer(name) for name in SIGNERS),
        online={role: (signer(role),) for role in ONLINE_ROLES},
        threshold=2,
    )


def create_feed(
    directory: Path,
    keys: FeedKeys,
    clock: Callable[[], datetime],
    products: Sequence[str] = ("ncen", "ncen-updater"),
    plain_tufup: Sequence[str] = (),
    expiry_days: Mapping[str, int] | None = None,
) -> PublishReport:
    """Hold the ceremony of a new feed and publish its first, empty state.

    Args:
        directory: The feed; ``metadata/1.root.json`` in it is what sites trust first.
        keys: Signers sign root, targets and every product.
        clock: The time (UTC).
        products: A role for each.
        plain_tufup: Products whose archives unmodified tufup clients must find.
        expiry_days: Other periods than the usual ones, by role.
    """
    days = {**ONLINE_EXPIRY_DAYS, **(expiry_days or {})}
    public = tuple(signer.public_key for signer in keys.signers)
    roles = {
        name: RoleHolders(public, keys.threshold, days.get(name, OFFLINE_EXPIRY_DAYS))
        for name in ("root", "targets", *products)
    }
    for role in ONLINE_ROLES:
        online = tuple(signer.public_key for signer in keys.online[role])
        roles[role] = RoleHolders(online, 1, days[role])
    draft = draft_initial_roles(Ceremony(roles, tuple(plain_tufup)), clock())
    return publish_draft(directory, draft, keys, clock)


def publish_draft(
    directory: Path,
    draft: Draft,
    keys: FeedKeys,
    clock: Callable[[], datetime],
    staging: Sequence[Path] = (),
) -> PublishReport:
    """Let as many signers as are needed sign a draft, and publish it."""
    feed = FeedDirectory(directory)
    base = feed.read_state() if feed.exists else None
    with tempfile.TemporaryDirectory(prefix="nu-event-") as folder:
        event = SigningEvent.create(Path(folder) / "event", draft.title, draft.roles, base)
        for signer in keys.signers[: keys.threshold]:
            event.sign_drafts(signer, event.digest)
        return Publisher(feed, clock).publish_event(event, staging, keys.online)


class TrialStore:
    """A directory with a feed for one desk.

    Args:
        work: The directory.
        desk: The site.
    """

    def __init__(self, work: Path, desk: SandboxSite) -> None:
        self._work, self._desk, self.feed = work, desk, work / "feed"
        known = desk.trusts(self.feed) and (work / "trial.json").exists()
        self._passed: dict[str, list[str]] = (
            parse_json((work / "trial.json").read_bytes()) if known else {}
        )

    def list_passed_stages(self, before: str, release: str) -> list[str]:
        """Return the stages that this site came through already."""
        return self._passed.get(f"{before} {release}", ["adopt"] if self._passed else [])

    def pass_stage(self, before: str, release: str, stage: str) -> None:
        """Note a stage that came to a good end."""
        self._passed[f"{before} {release}"] = [*self.list_passed_stages(before, release), stage]
        durable.write_file(self._work / "trial.json", json.dumps(self._passed).encode())

    def publish(self, releases: Sequence[Path], clock: Callable[[], datetime]) -> None:
        """Publish what the feed does not have; build what was not built before.

        Raises:
            UpdaterError: If it cannot be built, or the feed has that version with other content.
        """
        keys = create_keys(self._work / "keys", "nobody trusts them")
        if not self._desk.trusts(self.feed):
            shutil.rmtree(self.feed, ignore_errors=True)
            create_feed(self.feed, keys, clock, products=(self._desk.product,))
            durable.make_directory(self._desk.trusted_root.parent)
            shutil.copyfile(self.feed / FIRST_ROOT, self._desk.trusted_root)
        for release in releases:
            manifest = (release / MANIFEST_NAME).read_bytes()
            digest = compute_sha256(scan_release(release).to_canonical_json() + manifest)
            built, partial = self._work / "built" / digest, self._work / "built/partial"
            if not built.exists():
                shutil.rmtree(partial, ignore_errors=True)
                build_release(release, partial)
                partial.rename(built)
            try:
                draft = draft_releases(FeedDirectory(self.feed).read_state(), built, clock())
            except UpdaterError as error:
                if error.code != NOTHING_TO_DO.code:
                    raise
            else:
                publish_draft(self.feed, draft, keys, clock, [built])
