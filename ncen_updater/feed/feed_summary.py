"""Summary of the last verified feed and the known emergency halts; imports little, for ``status``.

These rules ensure that a stolen emergency halt key can only delay a release:

1. A halt counts if a key of the newest root signed it (:mod:`.emergency_halt_statements`). Any
   other halt is ignored, so that a broken one cannot block the metadata.
2. A halt is in force from the time when this site first saw it until it ends, by the later of the
   system clock and the newest signed time, for at most 72 hours after this site first saw it,
   and only while the newest verified timestamp contains it.
3. Only the first halt of a key for a release counts. Another halt of the same key for the same
   release is ignored, also after the first has ended: a halt can be neither extended nor repeated.
   The same halt may be published again with an earlier end, which is how it is lifted, but not with
   a later one.
4. A halt only prevents the start of an upgrade. It does not affect an open change, an installed
   release or a rollback.
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
    """The signers' reason for a withdrawal and their advice to sites that run the release."""

    reason: str
    advice: str


@dataclass(frozen=True)
class FeedSummary(JsonRecord):
    """A summary of the last verified metadata of a product.

    Attributes:
        checked_at: When the metadata was verified (UTC).
        expires_at: When the metadata expires (UTC).
        version: Version of the product's targets metadata.
        versions: Offered releases, oldest first, without withdrawn ones.
        withdrawn: Withdrawn releases.
        notices: Reason and advice of each withdrawal, by version.
    """

    checked_at: datetime
    expires_at: datetime
    version: int
    versions: tuple[str, ...]
    withdrawn: tuple[str, ...]
    notices: Mapping[str, WithdrawalNotice] = field(default_factory=dict)

    def is_stale(self, now: datetime) -> bool:
        """Return whether the metadata has expired."""
        return now >= self.expires_at


def get_view_path(state: Path, product: str) -> Path:
    """Return the path of a product's stored view, below the state directory."""
    return state / "feed" / f"{product}.json"


def read_view_json(path: Path) -> dict[str, object] | None:
    """Read the stored view as JSON; return None if no metadata was ever verified.

    Raises:
        VIEW_DAMAGED: If the file exists and cannot be read.
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
    """Read the summary; return None if no metadata was ever verified.

    Raises:
        VIEW_DAMAGED: If the file exists and cannot be read.
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
    """An emergency halt that this site has seen.

    Attributes:
        product: The product.
        version: The halted release.
        since: When it was signed; identifies the halt that counts for this key.
        ends: When it ends at this site; changes only to an earlier time.
        reason: Why the release was halted.
        owner: Owner of the key.
        still_published: Whether the newest verified timestamp contains it.
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
    active = [
        halt
        for halt in known.values()
        if halt.product == product and halt.still_published and reference < halt.ends
    ]
    return tuple(sorted(active, key=lambda halt: halt.ends, reverse=True))
