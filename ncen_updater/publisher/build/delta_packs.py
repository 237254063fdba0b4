"""Delta packs of a new release, from releases that the feed still offers.

A pack leads from one earlier release directly to the new one. Each is applied when it is built, and
the resulting tree is compared, before anyone is asked to sign.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import FEED_BROKEN, UNKNOWN_RELEASE
from ncen_updater.common.progress import ProgressListener
from ncen_updater.feed.resumable_download import ExpectedFile, is_complete
from ncen_updater.formats.archive import unpack_archive
from ncen_updater.formats.delta.pack_plan import DeltaBuildError, DeltaVerificationError
from ncen_updater.formats.manifest import Manifest
from ncen_updater.formats.release_document import (
    DeltaRef,
    Offer,
    ReleaseDocument,
    TargetRef,
    get_archive_target_name,
    get_delta_target_name,
    get_release_target_name,
    parse_release_document,
)
from ncen_updater.formats.tree import EntryType, Tree, get_sealed_mode, hash_file
from ncen_updater.publisher.errors import BuildError
from ncen_updater.publisher.feed.feed_directory import FeedDirectory, FeedState, list_offers

logger = logging.getLogger(__name__)

MAX_BASE_RELEASES: Final = 5
MAX_SIZE_RATIO: Final = 0.8  # a pack above this fraction of the archive's size is dropped


@dataclass(frozen=True)
class SkippedPack:
    """A pack that the release goes without; sites download the archive instead."""

    from_version: str
    reason: LazyText


def choose_base_releases(
    offers: Sequence[Offer], manifest: Manifest, wanted: Sequence[str] | None
) -> tuple[Offer, ...]:
    """Choose the releases from which packs are built. Pure.

    Args:
        offers: The feed's offers of the product.
        manifest: Manifest of the new release.
        wanted: Requested versions; None for the newest five over which it may be installed.

    Raises:
        UNKNOWN_RELEASE: If a requested version is not offered.
        BuildError: If the new release may not be installed over a requested version.
    """
    admitted = [
        offer
        for offer in offers
        if offer.withdrawn is None and manifest.accepts_version(offer.release_version)
    ]
    if wanted is None:
        newest = sorted(admitted, key=lambda offer: offer.release_version)[-MAX_BASE_RELEASES:]
        return tuple(reversed(newest))
    known = {offer.version: offer for offer in offers if offer.withdrawn is None}
    for version in wanted:
        if version not in known:
            raise UpdaterError(UNKNOWN_RELEASE, product=manifest.product, version=version)
        if known[version] not in admitted:
            reason = f"upgrade_from does not admit {version}, so it needs no delta pack"
            raise BuildError(path=manifest.version, reason=reason)
    return tuple(known[version] for version in dict.fromkeys(wanted))


def _describe_failure(error: DeltaBuildError) -> LazyText:
    values = {"reason": error.title_text, "detail": error.original_detail or error.code}
    return LazyText("{reason} ({detail})", values)


@dataclass
class DeltaPackBuilder:
    """Builds the packs of one release.

    Attributes:
        feed: The published feed, with the earlier releases.
        progress: Receives the progress.
        base_versions: As ``wanted`` of :func:`choose_base_releases`.
        scratch: Directory for unpacked releases; the system's default if None.
        skipped: Packs that cannot be built or save too little, filled by :meth:`build_packs`.
    """

    feed: FeedDirectory
    progress: ProgressListener
    base_versions: Sequence[str] | None = None
    scratch: Path | None = None
    skipped: list[SkippedPack] = field(default_factory=list)

    def build_packs(
        self, directory: Path, tree: Tree, manifest: Manifest, archive: TargetRef, targets: Path
    ) -> tuple[DeltaRef, ...]:
        """Build all packs into ``targets``; return their references for the release document.

        Args:
            directory: Directory of the new release.
            tree: Its tree.
            manifest: Its manifest.
            archive: Its archive, with whose size a pack is compared.
            targets: Directory of the targets.

        Raises:
            UNKNOWN_RELEASE, BuildError: As :func:`choose_base_releases`.
            FEED_BROKEN: If the feed lacks a file that it lists.
            DeltaVerificationError: If a pack does not produce the tree, because a release changed
                during the build or the program is faulty; neither may be ignored.
        """
        state = self.feed.read_state()
        role = state.delegated.get(manifest.product)
        offers = list_offers(role.signed) if role else []
        made = []
        for offer in choose_base_releases(offers, manifest, self.base_versions):
            try:
                ref = self._build_pack(state, offer, directory, tree, manifest, targets)
            except DeltaVerificationError:
                raise
            except DeltaBuildError as error:
                logger.warning("no delta pack from %s: %s", offer.version, error)
                self.skipped.append(SkippedPack(offer.version, _describe_failure(error)))
                continue
            if ref.length < archive.length * MAX_SIZE_RATIO:
                made.append(ref)
            else:
                sizes = {"pack_bytes": ref.length, "archive_bytes": archive.length}
                reason = LazyText(N_("{pack_bytes} instead of {archive_bytes}"), sizes)
                self.skipped.append(SkippedPack(offer.version, reason))
                durable.remove_file(targets / ref.target)
        return tuple(made)

    def _build_pack(
        self,
        state: FeedState,
        offer: Offer,
        directory: Path,
        tree: Tree,
        manifest: Manifest,
        targets: Path,
    ) -> DeltaRef:
        from ncen_updater.formats.delta.pack_builder import PackOptions, build_pack

        document = parse_release_document(
            self._find_target_file(
                state, get_release_target_name(offer.product, offer.version)
            ).read_bytes(),
            offer.version,
        )
        name = get_delta_target_name(manifest.product, offer.version, manifest.version)
        pack = targets / name
        durable.make_directory(pack.parent)
        with tempfile.TemporaryDirectory(prefix="nu-delta-", dir=self.scratch) as folder:
            old = Path(folder) / "old"
            old_tree = self._unpack_base(state, document, old)
            options = PackOptions(scratch=Path(folder))
            info = build_pack(old, old_tree, directory, tree, pack, self.progress, options)
        return DeltaRef(
            target=name,
            length=pack.stat().st_size,
            sha256=hash_file(pack),
            from_version=offer.version,
            **info.model_dump(exclude={"to_tree"}),
        )

    def _unpack_base(self, state: FeedState, document: ReleaseDocument, place: Path) -> Tree:
        from ncen_updater.feed.release_files import read_tree

        tree = read_tree(document, self._find_target_file(state, document.tree.target))
        version = document.manifest.version
        archive = self._find_target_file(
            state, get_archive_target_name(document.manifest.product, version)
        )
        unpack_archive(archive, tree, place, self.progress)
        for entry in tree.entries:  # sealed, so that the verification of a pack can link them
            if entry.type is EntryType.FILE:
                (place / entry.path).chmod(get_sealed_mode(entry))
        return tree

    def _find_target_file(self, state: FeedState, name: str) -> Path:
        """Return the path of a target in the feed, after hashing it."""
        for role in state.delegated.values():
            target = role.signed.targets.get(name)
            if target is not None:
                path = self.feed.get_target_path(target)
                if is_complete(path, ExpectedFile(name, target.length, target.hashes["sha256"])):
                    return path
                raise UpdaterError(
                    FEED_BROKEN,
                    path=self.feed.directory,
                    reason=LazyText("{name} is missing or modified", {"name": name}),
                )
        raise UpdaterError(
            FEED_BROKEN,
            path=self.feed.directory,
            reason=LazyText("{name} is not listed", {"name": name}),
        )
