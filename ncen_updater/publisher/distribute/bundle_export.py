"""Export offline bundles: exactly the files that sites need on their upgrade path.

No key is needed, because a bundle contains the published metadata unchanged. Before it gets its
name, the agent's own client imports it into an empty state for each site.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from packaging.version import Version
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import encode_canonical_json
from ncen_updater.common.messages import (
    FEED_BROKEN,
    FILE_EXISTS,
    FILE_TOO_LARGE,
    NOTHING_TO_EXPORT,
    RELEASE_NOT_FOR_SITE,
    UNKNOWN_RELEASE,
    UNUSABLE_BUNDLE,
)
from ncen_updater.common.progress import ProgressListener, SilentProgress
from ncen_updater.feed.errors import UpgradePathError
from ncen_updater.feed.offers import parse_offers
from ncen_updater.feed.upgrade_path import UpgradePath, choose_path
from ncen_updater.formats.bundle_file import (
    INDEX_NAME,
    MemberSource,
    encode_bundle,
    get_member_name,
    plan_layout,
)
from ncen_updater.formats.manifest import Channel
from ncen_updater.formats.release_document import (
    Offer,
    ReleaseDocument,
    TargetRef,
    get_release_target_name,
    parse_release_document,
)
from ncen_updater.formats.target_names import AGENT_PRODUCT
from ncen_updater.publisher.errors import report_errors
from ncen_updater.publisher.feed.feed_directory import (
    FeedDirectory,
    FeedState,
    make_unknown_role_error,
)

#: Default grace of sites for timestamp and snapshot of a bundle.
DEFAULT_GRACE = timedelta(days=90)
BLOCK = 1 << 20


@dataclass(frozen=True)
class ExportedBundle:
    """A bundle that was written and tested.

    Attributes:
        file: Path of the bundle.
        bytes: Its size.
        releases: Form of each release in it, ``delta`` or ``archive``, by version.
        expires_at: When the first role expires.
        usable_until: Until when sites with the default grace accept it.
        agents: Versions of the agent in it, oldest first.
    """

    file: Path
    bytes: int
    releases: dict[str, str]
    expires_at: datetime
    usable_until: datetime
    agents: tuple[str, ...] = ()


def export_bundle(
    feed: FeedDirectory,
    request: ExportRequest,
    output: Path,
    *,
    clock: Callable[[], datetime],
    progress: ProgressListener,
) -> ExportedBundle:
    """Write a bundle.

    Args:
        feed: The published feed, which is only read.
        request: What the bundle shall contain.
        output: Path of the bundle.
        clock: Returns the time (UTC).
        progress: Receives the progress.

    Raises:
        FILE_EXISTS: If the file already exists.
        NOTHING_TO_EXPORT: If there is no release for one of the sites.
        RELEASE_NOT_FOR_SITE: If the named target may not be installed at one of them.
        FILE_TOO_LARGE: If the output's file system does not support files of that size.
        UNUSABLE_BUNDLE: If a site would refuse the bundle; it was deleted.
        UNKNOWN_PRODUCT, UNKNOWN_RELEASE: If the feed lacks the product, agent or a release.
        FEED_BROKEN, FEED_BUSY: If the feed cannot be read.
    """
    with feed.lock():
        state = feed.read_state()
        role = state.delegated.get(request.product)
        if role is None:
            raise make_unknown_role_error(state, request.product)
        listed = role.signed.targets
        now = clock()
        agent_paths = find_agent_paths(request, state, now) if request.with_agent else {}
        hops = list_hops(request, parse_offers(request.product, listed), agent_paths, now)
        wanted, releases = list_bundle_targets(feed, request, hops, listed)
        progress.report(LazyText(N_("reading the feed")))
        sources = [*_list_metadata(feed, state), *_list_targets(feed, listed, wanted)]
        agents = sorted({hop.release_version for path in agent_paths.values() for hop in path})
        if agents:
            known = state.delegated[AGENT_PRODUCT].signed.targets
            sources += _list_targets(feed, known, list_agent_targets(feed, known, agents))
        products = (request.product, AGENT_PRODUCT) if agents else (request.product,)
        expires_at, usable_until = _compute_expiry(state, products)
        index = {
            "format": "ncen-bundle",
            "schema": 1,
            "product": request.product,
            "from": str(request.origin),
            "for": [f"{place.country}/{place.site}" for place in request.sites],
            "releases": releases,
            "agents": [str(version) for version in agents],
            "expires_at": f"{expires_at:%Y-%m-%dT%H:%M:%SZ}",
            "usable_until": f"{usable_until:%Y-%m-%dT%H:%M:%SZ}",
            "files": {source.name: source.size for source in sources},
        }
        sources.insert(0, _make_member(INDEX_NAME, encode_canonical_json(index)))
        _, total, _ = plan_layout(sources)
        if output.exists():
            raise UpdaterError(FILE_EXISTS, path=output)
        progress.report(LazyText(N_("writing and verifying the bundle")))
        try:
            _write_bundle(output, sources, feed, request, clock)
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            raise UpdaterError(FILE_TOO_LARGE, path=output, bytes=total) from error
    agents_in = tuple(map(str, agents))
    return ExportedBundle(output, total, releases, expires_at, usable_until, agents_in)


def _make_member(name: str, content: bytes) -> MemberSource:
    return MemberSource(name, len(content), zlib.crc32(content), lambda: io.BytesIO(content))


def _list_metadata(feed: FeedDirectory, state: FeedState) -> Iterator[MemberSource]:
    numbered = {f"{root.signed.version}.root": root.signed.version for root in feed.read_roots()}
    names = [f"{name}.json" for name in numbered]
    names.append("timestamp.json")
    if state.snapshot is None:
        raise UpdaterError(FEED_BROKEN, path=feed.directory, reason="no snapshot")
    names.append(f"{state.snapshot.signed.version}.snapshot.json")
    for role, meta in sorted(state.snapshot.signed.meta.items()):
        names.append(f"{meta.version}.{role}")
    for name in names:
        with report_errors(FEED_BROKEN, OSError, path=feed.directory, reason=name):
            content = (feed.metadata_directory / name).read_bytes()
        yield _make_member(f"metadata/{name}", content)


def _list_targets(
    feed: FeedDirectory, listed: dict[str, TargetFile], wanted: Sequence[str]
) -> Iterator[MemberSource]:
    for name in wanted:
        target = listed[name]
        path = feed.get_target_path(target)
        digest, crc, size = hashlib.sha256(), 0, 0
        with (
            report_errors(FEED_BROKEN, OSError, path=feed.directory, reason=name),
            path.open("rb") as stream,
        ):
            while block := stream.read(BLOCK):
                digest.update(block)
                crc, size = zlib.crc32(block, crc), size + len(block)
        if digest.hexdigest() != target.hashes["sha256"]:
            raise UpdaterError(
                FEED_BROKEN,
                path=feed.directory,
                reason=LazyText("{name}: digest mismatch", {"name": name}),
            )
        member = get_member_name(name, digest.hexdigest())

        def reader(place: Path = path) -> io.BufferedReader:
            return place.open("rb")

        yield MemberSource(member, size, crc, reader)


def _compute_expiry(state: FeedState, products: Iterable[str]) -> tuple[datetime, datetime]:
    strict = [state.get_role(role) for role in ("root", "targets", *products)]
    online = [state.get_role(role) for role in ("timestamp", "snapshot")]
    late = [metadata.signed.expires for metadata in strict if metadata is not None]
    early = [metadata.signed.expires for metadata in online if metadata is not None]
    return min(late + early), min(late + [moment + DEFAULT_GRACE for moment in early])


def _write_bundle(
    output: Path,
    sources: Sequence[MemberSource],
    feed: FeedDirectory,
    request: ExportRequest,
    clock: Callable[[], datetime],
) -> None:
    """Write the bundle to a temporary directory, test it, and then rename it."""
    durable.make_directory(output.parent)
    prefix = f".{output.name}{durable.PARTIAL_PREFIX}"
    for left in [path for path in output.parent.iterdir() if path.name.startswith(prefix)]:
        shutil.rmtree(left)  # left by an interrupted export; the lock excludes a running one
    with tempfile.TemporaryDirectory(prefix=prefix, dir=output.parent) as folder:
        written = Path(folder) / output.name
        with durable.open_for_replace(written) as stream:
            stream.writelines(encode_bundle(sources))
        for number, place in enumerate(request.sites):
            _test_import(written, Path(folder) / f"site-{number}", place, feed, request, clock)
        durable.rename_entry(written, output)


def _test_import(
    bundle: Path,
    state: Path,
    place: ExportSite,
    feed: FeedDirectory,
    request: ExportRequest,
    clock: Callable[[], datetime],
) -> None:
    """Import the bundle into an empty state, without any grace.

    Raises:
        UNUSABLE_BUNDLE: If the import fails, or no release can be reached with it.
    """
    from ncen_updater.feed.bundle_import import BundleImporter, ImportSite

    site = ImportSite(
        product=request.product,
        site=place.site,
        country=place.country,
        channel=request.channel,
        current=request.origin,
        agent=request.agent,
        grace=timedelta(0),
    )
    root = feed.metadata_directory / "1.root.json"
    try:
        record = BundleImporter(state, root, site, clock).import_bundle(
            bundle, SilentProgress(), dry_run=True
        )
    except UpdaterError as error:
        raise UpdaterError(UNUSABLE_BUNDLE,
            site=f"{place.country}/{place.site}", code=error.code, why=error.title_text,
            detail=error.original_detail,
        ) from error  # fmt: skip
    finally:
        shutil.rmtree(state, ignore_errors=True)
    if record.reachable_release is None:
        raise UpdaterError(
            UNUSABLE_BUNDLE,
            site=f"{place.country}/{place.site}",
            code="-",
            why=json.dumps(record.releases),
        )


@dataclass(frozen=True)
class ExportSite:
    """A site for which a bundle is made.

    Attributes:
        country: ISO 3166-1 alpha-2.
        site: Its id, which determines its bucket in rollout waves.
    """

    country: str
    site: str


@dataclass(frozen=True)
class ExportRequest:
    """Contents of a bundle to export.

    Attributes:
        product: The product.
        sites: The sites, at least one.
        origin: The release that runs there.
        target: The release to reach; by default the newest available to each site.
        channel: The channel of the sites.
        agent: Version of their agent.
        archives: Whether to include full archives even if delta packs suffice.
        with_origin: Whether to include ``origin``, so that a site can be adopted with it.
        with_agent: Whether to include newer agents for these sites.
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
    request: ExportRequest, state: FeedState, now: datetime
) -> dict[ExportSite, tuple[Offer, ...]]:
    """Return the upgrade path of the agent for each site, possibly empty.

    Raises:
        UNKNOWN_PRODUCT: If the feed does not contain the agent.
    """
    role = state.delegated.get(AGENT_PRODUCT)
    if role is None:
        raise make_unknown_role_error(state, AGENT_PRODUCT)
    offers = parse_offers(AGENT_PRODUCT, role.signed.targets)
    agent_paths = {}
    for place in request.sites:
        path = choose_path(
            request.agent,
            offers,
            site=place.site,
            country=place.country,
            channel=request.channel,
            agent=request.agent,
            now=now,
        )
        agent_paths[place] = tuple(path.hops) if isinstance(path, UpgradePath) else ()
    return agent_paths


