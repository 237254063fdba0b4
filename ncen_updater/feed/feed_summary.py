"""Summary of the last verified feed and the emergency halts known here. Light: ``status`` reads it.

Rules, so that a stolen emergency halt key can delay a release and do no more:

1. A statement counts if a key of the newest root signed it (:mod:`.emergency_halt_statements`).
   Anything else is passed over: a broken one must not stop a list.
2. It holds from when this site first saw it until it ends, by the time that signers or this
   machine's clock have reached, and never longer than 72 hours after it was first seen here.
3. One a key and release. The first that was seen is the one; another of the same key for the same
   release is passed over, now and when the first is over: it cannot be extended, nor begun again.
   The same one may come back with an earlier end, never with a later: that is how it is lifted.
4. It says that nothing is begun. A change that is open goes on to its end, a release that runs
   stays, and a rollback is not hindered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ncen_updater.common.bounded_io import parse_json, read_file
from ncen_updater.common.json_records import JsonRecord
from ncen_updater.common.messages import VIEW_DAMAGED
from ncen_updater.feed.errors import TrustError

SCHEMA = 1


MAX_VIEW_BYTES = 20_000_000


@dataclass(frozen=True)
class WithdrawalNotice(JsonRecord):
    """What the signers say to sites that have a release which they took back."""

    reason: str
    advice: str


@dataclass(frozen=True)
class FeedSummary(JsonRecord):
    """A summary of the last verified list.

    Attributes:
        checked_at: When it was verified (UTC).
        expires_at: When it lapses (UTC).
        version: Version of the signed list.
        versions: Releases that are offered, oldest first; withdrawn ones are left out.
        withdrawn: Releases that were taken back.
        notices: Why, and what to do, by version.
    """

    checked_at: datetime
    expires_at: datetime
    version: int
    versions: tuple[str, ...]
    withdrawn: tuple[str, ...]
    notices: Mapping[str, WithdrawalNotice] = field(default_factory=dict)

    def is_stale(self, now: datetime) -> bool:
        """Tell whether the list has lapsed."""
        return now >= self.expires_at


def get_view_path(state: Path, product: str) -> Path:
    """Return where the list of a product is kept, below the state directory."""
    return state / "feed" / f"{product}.json"


def read_view_json(path: Path) -> dict[str, object] | None:
    """Read the file as JSON; None if there never was a verified list.

    Raises:
        VIEW_DAMAGED: If it is there and cannot be read.
    """
    try:
        data = parse_json(read_file(path, MAX_VIEW_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise TrustError(VIEW_DAMAGED, path=path, detail=str(error)) from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise TrustError(VIEW_DAMAGED, path=path, detail="invalid format")
    return data


def read_feed_summary(path: Path) -> FeedSummary | None:
    """Read the summary; None if there never was a verified list.

    Raises:
        VIEW_DAMAGED: If the file is there and cannot be read.
    """
    data = read_view_json(path)
    if data is None:
        return None
    try:
        return FeedSummary.from_json(data)
    except ValueError as error:
        raise TrustError(VIEW_DAMAGED, path=path, detail=str(error)) from error


@dataclass(frozen=True)
class KnownEmergencyHalt(JsonRecord):
    """An emergency halt as it is remembered here.

    Attributes:
        product: The product.
        version: The release.
        since: When it was signed; the statement that counts of this key.
        ends: When it is over at this site; only ever earlier.
        reason: Why.
        owner: Who holds the key.
        still_published: Whether the newest timestamp that was proved carries it.
    """

    product: str
    version: str
    since: datetime
    ends: datetime
    reason: str
    owner: str
    still_published: bool = True


def list_active_halts(
    known: Mapping[str, KnownEmergencyHalt], product: str, reference: datetime
) -> tuple[KnownEmergencyHalt, ...]:
    """List the active emergency halts of a product, the last to expire first. Pure."""
    held = [
        known
        for known in known.values()
        if known.product == product and known.still_published and reference < known.ends
    ]
    return tuple(sorted(held, key=lambda known: known.ends, reverse=True))
