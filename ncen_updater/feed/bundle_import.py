"""Import an offline bundle: verify it in a copy of the metadata, then install it by one rename.

The client that reads the feed also verifies the bundle, on a copy of the same metadata directory.
So rollback protection spans both sources. If the bundle is refused, only the copy is removed.

A bundle may also contain releases of the agent: a site without a network has no other source.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from packaging.version import Version
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.disk_space import require_space
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    BUNDLE_DOES_NOT_FIT,
    BUNDLE_FOR_OTHERS,
    BUNDLE_INCOMPLETE,
)
from ncen_updater.common.progress import ProgressListener
from ncen_updater.feed.bundle_fetcher import BundleFetcher, map_bundle_errors, read_verified_members
from ncen_updater.feed.clock import TrustClock, get_system_time
from ncen_updater.feed.delta_packs import get_pack_path
from ncen_updater.feed.download_store import TREE_NAME, DownloadStore
from ncen_updater.feed.errors import DocumentMismatchError, UpgradePathError
from ncen_updater.feed.feed_summary import get_view_path
from ncen_updater.feed.import_store import (
    PARTIAL_DIRECTORY,
    READY_DIRECTORY,
    ImportRecord,
    finish_import_locked,
    install_import,
    lock_metadata,
    write_import_record,
)
from ncen_updater.feed.offers import FeedView, matches_target, parse_offers, save_view
from ncen_updater.feed.release_files import DOCUMENT_NAME, read_tree
from ncen_updater.feed.tuf_client import TrustClient
from ncen_updater.feed.upgrade_path import UpgradePath, choose_path
from ncen_updater.formats.bundle_file import BundleFile, BundleMember, get_member_name, open_bundle
from ncen_updater.formats.manifest import Channel
from ncen_updater.formats.release_document import (
    DeltaRef,
    Offer,
    ReleaseDocument,
    TargetRef,
    get_release_target_name,
    parse_release_document,
)
from ncen_updater.formats.target_names import AGENT_PRODUCT, ROOT_HISTORY

logger = logging.getLogger(__name__)

RELEASES_MEMBER_PREFIX = "targets/releases/"


@dataclass(frozen=True)
class ImportSite:
    """The site for which a bundle is verified.

    Attributes:
        product: The application's product name.
        site: The site's id.
        country: The site's country.
        channel: The site's channel.
        current: The installed release; None before the installation is adopted.
        agent: The agent's version.
        grace: How long timestamp and snapshot are accepted after they expire.
    """

    product: str
    site: str
    country: str
    channel: Channel
    current: Version | None
    agent: Version
    grace: timedelta


class BundleImporter:
    """Imports offline bundles into one state directory.

    Args:
        state: The agent's state directory.
        trusted_root: Path of the root metadata that was installed with the agent.
        site: The site.
        now: The system clock.
    """

    def __init__(
        self,
        state: Path,
        trusted_root: Path,
        site: ImportSite,
        now: Callable[[], datetime] = get_system_time,
    ) -> None:
        self._state, self._trusted_root, self._site = state, trusted_root, site
        self._now = now

    def import_bundle(
        self,
        file: Path,
        progress: ProgressListener,
        *,
        dry_run: bool = False,
        descriptor: int | None = None,
    ) -> ImportRecord:
        """Verify a bundle completely and store its contents.

        Args:
            file: Path of the bundle.
            progress: Receives the number of bytes read.
            dry_run: Verify only; store nothing.
            descriptor: The open bundle, if another process opened it.

        Raises:
            UpdaterError: Of the bundle, trust, path or transfer family; nothing was stored.
        """
        with lock_metadata(self._state, exclusive=True):
            finish_import_locked(self._state)
            try:
                with (
                    open_bundle(file, descriptor) as bundle,
                    map_bundle_errors(self._site.grace),
                ):
                    record = self._verify_bundle(bundle, progress)
                if not dry_run:
                    durable.sync_filesystem(self._state)
                    durable.rename_entry(
                        self._state / PARTIAL_DIRECTORY, self._state / READY_DIRECTORY
                    )
                    install_import(self._state)
            finally:
                # After the rename this directory no longer exists: verified files are never
                # deleted.
                shutil.rmtree(self._state / PARTIAL_DIRECTORY, ignore_errors=True)
            return record

    # -- verify the contents ---------------------------------------------------------------------

    def _verify_bundle(self, bundle: BundleFile, progress: ProgressListener) -> ImportRecord:
        members = read_verified_members(bundle, progress)
        durable.make_directory(self._state)
        require_space(self._state, sum(member.size for member in members.values()))
        staging = self._stage_known_metadata()
        fetcher = BundleFetcher(bundle, members)
        # First without stored metadata: with it, the bundle's own copy would not be read.
        self._make_client(staging, "alone", fetcher).load_product_role()
        shutil.rmtree(staging / "alone")
        client = self._make_client(staging, "metadata", fetcher)
        client.refresh()
        self._require_product(members)
        view = self._make_view(client)
        contents = BundleContents(client, members, staging, self._site.product, progress)
        stored = self._store_documents(view.offers, contents)
        agents, agent = self._store_agents(staging, members, fetcher, progress)
        reachable = self._find_reachable_release(
            view.offers, stored, contents, agent or self._site.agent
        )
        for offer in stored:
            contents.store_files(offer)
        save_view(get_view_path(staging, self._site.product), view)
        record = ImportRecord(
            imported_at=view.checked_at,
            usable_until=client.get_usable_until(),
            timestamp=client.timestamp_version,
            product=self._site.product,
            releases=tuple(offer.version for offer in stored),
            reachable_release=reachable,
            file=bundle.path.name,
            agents=tuple(offer.version for offer in agents),
            reachable_agent=None if agent is None else str(agent),
        )
        write_import_record(staging, record)
        return record

    def _make_view(self, client: TrustClient) -> FeedView:
        listed = client.list_product_targets()
        return FeedView(
            offers=parse_offers(client.product, listed),
            checked_at=self._now(),
            expires_at=client.get_usable_until(),
            version=client.load_product_role().version,
        )

    def _make_client(
        self, staging: Path, directory_name: str, fetcher: BundleFetcher, product: str | None = None
    ) -> TrustClient:
        return TrustClient(
            product or self._site.product,
            metadata_directory=staging / directory_name,
            trusted_root=self._trusted_root,
            fetcher=fetcher,
            clock=TrustClock(staging / "clock.json", self._now),
            grace=self._site.grace,
        )

    def _stage_known_metadata(self) -> Path:
        staging = self._state / PARTIAL_DIRECTORY
        durable.make_directory(staging / "metadata")
        for file in (self._state / "metadata").glob("*.json"):
            shutil.copyfile(file, staging / "metadata" / file.name)
        roots = self._state / "metadata" / ROOT_HISTORY
        if roots.exists():
            shutil.copytree(roots, staging / "metadata" / ROOT_HISTORY)
        floor = self._state / "clock.json"
        if floor.exists():
            shutil.copyfile(floor, staging / floor.name)
        return staging

    def _require_product(self, members: Mapping[str, BundleMember]) -> None:
        products = {
            name.removeprefix(RELEASES_MEMBER_PREFIX).split("/")[0]
            for name in members
            if name.startswith(RELEASES_MEMBER_PREFIX)
        }
        if self._site.product not in products and products - {AGENT_PRODUCT}:
            names = ", ".join(sorted(products))
            raise UpdaterError(BUNDLE_FOR_OTHERS, found=names, wanted=self._site.product)

    def _store_agents(
        self,
        staging: Path,
        members: Mapping[str, BundleMember],
        fetcher: BundleFetcher,
        progress: ProgressListener,
    ) -> tuple[list[Offer], Version | None]:
        """Store the agent releases of the bundle; return them and the one this agent can update to.

        If the bundle has agent releases, their metadata must verify as strictly as the product's.
        """
        inside = any(
            name.startswith(f"{RELEASES_MEMBER_PREFIX}{AGENT_PRODUCT}/") for name in members
        )
        if self._site.product == AGENT_PRODUCT:
            return [], None
        if not inside:
            self._update_agent_metadata(staging, fetcher)
            return [], None
        client = self._make_client(staging, "metadata", fetcher, AGENT_PRODUCT)
        view = self._make_view(client)
        contents = BundleContents(client, members, staging, AGENT_PRODUCT, progress)
        stored = [
            offer
            for offer in view.offers
            if contents.has_document(offer)
            and (not offer.countries or self._site.country in offer.countries)
        ]
        for offer in stored:
            contents.store_document(offer)
            contents.store_files(offer)
        save_view(get_view_path(staging, AGENT_PRODUCT), view)
        path = self._choose_path(self._site.agent, view.offers, self._site.agent)
        if path is None or not all(hop in stored for hop in path.hops):
            return stored, None
        return stored, path.target.release_version

    def _update_agent_metadata(self, staging: Path, fetcher: BundleFetcher) -> None:
        """Store newer agent metadata if the site has any: the stored one is outdated now."""
        if not get_view_path(self._state, AGENT_PRODUCT).exists():
            return
        try:
            client = self._make_client(staging, "metadata", fetcher, AGENT_PRODUCT)
            save_view(get_view_path(staging, AGENT_PRODUCT), self._make_view(client))
        except UpdaterError as error:
            logger.warning("the agent metadata is unchanged: %s", error)

    def _choose_path(
        self,
        current: Version,
        offers: Sequence[Offer],
        agent: Version,
        target: Version | None = None,
    ) -> UpgradePath | None:
        path = choose_path(
            current,
            offers,
            site=self._site.site,
            country=self._site.country,
            channel=self._site.channel,
            agent=agent,
            now=self._now(),
            target=target,
        )
        return path if isinstance(path, UpgradePath) else None

    def _store_documents(self, offers: Sequence[Offer], contents: BundleContents) -> list[Offer]:
        """Store the documents of the bundle's releases for this country; return these releases."""
        inside = [offer for offer in offers if contents.has_document(offer)]
        country = self._site.country
        usable = [o for o in inside if not o.countries or country in o.countries]
        if inside and not usable:
            named = sorted({name for offer in inside for name in offer.countries})
            raise UpdaterError(BUNDLE_FOR_OTHERS, found=", ".join(named), wanted=country)
        for offer in usable:
            contents.store_document(offer)
        return usable

    def _find_reachable_release(
        self,
        offers: Sequence[Offer],
        stored: Sequence[Offer],
        contents: BundleContents,
        agent: Version,
    ) -> str | None:
        """Return the newest release that the site can reach with the bundle and earlier downloads.

        Raises:
            BUNDLE_DOES_NOT_FIT: If releases of the bundle could be installed, but files to reach
                them are missing; names the newest of them.
            UpgradePathError: If no newer release of the bundle may be installed at this site, with
                the reason for the newest.
        """
        current = self._site.current
        if current is None:
            return None
        newer = [offer for offer in stored if offer.release_version > current]
        incomplete: UpdaterError | None = None
        forbidden: UpdaterError | None = None
        for offer in reversed(newer):
            try:
                path = self._choose_path(current, offers, agent, offer.release_version)
            except UpgradePathError as error:
                forbidden = forbidden or error
                continue
            missing = self._list_missing_releases(current, path, contents)
            if not missing:
                return offer.version
            incomplete = incomplete or UpdaterError(
                BUNDLE_DOES_NOT_FIT,
                current=current,
                version=offer.version,
                missing=", ".join(missing),
            )
        if refusal := incomplete or forbidden:
            raise refusal
        return None

    def _list_missing_releases(
        self, current: Version, path: UpgradePath | None, contents: BundleContents
    ) -> list[str]:
        product = self._site.product
        earlier = DownloadStore(product, self._state / "downloads" / product)
        missing = []
        origin = current
        for hop in path.hops if path is not None else ():
            if not (
                contents.can_build_release(origin, hop) or earlier.can_build_release(origin, hop)
            ):
                missing.append(hop.version)
            origin = hop.release_version
        return missing