def list_agent_targets(
    feed: FeedDirectory, listed: dict[str, TargetFile], versions: Iterable[Version]
) -> list[str]:
    """Return the targets of agent releases, which are always included completely."""
    wanted = []
    for version in versions:
        name = get_release_target_name(AGENT_PRODUCT, str(version))
        document = _read_document(feed, listed[name], name)
        wanted += [name, document.tree.target, document.archive.target]
    return sorted(wanted)


def list_hops(
    request: ExportRequest,
    offers: Sequence[Offer],
    agent_paths: Mapping[ExportSite, Sequence[Offer]],
    now: datetime,
) -> list[tuple[Version | None, Offer]]:
    """Return the releases on the paths of all sites with their predecessors, oldest first."""
    known = {offer.release_version for offer in offers}
    if request.target is not None and request.target not in known:
        raise UpdaterError(UNKNOWN_RELEASE, product=request.product, version=request.target)
    found: dict[tuple[Version | None, str], Offer] = {}
    for place in request.sites:
        try:
            path = choose_path(
                request.origin,
                offers,
                site=place.site,
                country=place.country,
                channel=request.channel,
                # The included newer agent is installed before the release is planned.
                agent=max(
                    (h.release_version for h in agent_paths.get(place, ())), default=request.agent
                ),
                now=now,
                target=request.target,
            )
        except UpgradePathError as error:
            # The error's remedy is for sites, not for signers.
            raise UpdaterError(
                RELEASE_NOT_FOR_SITE,
                version=request.target,
                site=f"{place.country}/{place.site}",
                reason=error.title_text,
            ) from error
        if not isinstance(path, UpgradePath):
            reasons = "; ".join(f"{row.offer.version}: {row.text}" for row in path.rejected)
            raise UpdaterError(
                NOTHING_TO_EXPORT,
                site=f"{place.country}/{place.site}",
                origin=request.origin,
                detail=reasons or None,
            )
        before = request.origin
        for hop in path.hops:
            found[before, hop.version] = hop
            before = hop.release_version
    if request.with_origin:
        own = next((o for o in offers if o.release_version == request.origin), None)
        if own is None:
            raise UpdaterError(UNKNOWN_RELEASE, product=request.product, version=request.origin)
        found[None, own.version] = own
    return sorted(
        ((before, hop) for (before, _), hop in found.items()),
        key=lambda pair: (pair[1].release_version, str(pair[0])),
    )


