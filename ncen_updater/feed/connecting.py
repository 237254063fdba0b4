"""The fetcher of a site, made from its configuration."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING

from ncen_updater.agent.policy.bandwidth import limit_at
from ncen_updater.feed.clock import system_now

if TYPE_CHECKING:  # what reading the last list does not need
    from ncen_updater.agent.config.model import FeedSettings
    from ncen_updater.feed.http import HttpFetcher

__all__ = ["http_fetcher"]


def http_fetcher(
    feed: FeedSettings, *, now: Callable[[], datetime] = system_now, zone: tzinfo = UTC
) -> HttpFetcher:
    """Make a fetcher from the agent's configuration; hours are wall times of the zone."""
    from ncen_updater.feed.http import HttpFetcher

    full_speed = tuple(window.window() for window in feed.full_speed_windows)
    return HttpFetcher(
        feed.urls,
        timeout_s=feed.timeout_s,
        minimum_bytes_per_s=feed.minimum_bytes_per_s,
        proxy=feed.proxy,
        ca_file=feed.ca_file,
        client_certificate=feed.client_certificate,
        limit=lambda: limit_at(feed.max_bytes_per_s, full_speed, now(), zone),
    )