class BundleContents:
    """The releases of one product in a bundle.

    Args:
        client: TUF client of the product, with verified metadata.
        members: The bundle's members by name.
        staging: Directory of the metadata copy; release files are stored below it.
        product: The product's name.
        progress: Receives the number of bytes read.
    """

    def __init__(
        self,
        client: TrustClient,
        members: Mapping[str, BundleMember],
        staging: Path,
        product: str,
        progress: ProgressListener,
    ) -> None:
        self._client, self._members = client, members
        self._listed: Mapping[str, TargetFile] = client.list_product_targets()
        self._staging, self._product, self._progress = staging, product, progress
        self._documents: dict[str, ReleaseDocument] = {}

    def _get_release_directory(self, offer: Offer) -> Path:
        return self._staging / "downloads" / self._product / offer.version

    def has_document(self, offer: Offer) -> bool:
        """Return whether the bundle contains the document of a release."""
        name = get_release_target_name(self._product, offer.version)
        return get_member_name(name, str(self._listed[name].hashes["sha256"])) in self._members

    def _has_target(self, ref: TargetRef) -> bool:
        return get_member_name(ref.target, ref.sha256) in self._members

    def store_document(self, offer: Offer) -> None:
        """Store and verify the document of a release.

        Raises:
            DocumentMismatchError: If the document contradicts the signed targets metadata.
        """
        name = get_release_target_name(self._product, offer.version)
        place = self._get_release_directory(offer)
        self._client.download_document(self._listed[name], place, self._progress)
        document = parse_release_document((place / DOCUMENT_NAME).read_bytes(), name, lenient=True)
        if not document.to_offer().is_same_release(offer):
            raise DocumentMismatchError(version=offer.version, detail=name)
        self._documents[offer.version] = document

    def can_build_release(self, origin: Version, hop: Offer) -> bool:
        """Return whether a site that runs ``origin`` can build a release from the bundle."""
        document = self._documents.get(hop.version)
        if document is None:
            return False
        packs = [ref for ref in document.deltas if Version(ref.from_version) == origin]
        return self._has_full_release(document) or any(self._has_target(ref) for ref in packs)

    def _has_full_release(self, document: ReleaseDocument) -> bool:
        return self._has_target(document.tree) and self._has_target(document.archive)

    def store_files(self, offer: Offer) -> None:
        """Store the files of a release that the bundle contains.

        Raises:
            BUNDLE_INCOMPLETE: If the bundle has neither the archive with its tree nor a delta pack.
        """
        document, place = self._documents[offer.version], self._get_release_directory(offer)
        packs = [ref for ref in document.deltas if self._has_target(ref)]
        whole = [document.tree, document.archive] if self._has_full_release(document) else []
        if not whole and not packs:
            raise UpdaterError(BUNDLE_INCOMPLETE, name=document.archive.target)
        for ref in (*whole, *packs):
            signed = self._listed.get(ref.target)
            if signed is None or not matches_target(signed, ref):
                raise DocumentMismatchError(version=offer.version, detail=ref.target)
            path = (
                get_pack_path(place, ref)
                if isinstance(ref, DeltaRef)
                else place / (TREE_NAME if ref is document.tree else ref.target)
            )
            self._client.download_target_file(signed, path, self._progress)
        if whole:
            read_tree(document, place / TREE_NAME)