def list_bundle_targets(
    feed: FeedDirectory,
    request: ExportRequest,
    hops: Sequence[tuple[Version | None, Offer]],
    listed: dict[str, TargetFile],
) -> tuple[list[str], dict[str, str]]:
    """Return the targets of the bundle, and the form of each release in it."""
    wanted: set[str] = set()
    releases: dict[str, str] = {}
    for before, hop in hops:
        name = get_release_target_name(request.product, hop.version)
        wanted.add(name)
        document = _read_document(feed, listed[name], name)
        # the slot of an agent is always built from nothing
        whole = request.archives or request.product == AGENT_PRODUCT
        refs = [] if whole else _find_delta_pack(request, before, document, listed)
        if refs:
            releases.setdefault(hop.version, "delta")
        else:
            refs = [document.tree, document.archive]
            releases[hop.version] = "archive"
        wanted.update(ref.target for ref in refs)
    return sorted(wanted), releases


def _find_delta_pack(
    request: ExportRequest,
    before: Version | None,
    document: ReleaseDocument,
    listed: dict[str, TargetFile],
) -> list[TargetRef]:
    """Return the delta pack from the version that the site runs now, if there is one.

    From the second release of a path on, the archive is included: the release before it is not
    installed yet when the upgrade to it is planned.
    """
    if before != request.origin:
        return []
    return [
        ref
        for ref in document.deltas
        if Version(ref.from_version) == before and ref.target in listed
    ]


def _read_document(feed: FeedDirectory, target: TargetFile, name: str) -> ReleaseDocument:
    with report_errors(FEED_BROKEN, OSError, path=feed.directory, reason=name):
        content = feed.get_target_path(target).read_bytes()
    return parse_release_document(content, name)
