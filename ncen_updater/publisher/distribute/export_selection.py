"""Contents of a bundle: the upgrade paths of its sites, and the targets that they need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from packaging.version import Version
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    FEED_BROKEN,
    NOTHING_TO_EXPORT,
    RELEASE_NOT_FOR_SITE,
    UNKNOWN_RELEASE,
)
from ncen_updater.feed.errors import UpgradePathError
from ncen_updater.feed.offers import parse_offers
from ncen_updater.feed.upgrade_path import UpgradePath, choose_path
from ncen_updater.formats.manifest import Channel
from ncen_updater.formats.release_document import (
    Offer,
    ReleaseDocument,
    TargetRef,
    get_release_target_name,
    parse_release_document,
)
from ncen_updater.formats.target_names import AGENT_PRODUCT
from ncen_updater.publisher.errors import describe_system_error
from ncen_updater.publisher.feed.feed_directory import (
    FeedDirectory,
    FeedState,
    make_unknown_role_error,
)


@dataclass(frozen=True)
class ExportSite:
    """A site that the bundle is for.

    Attributes:
        country: ISO 3166-1 alpha-2.
        site: Its id, by which the waves are reckoned.
    """

    country: str
    site: str


@dataclass(frozen=True)
class ExportRequest:
    """What a bundle shall hold.

    Attributes:
        product: The product.
        sites: The sites; at least one.
        origin: The release that runs there.
        target: Where to; the newest that each of them may have by default.
        channel: The channel that they follow.
        agent: Version of their agent.
        archives: Whether the whole archive goes in where a delta pack would do.
        with_origin: Whether ``origin`` goes in too, so that a site can be taken over from it.
        with_agent: Whether newer agents for these sites go in too.
    """

    product: str
    sites: tuple[ExportSite, ...]
    origin: Version
    target: Version | None
    channel: Channel
    agent: Version
    archives: bool = False
    with_origin: bool = False
    with_agent: bool = False


def find_agent_paths(
    order: ExportRequest, state: FeedState, now: datetime
) -> dict[ExportSite, tuple[Offer, ...]]:
    """Return for each destination the upgrade path of its agent, which may be empty.

    Raises:
        UNKNOWN_PRODUCT: If the feed carries no agents.
    """
    role = state.delegated.get(AGENT_PRODUCT)
    if role is None:
        raise make_unknown_role_error(state, AGENT_PRODUCT)
    offers = parse_offers(AGENT_PRODUCT, role.signed.targets)
    ways = {}
    for place in order.sites:
        path = choose_path(
            order.agent,
            offers,
            site=place.site,
            country=place.country,
            channel=order.channel,
            agent=order.agent,
            now=now,
        )
        ways[place] = tuple(path.hops) if isinstance(path, UpgradePath) else ()
    return ways


def list_agent_targets(
    feed: FeedDirectory, listed: dict[str, TargetFile], versions: Iterable[Version]
) -> list[str]:
    """List the targets of agent releases, which are always fetched whole."""
    wanted = []
    for version in versions:
        name = get_release_target_name(AGENT_PRODUCT, str(version))
        document = _read_document(feed, listed[name], name)
        wanted += [name, document.tree.target, document.archive.target]
    return sorted(wanted)


def list_hops(
    order: ExportRequest,
    offers: Sequence[Offer],
    ways: Mapping[ExportSite, Sequence[Offer]],
    now: datetime,
) -> list[tuple[Version | None, Offer]]:
    """List the releases on the paths of all destinations with their predecessors, oldest first."""
    known = {offer.release_version for offer in offers}
    if order.target is not None and order.target not in known:
        raise UpdaterError(UNKNOWN_RELEASE, product=order.product, version=order.target)
    found: dict[tuple[Version | None, str], Offer] = {}
    for place in order.sites:
        try:
            path = choose_path(
                order.origin,
                offers,
                site=place.site,
                country=place.country,
                channel=order.channel,
                # The newer agent that comes along is there before the release is planned.
                agent=max((h.release_version for h in ways.get(place, ())), default=order.agent),
                now=now,
                target=order.target,
            )
        except UpgradePathError as error:
            # What it tells a site to do is nothing that a signer could.
            raise UpdaterError(
                RELEASE_NOT_FOR_SITE,
                version=order.target,
                site=f"{place.country}/{place.site}",
                reason=error.title_text,
            ) from error
        if not isinstance(path, UpgradePath):
            reasons = "; ".join(f"{row.offer.version}: {row.text}" for row in path.rejected)
            raise UpdaterError(
                NOTHING_TO_EXPORT,
                site=f"{place.country}/{place.site}",
                origin=order.origin,
                detail=reasons or None,
            )
        before = order.origin
        for hop in path.hops:
            found[before, hop.version] = hop
            before = hop.release_version
    if order.with_origin:
        own = next((o for o in offers if o.release_version == order.origin), None)
        if own is None:
            raise UpdaterError(UNKNOWN_RELEASE, product=order.product, version=order.origin)
        found[None, own.version] = own
    return sorted(
        ((before, hop) for (before, _), hop in found.items()),
        key=lambda pair: (pair[1].release_version, str(pair[0])),
    )


def list_bundle_targets(
    feed: FeedDirectory,
    order: ExportRequest,
    hops: Sequence[tuple[Version | None, Offer]],
    listed: dict[str, TargetFile],
) -> tuple[list[str], dict[str, str]]:
    """List the targets of the bundle, and the form of each release in it."""
    wanted: set[str] = set()
    releases: dict[str, str] = {}
    for before, hop in hops:
        name = get_release_target_name(order.product, hop.version)
        wanted.add(name)
        document = _read_document(feed, listed[name], name)
        whole = order.archives or order.product == AGENT_PRODUCT  # an agent's slot is recreated
        refs = [] if whole else _find_delta_pack(order, before, document, listed)
        if refs:
            releases.setdefault(hop.version, "delta")
        else:
            refs = [document.tree, document.archive]
            releases[hop.version] = "archive"
        wanted.update(ref.target for ref in refs)
    return sorted(wanted), releases


def _find_delta_pack(
    order: ExportRequest,
    before: Version | None,
    document: ReleaseDocument,
    listed: dict[str, TargetFile],
) -> list[TargetRef]:
    """Return the delta pack from the version that the site runs now.

    From the second release of a path on the whole archive is taken: the release before it is not
    there yet when its upgrade is planned.
    """
    if before != order.origin:
        return []
    return [
        ref
        for ref in document.deltas
        if Version(ref.from_version) == before and ref.target in listed
    ]


def _read_document(feed: FeedDirectory, target: TargetFile, name: str) -> ReleaseDocument:
    try:
        content = feed.get_target_path(target).read_bytes()
    except OSError as error:
        raise UpdaterError(
            FEED_BROKEN, path=feed.directory, reason=f"{name}: {describe_system_error(error)}"
        ) from error
    return parse_release_document(content, name)
