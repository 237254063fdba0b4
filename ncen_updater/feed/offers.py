"""Offers of the verified feed, the stored view of them, and descriptions of downloads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import encode_canonical_json
from ncen_updater.common.messages import OFFER_INVALID, VIEW_DAMAGED, WRONG_PRODUCT
from ncen_updater.feed.errors import TrustError
from ncen_updater.feed.feed_summary import (
    SCHEMA,
    FeedSummary,
    KnownEmergencyHalt,
    WithdrawalNotice,
    read_feed_summary,
    read_view_json,
)
from ncen_updater.formats.errors import describe_mistakes
from ncen_updater.formats.release_document import (
    DeltaRef,
    Offer,
    ReleaseDocument,
    TargetRef,
    get_archive_target_name,
    get_release_target_name,
    parse_leniently,
)
from ncen_updater.formats.target_names import OFFER_FIELD, RELEASES_PREFIX
from ncen_updater.formats.tree import Tree

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]


def matches_target(signed: TargetFile | None, ref: TargetRef) -> bool:
    """Return whether the signed metadata and a release document agree on a file."""
    return (
        signed is not None
        and signed.length == ref.length
        and signed.hashes.get("sha256") == ref.sha256
    )


def parse_offers(product: str, files: Mapping[str, TargetFile]) -> tuple[Offer, ...]:
    """Return the offers in a product's targets metadata, oldest first.

    Unknown fields are ignored (:mod:`.release_document`). An entry that cannot be parsed rejects
    the whole metadata, because it may be a required release.

    Raises:
        OFFER_INVALID: If an entry is malformed or contradicts the metadata.
    """
    prefix = f"{RELEASES_PREFIX}{product}/"
    offers = [_parse_offer(product, name, files) for name in files if name.startswith(prefix)]
    return tuple(sorted(offers, key=lambda offer: offer.release_version))


def _parse_offer(product: str, name: str, files: Mapping[str, TargetFile]) -> Offer:
    custom = files[name].custom
    if "sha256" not in files[name].hashes:  # the digest that identifies releases everywhere
        raise TrustError(OFFER_INVALID, name=name, detail="no SHA-256 digest")
    try:
        if not isinstance(custom, dict) or OFFER_FIELD not in custom:
            raise TrustError(
                OFFER_INVALID,
                name=name,
                detail=LazyText("no field '{offer_field}'", {"offer_field": OFFER_FIELD}),
            )
        offer = parse_leniently(Offer, custom[OFFER_FIELD])
    except (ValidationError, ValueError, RecursionError) as error:
        raise TrustError(OFFER_INVALID, name=name, detail=describe_mistakes(error, name)) from error
    if offer.product != product:
        raise TrustError(WRONG_PRODUCT, name=name, found=offer.product, product=product)
    if get_release_target_name(product, offer.version) != name:
        raise TrustError(
            OFFER_INVALID,
            name=name,
            detail=LazyText(
                "it describes {product} {version}",
                {"product": offer.product, "version": offer.version},
            ),
        )
    if offer.archive.target != get_archive_target_name(product, offer.version):
        raise TrustError(
            OFFER_INVALID,
            name=name,
            detail=LazyText("its archive is {target}", {"target": offer.archive.target}),
        )
    if not matches_target(files.get(offer.archive.target), offer.archive):
        raise TrustError(OFFER_INVALID, name=name, detail="archive does not match the metadata")
    return offer


def save_view(path: Path, view: FeedView) -> None:
    """Store a verified view."""
    withdrawn = {o.version: o.withdrawn for o in view.offers if o.withdrawn}
    summary = FeedSummary(
        checked_at=view.checked_at,
        expires_at=view.expires_at,
        version=view.version,
        versions=tuple(o.version for o in view.offers if o.withdrawn is None),
        withdrawn=tuple(withdrawn),
        notices={
            version: WithdrawalNotice(notice.reason, notice.advice)
            for version, notice in withdrawn.items()
        },
    )
    durable.make_directory(path.parent)
    offers = [offer.model_dump(mode="json") for offer in view.offers]
    data = {"schema": SCHEMA, **summary.to_json(), "offers": offers}
    durable.write_file(path, encode_canonical_json(data))


def load_view(path: Path) -> FeedView | None:
    """Read the stored view; return None if no metadata was ever verified.

    Raises:
        VIEW_DAMAGED: If the file exists and cannot be read.
    """
    summary, data = read_feed_summary(path), read_view_json(path)
    if summary is None or data is None:
        return None
    offers = data.get("offers")
    try:
        if not isinstance(offers, list):
            raise TrustError(VIEW_DAMAGED, path=path, detail="invalid format")
        return FeedView(
            offers=tuple(parse_leniently(Offer, offer) for offer in offers),
            checked_at=summary.checked_at,
            expires_at=summary.expires_at,
            version=summary.version,
        )
    except (ValidationError, ValueError) as error:
        raise TrustError(
            VIEW_DAMAGED, path=path, detail=describe_mistakes(error, "offers")
        ) from error


@dataclass(frozen=True)
class FeedView:
    """A verified view of the feed.

    Attributes:
        offers: All releases of the product in the signed metadata.
        checked_at: When the metadata was verified (UTC).
        expires_at: When the metadata expires at this site (UTC); after that the view is stale.
        version: Version of the product's targets metadata.
        emergency_halts: Active emergency halts; their offers are marked as halted.
    """

    offers: tuple[Offer, ...]
    checked_at: datetime
    expires_at: datetime
    version: int
    emergency_halts: tuple[KnownEmergencyHalt, ...] = ()


@dataclass(frozen=True)
class DownloadedRelease:
    """A release whose verified document, tree and archive are on disk."""

    document: ReleaseDocument
    tree: Tree
    archive: Path


@dataclass(frozen=True)
class DownloadedPack:
    """A release whose verified document and delta pack are on disk.

    The pack converts the tree ``ref.from_tree``, and no other, into the tree of the document.
    """

    document: ReleaseDocument
    ref: DeltaRef
    path: Path


def describe_unused_pack(ref: DeltaRef, error: UpdaterError) -> LazyText:
    """Describe that a pack failed and that the archive is downloaded instead."""
    values = {"name": ref.target, "code": error.code, "what": error.title_text}
    return LazyText(N_("{name} not used ({code}: {what}); downloading the full archive"), values)
