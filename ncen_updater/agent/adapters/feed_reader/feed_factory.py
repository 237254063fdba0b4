"""Feed of a site, created from its configuration."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncen_updater.agent.policy.windows import WeeklyWindow, find_open_window
from ncen_updater.feed.clock import get_system_time

if TYPE_CHECKING:  # not imported by callers that only read the last metadata
    from ncen_updater.agent.config.agent_config import FeedSettings
    from ncen_updater.feed.http_fetcher import HttpFetcher
    from ncen_updater.feed.trust_state import TrustStateStore
    from ncen_updater.feed.tuf_source import TufReleaseSource


def make_release_source(
    product: str,
    feed: FeedSettings,
    *,
    state: Path,
    trusted_root: Path,
    zone: tzinfo = UTC,
    trust_state: TrustStateStore | None = None,
) -> TufReleaseSource:
    """Return the source of a product's releases; time windows are in the given zone."""
    from ncen_updater.feed.tuf_source import TufReleaseSource

    return TufReleaseSource(
        product,
        state=state,
        trusted_root=trusted_root,
        make_fetcher=lambda: make_http_fetcher(feed, zone=zone),
        trust_state=trust_state,
        **build_expiry_arguments(feed),
    )


def build_expiry_arguments(feed: FeedSettings) -> dict[str, Any]:
    """Return the settings for expired metadata, as arguments of the source."""
    return {
        "offline": feed.offline,
        "grace": timedelta(days=feed.offline_grace_days),
        "feed_grace": timedelta(days=feed.mirror_grace_days),
    }


def make_http_fetcher(feed: FeedSettings, *, zone: tzinfo = UTC) -> HttpFetcher:
    """Return a fetcher for the agent's configuration; time windows are in the given zone."""
    from ncen_updater.feed.http_fetcher import HttpFetcher

    full_speed = tuple(window.to_window() for window in feed.full_speed_windows)
    return HttpFetcher(
        feed.urls,
        timeout_s=feed.timeout_s,
        minimum_bytes_per_s=feed.minimum_bytes_per_s,
        proxy=feed.proxy,
        ca_file=feed.ca_file,
        client_certificate=feed.client_certificate,
        rate_limit=lambda: compute_rate_limit(
            feed.max_bytes_per_s, full_speed, get_system_time(), zone
        ),
    )


def compute_rate_limit(
    cap: int | None, full_speed: Iterable[WeeklyWindow], now: datetime, zone: tzinfo
) -> int | None:
    """Return the download rate limit at a given time in bytes a second; None for no limit.

    Args:
        cap: The limit outside the windows.
        full_speed: Time windows without a limit.
        now: The time, with a zone.
        zone: Time zone of the site.
    """
    if cap is None or find_open_window(full_speed, now, zone) is not None:
        return None
    return cap
