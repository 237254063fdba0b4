"""Files of a trial: built releases, their feed, and the passed stages.

The feed belongs to the sandbox site that trusts its initial root metadata. A new sandbox gets a new
feed, with the earlier builds of unchanged releases.
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

#: Low cost, since these keys protect nothing and are opened often.
TEST_SCRYPT_COST: Final = 1 << 12


@dataclass(frozen=True)
class FeedKeys:
    """All keys of a test feed.

    Attributes:
        signers: Keys of root, targets and every product.
        online: Keys of snapshot and timestamp.
        threshold: Number of required signatures.
    """

    signers: tuple[Signer, ...]
    online: OnlineSigners
    threshold: int


#: Signers of a trial feed.
SIGNERS = ("amina", "bo", "chen")


def create_keys(directory: Path, passphrase: str) -> FeedKeys:
    """Create encrypted keys, or open existing ones in ``directory``.

    Args:
        directory: Directory of the key files.
        passphrase: Passphrase of all keys; real signers each have their own.
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
    """Create the first metadata of a new feed and publish its empty state.

    Args:
        directory: The feed; sites trust its ``metadata/1.root.json`` initially.
        keys: The signers sign root, targets and every product.
        clock: The time (UTC).
        products: Products, each with a role.
        plain_tufup: Products whose archives unmodified tufup clients must find.
        expiry_days: Expiry periods by role, if not the usual ones.
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
    """Sign a draft with the required number of signers, and publish it."""
    feed = FeedDirectory(directory)
    base = feed.read_state() if feed.exists else None
    with tempfile.TemporaryDirectory(prefix="nu-event-") as folder:
        event = SigningEvent.create(Path(folder) / "event", draft.title, draft.roles, base)
        for signer in keys.signers[: keys.threshold]:
            event.sign_drafts(signer, event.digest)
        return Publisher(feed, clock).publish_event(event, staging, keys.online)


class TrialStore:
    """Directory with the feed and state of one sandbox.

    Args:
        work: The directory.
        site: The site.
    """

    def __init__(self, work: Path, site: SandboxSite) -> None:
        self._work, self._site, self.feed = work, site, work / "feed"
        known = site.trusts(self.feed) and (work / "trial.json").exists()
        self._passed: dict[str, list[str]] = (
            parse_json((work / "trial.json").read_bytes()) if known else {}
        )

    def list_passed_stages(self, before: str, release: str) -> list[str]:
        """Return the stages that this site has passed."""
        return self._passed.get(f"{before} {release}", ["adopt"] if self._passed else [])

    def pass_stage(self, before: str, release: str, stage: str) -> None:
        """Record a passed stage."""
        self._passed[f"{before} {release}"] = [*self.list_passed_stages(before, release), stage]
        durable.write_file(self._work / "trial.json", json.dumps(self._passed).encode())

    def publish(self, releases: Sequence[Path], clock: Callable[[], datetime]) -> None:
        """Publish the releases that the feed lacks; build those not built before.

        Raises:
            UpdaterError: If a build fails, or the feed has that version with other content.
        """
        keys = create_keys(self._work / "keys", "nobody trusts them")
        if not self._site.trusts(self.feed):
            shutil.rmtree(self.feed, ignore_errors=True)
            create_feed(self.feed, keys, clock, products=(self._site.product,))
            durable.make_directory(self._site.trusted_root.parent)
            shutil.copyfile(self.feed / FIRST_ROOT, self._site.trusted_root)
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
