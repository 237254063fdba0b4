"""Importing a bundle: verified whole in a copy of the lists, then put in its places at one instant.

The client is the one that reads the feed, over a copy of the same metadata directory, so that a
bundle and the feed protect each other against older lists. Whatever is refused, the copy is thrown
away and nothing else was touched.

A bundle may bring releases of the agent, too: a site without a network has no other way to them.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from packaging.version import Version

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.disk_space import require_space
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    BUNDLE_DOES_NOT_FIT,
    BUNDLE_OTHER_COUNTRY,
    BUNDLE_OTHER_PRODUCT,
)
from ncen_updater.common.progress import Progress
from ncen_updater.feed.client import TrustClient
from ncen_updater.feed.clock import TrustClock, system_now
from ncen_updater.feed.errors import PathError
from ncen_updater.feed.last_view import view_path
from ncen_updater.feed.offers import offers_of, save_view
from ncen_updater.feed.offline.fetcher import BundleFetcher, in_words_of_bundles, read_whole
from ncen_updater.feed.offline.reader import BundleContents
from ncen_updater.feed.offline.store import (
    PARTIAL,
    READY,
    ImportRecord,
    lists_lock,
    put_in_place,
    tidy,
    write_import,
)
from ncen_updater.feed.release_files import DOCUMENT
from ncen_updater.feed.release_source import FeedView
from ncen_updater.feed.upgrade_path import UpgradePath, choose_path
from ncen_updater.formats.bundle.bundle_file import BundleFile, open_bundle
from ncen_updater.formats.bundle.form import BundleMember
from ncen_updater.formats.document import (
    Offer,
)
from ncen_updater.formats.manifest import Channel
from ncen_updater.formats.tuf_names import AGENT_PRODUCT, ROOT_HISTORY

logger = logging.getLogger(__name__)

RELEASES = "targets/releases/"


@dataclass(frozen=True)
class Importer:
    """The site that a bundle has to fit.

    Attributes:
        product: What it runs.
        site: Its id.
        country: Its country.
        channel: Its channel.
        current: What runs there; None before it was taken over.
        agent: Version of the agent.
        grace: How long timestamp and snapshot count beyond their expiry.
    """

    product: str
    site: str
    country: str
    channel: Channel
    current: Version | None
    agent: Version
    grace: timedelta


class BundleImport:
    """Imports into one state directory.

    Args:
        state: The agent's state directory.
        trusted_root: The root that was installed with the agent.
        importer: The site.
        now: The system clock.
    """

    def __init__(
        self,
        state: Path,
        trusted_root: Path,
        importer: Importer,
        now: Callable[[], datetime] = system_now,
    ) -> None:
        self._state, self._trusted_root, self._site = state, trusted_root, importer
        self._now = now

    def run(
        self,
        file: Path,
        progress: Progress,
        *,
        dry_run: bool = False,
        descriptor: int | None = None,
    ) -> ImportRecord:
        """Verify a bundle whole, and keep it.

        Args:
            file: The bundle.
            progress: Told the bytes.
            dry_run: Verify, and keep nothing.
            descriptor: The file, where another process opened it.

        Raises:
            UpdaterError: Of the bundle, trust, path or transfer family; nothing was kept.
        """
        with lists_lock(self._state, alone=True):
            tidy(self._state)
            try:
                with (
                    open_bundle(file, descriptor) as bundle,
                    in_words_of_bundles(self._site.grace),
                ):
                    record = self._verified(bundle, progress)
                if not dry_run:
                    durable.flush_filesystem(self._state)
                    durable.rename(self._state / PARTIAL, self._state / READY)
                    put_in_place(self._state)
            finally:
                # Once it is renamed nothing is left here: what was verified is not thrown away.
                shutil.rmtree(self._state / PARTIAL, ignore_errors=True)
            return record

    # -- what is in it ---------------------------------------------------------------------------

    def _verified(self, bundle: BundleFile, progress: Progress) -> ImportRecord:
        members = read_whole(bundle, progress)
        durable.make_directory(self._state)
        require_space(self._state, sum(member.size for member in members.values()))
        staging = self._copy_of_lists()
        fetcher = BundleFetcher(bundle, members)
        # By itself first: a list that this site has already is not read from the bundle again.
        self._client(staging, "alone", fetcher).product_role()
        shutil.rmtree(staging / "alone")
        client = self._client(staging, "metadata", fetcher)
        client.refresh()
        self._require_product(members)
        view = self._view(client)
        contents = BundleContents(client, members, staging, self._site.product, progress)
        brought = self._releases(view.offers, contents)
        agents, agent = self._agents(staging, members, fetcher, progress)
        reaches = self._reaches(view.offers, brought, contents, agent or self._site.agent)
        for offer in brought:
            contents.take_files(offer)
        save_view(view_path(staging, self._site.product), view)
        record = ImportRecord(
            imported_at=view.checked_at,
            usable_until=client.usable_until(),
            timestamp=client.timestamp_version,
            product=self._site.product,
            releases=tuple(offer.version for offer in brought),
            reaches=reaches,
            file=bundle.path.name,
            agents=tuple(offer.version for offer in agents),
            agent=None if agent is None else str(agent),
        )
        write_import(staging, record)
        return record

    def _view(self, client: TrustClient) -> FeedView:
        listed = client.product_targets()
        return FeedView(
            offers=offers_of(client.product, listed),
            checked_at=self._now(),
            expires_at=client.usable_until(),
            version=client.product_role().version,
        )

    def _client(
        self, staging: Path, lists: str, fetcher: BundleFetcher, product: str | None = None
    ) -> TrustClient:
        return TrustClient(
            product or self._site.product,
            metadata_directory=staging / lists,
            trusted_root=self._trusted_root,
            fetcher=fetcher,
            clock=TrustClock(staging / "clock.json", self._now),
            grace=self._site.grace,
        )

    def _copy_of_lists(self) -> Path:
        staging = self._state / PARTIAL
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
            name.removeprefix(RELEASES).split("/")[0]
            for name in members
            if name.startswith(RELEASES)
        }
        if self._site.product not in products and products - {AGENT_PRODUCT}:
            names = ", ".join(sorted(products))
            raise UpdaterError(BUNDLE_OTHER_PRODUCT, products=names, product=self._site.product)

    def _agents(
        self,
        staging: Path,
        members: Mapping[str, BundleMember],
        fetcher: BundleFetcher,
        progress: Progress,
    ) -> tuple[list[Offer], Version | None]:
        """Bring the agents that are in the bundle; return them, and which of them this one reaches.

        Where there are any, their list has to verify as strictly as that of the product.
        """
        inside = any(name.startswith(f"{RELEASES}{AGENT_PRODUCT}/") for name in members)
        if self._site.product == AGENT_PRODUCT:
            return [], None
        if not inside:
            self._follow_list_of_agents(staging, fetcher)
            return [], None
        client = self._client(staging, "metadata", fetcher, AGENT_PRODUCT)
        view = self._view(client)
        contents = BundleContents(client, members, staging, AGENT_PRODUCT, progress)
        brought = [
            offer
            for offer in view.offers
            if contents.has_document(offer)
            and (not offer.countries or self._site.country in offer.countries)
        ]
        for offer in brought:
            contents.take_document(offer)
            contents.take_files(offer)
        save_view(view_path(staging, AGENT_PRODUCT), view)
        path = self._path(self._site.agent, view.offers, self._site.agent)
        whole = isinstance(path, UpgradePath) and all(hop in brought for hop in path.hops)
        reached = path.target.release_version if whole and isinstance(path, UpgradePath) else None
        return brought, reached

    def _follow_list_of_agents(self, staging: Path, fetcher: BundleFetcher) -> None:
        """Take the newer list of agents where one came before: the old one counts no more now."""
        if not view_path(self._state, AGENT_PRODUCT).exists():
            return
        try:
            client = self._client(staging, "metadata", fetcher, AGENT_PRODUCT)
            save_view(view_path(staging, AGENT_PRODUCT), self._view(client))
        except UpdaterError as error:
            logger.warning("the list of agents stays as it was: %s", error)

    def _path(
        self,
        current: Version,
        offers: Sequence[Offer],
        agent: Version,
        target: Version | None = None,
    ) -> object:
        return choose_path(
            current,
            offers,
            site=self._site.site,
            country=self._site.country,
            channel=self._site.channel,
            agent=agent,
            now=self._now(),
            target=target,
        )

    def _releases(self, offers: Sequence[Offer], contents: BundleContents) -> list[Offer]:
        """The releases that are in the bundle, for this country, with their documents read."""
        inside = [offer for offer in offers if contents.has_document(offer)]
        country = self._site.country
        meant = [o for o in inside if not o.countries or country in o.countries]
        if inside and not meant:
            named = sorted({name for offer in inside for name in offer.countries})
            raise UpdaterError(BUNDLE_OTHER_COUNTRY, countries=", ".join(named), country=country)
        for offer in meant:
            contents.take_document(offer)
        return meant

    def _reaches(
        self,
        offers: Sequence[Offer],
        brought: Sequence[Offer],
        contents: BundleContents,
        agent: Version,
    ) -> str | None:
        """The newest release that can be reached with what is in the bundle and on the disk.

        Raises:
            BundleDoesNotFit: If there are newer ones in it and none can be reached.
            PathError: If none of them may be installed here at all.
        """
        current = self._site.current
        if current is None:
            return None
        newer = [offer for offer in brought if offer.release_version > current]
        refusal: UpdaterError | None = None
        for offer in reversed(newer):
            try:
                path = self._path(current, offers, agent, offer.release_version)
            except PathError as error:
                refusal = refusal or error
                continue
            missing = self._missing(current, path, contents)
            if not missing:
                return offer.version
            refusal = UpdaterError(
                BUNDLE_DOES_NOT_FIT,
                current=current,
                version=offer.version,
                missing=", ".join(missing),
            )
        if refusal is not None:
            raise refusal
        return None

    def _missing(
        self, current: Version, path: UpgradePath | object, contents: BundleContents
    ) -> list[str]:
        hops = path.hops if isinstance(path, UpgradePath) else ()
        missing = []
        origin = current
        for hop in hops:
            on_disk = self._state / "downloads" / self._site.product / hop.version / DOCUMENT
            if not (contents.leads(origin, hop) or on_disk.exists()):
                missing.append(hop.version)
            origin = hop.release_version
        return missing
