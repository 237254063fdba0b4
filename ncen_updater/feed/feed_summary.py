"""Summary of the last verified list, as ``status`` needs it: without parsing its offers. Light."""

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
        """Whether the list has lapsed."""
        return now >= self.expires_at


def get_view_path(state: Path, product: str) -> Path:
    """Where the list of a product is kept, below the state directory."""
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
