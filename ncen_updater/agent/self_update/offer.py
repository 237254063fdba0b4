"""Which agent comes next for a site, by the signed list of agents and what failed here. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from ncen_updater.agent.self_update.agent_selection import AgentSelection
from ncen_updater.feed.upgrade_path import UpgradePath, choose_path
from ncen_updater.formats.document import Offer

if TYPE_CHECKING:
    from ncen_updater.agent.config.model import SiteSettings


def next_agent(
    sequence: AgentSelection,
    offers: Iterable[Offer],
    site: SiteSettings,
    now: datetime,
    *,
    target: Version | None = None,
    retry: bool = False,
) -> Offer | None:
    """Return the first step of the way to the newest agent; None where there is none.

    Countries, channel, waves, halts, withdrawals and required stops count as for releases of the
    application.

    Args:
        sequence: What is chosen here, and what was given up.
        offers: What the signed list holds.
        site: Who asks.
        now: The time by which signed dates are judged (UTC).
        target: A version that a person named.
        retry: Whether agents that were given up here count, too.

    Raises:
        PathError: If the named version may not be installed.
    """
    current = Version(sequence.current)
    path = choose_path(
        current,
        offers,
        site=site.id,
        country=site.country,
        channel=site.channel,
        agent=current,
        now=now,
        bad=_bad(sequence),
        allow_bad=retry,
        target=target,
    )
    return path.hops[0] if isinstance(path, UpgradePath) else None


def _bad(sequence: AgentSelection) -> frozenset[Version]:
    found = set()
    for name in sequence.bad:
        try:
            found.add(Version(name))
        except InvalidVersion:  # no offer can have it
            continue
    return frozenset(found)
