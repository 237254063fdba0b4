"""Choose which releases a site installs, and in which order. Pure.

Rules:

1. An offer is *eligible* if it is newer than the installed release, not withdrawn, for this country
   and channel, compatible with this agent, not halted, open to this site (unless the operator named
   the target) and not marked bad (unless the operator asked for a retry).
2. A step from ``a`` to ``b`` is allowed if ``b`` may be installed over ``a`` and no required
   release lies strictly between.
3. A required release for this site may not be skipped, even if it cannot be installed now (marked
   bad, agent too old, halted, wave not open).
4. The path leads to the newest reachable release, or to the named one, in the fewest steps. Among
   paths of equal length, the one through the newest releases is chosen.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ncen_updater.common.i18n import N_, LazyText, join_texts
from ncen_updater.common.messages import (
    NO_PATH_TO_TARGET,
    TARGET_BAD,
    TARGET_FOR_OTHER_COUNTRY,
    TARGET_HALTED,
    TARGET_NEEDS_NEWER_AGENT,
    TARGET_NOT_NEWER,
    TARGET_OTHER_CHANNEL,
    TARGET_RUNS_HERE,
    TARGET_UNKNOWN,
    TARGET_WITHDRAWN,
    ErrorMessage,
)
from ncen_updater.feed.errors import UpgradePathError
from ncen_updater.formats.manifest import Channel, is_version_accepted
from ncen_updater.formats.release_document import Offer
from ncen_updater.formats.rollout import RolloutWave


class RejectionReason(StrEnum):
    """Reason why an offer is not on the path."""

    NOT_NEWER = "not-newer"
    WITHDRAWN = "withdrawn"
    OTHER_COUNTRY = "other-country"
    OTHER_CHANNEL = "other-channel"
    AGENT_TOO_OLD = "agent-too-old"
    HALTED = "halted"
    WAVE_NOT_OPEN = "wave-not-open"
    MARKED_BAD = "marked-bad"
    UPGRADE_FROM = "upgrade-from"
    REQUIRED_STOP = "required-stop"


REASON_TEXTS: Mapping[RejectionReason, str] = {
    RejectionReason.NOT_NEWER: N_("not newer than the installed release"),
    RejectionReason.WITHDRAWN: N_("withdrawn by the Secretariat: {why}"),
    RejectionReason.OTHER_COUNTRY: N_("only for other countries: {countries}"),
    RejectionReason.OTHER_CHANNEL: N_("channel '{channel}'"),
    RejectionReason.AGENT_TOO_OLD: N_("needs ncen-updater {agent}"),
    RejectionReason.HALTED: N_("halted by the Secretariat: {why}"),
    RejectionReason.WAVE_NOT_OPEN: N_("staged rollout: open for this site on {opens}"),
    RejectionReason.MARKED_BAD: N_("marked bad on this site"),
    RejectionReason.UPGRADE_FROM: N_("upgrade only from {upgrade_from}"),
    RejectionReason.REQUIRED_STOP: N_("required release {stop} cannot be installed first"),
}

WAVE_DATE_NOT_SET = N_("staged rollout: date for this site not set")

_PART = re.compile(r"\s*(>=|<=|<|>|==|!=)\s*([0-9][^\s,*]*)\s*")
_OPERATOR_TEXTS = {
    ">=": N_("{version} or later"),
    ">": N_("later than {version}"),
    "<=": N_("{version} or earlier"),
    "<": N_("earlier than {version}"),
    "==": N_("{version}"),
    "!=": N_("not {version}"),
}
#: Number of buckets of a rollout; a bucket is one percent of the sites.
BUCKETS = 100
#: The message for a named release that cannot be installed, by reason, and its values.
TARGET_MESSAGES: Mapping[RejectionReason, tuple[ErrorMessage, *tuple[str, ...]]] = {
    RejectionReason.NOT_NEWER: (TARGET_NOT_NEWER, "current"),
    RejectionReason.WITHDRAWN: (TARGET_WITHDRAWN, "reason"),
    RejectionReason.OTHER_COUNTRY: (TARGET_FOR_OTHER_COUNTRY, "countries", "country"),
    RejectionReason.OTHER_CHANNEL: (TARGET_OTHER_CHANNEL, "channel"),
    RejectionReason.AGENT_TOO_OLD: (TARGET_NEEDS_NEWER_AGENT, "agent"),
    RejectionReason.HALTED: (TARGET_HALTED, "reason"),
    RejectionReason.MARKED_BAD: (TARGET_BAD,),
}

#: A required release rejected for one of these reasons is not for this site and may be skipped.
NOT_FOR_SITE = frozenset(
    {
        RejectionReason.NOT_NEWER,
        RejectionReason.WITHDRAWN,
        RejectionReason.OTHER_COUNTRY,
        RejectionReason.OTHER_CHANNEL,
    }
)


def format_version_range(text: str) -> LazyText | str:
    """Describe a version range, such as ``>=3.2.4,<3.3.0``."""
    parts = [_PART.fullmatch(part) for part in text.split(",")]
    found = [
        LazyText(_OPERATOR_TEXTS[part[1]], {"version": part[2]})
        for part in parts
        if part is not None
    ]
    return join_texts(found, ", ") if len(found) == len(parts) else text or "-"


def format_rejection(
    reason: RejectionReason, *, opens: str | None = None, **values: object
) -> LazyText:
    """Return the text for a rejection reason.

    Args:
        reason: The reason.
        opens: When the wave opens for this site, formatted; None if no date is set.
        values: Other values in the text.
    """
    if reason is RejectionReason.WAVE_NOT_OPEN and opens is None:
        return LazyText(WAVE_DATE_NOT_SET)
    return LazyText(REASON_TEXTS[reason], {**values, "opens": opens or "-"})


@dataclass(frozen=True)
class OfferRejection:
    """An offer that is not on the path, and the reason.

    Attributes:
        stop: The required release that must be installed first.
        opens: When the offer opens to this site, if a date is set.
    """

    offer: Offer
    reason: RejectionReason
    stop: Version | None = None
    opens: datetime | None = None

    @property
    def text(self) -> LazyText:
        """Return the reason in words, with times in UTC."""
        return self.format(f"{self.opens:%Y-%m-%d %H:%M} UTC" if self.opens else None)

    def format(self, opens: str | None) -> LazyText:
        """Format the reason as text.

        Args:
            opens: When the offer opens to this site, formatted for the reader.
        """
        offer = self.offer
        why = offer.withdrawn or offer.halted
        return format_rejection(
            self.reason,
            agent=offer.agent,
            channel=offer.channel.value,
            countries=", ".join(offer.countries),
            opens=opens,
            stop=self.stop,
            upgrade_from=format_version_range(offer.upgrade_from),
            why=why.reason if why else "",
        )


@dataclass(frozen=True)
class UpgradePath:
    """The releases to install, in order.

    Attributes:
        hops: At least one release; the last is the target.
        rejected: Offers that may not be installed, oldest first.
    """

    hops: tuple[Offer, ...]
    rejected: tuple[OfferRejection, ...]

    @property
    def target(self) -> Offer:
        """Return the last release of the path."""
        return self.hops[-1]


@dataclass(frozen=True)
class NoUpgradePath:
    """No release to install; ``rejected`` gives the reason for each offer."""

    rejected: tuple[OfferRejection, ...]

    def __bool__(self) -> bool:
        """Return False: in a condition, only an upgrade path counts as true."""
        return False


@dataclass(frozen=True)
class _Site:
    current: Version
    id: str
    country: str
    channel: Channel
    agent: Version
    bad: frozenset[Version]
    now: datetime
    target_named: bool

    def check_offer(self, offer: Offer) -> OfferRejection | None:
        reason = self._find_reason(offer)
        if reason is not None:
            return OfferRejection(offer, reason)
        opened, opens = check_waves(offer, self.id, self.country, self.now)
        if not opened and not self.target_named:
            return OfferRejection(offer, RejectionReason.WAVE_NOT_OPEN, opens=opens)
        return None

    def _find_reason(self, offer: Offer) -> RejectionReason | None:
        if offer.release_version <= self.current:
            return RejectionReason.NOT_NEWER
        if offer.withdrawn is not None:
            return RejectionReason.WITHDRAWN
        if offer.countries and self.country not in offer.countries:
            return RejectionReason.OTHER_COUNTRY
        if offer.channel is Channel.PREVIEW and self.channel is not Channel.PREVIEW:
            return RejectionReason.OTHER_CHANNEL
        if not SpecifierSet(offer.agent, prereleases=True).contains(self.agent):
            return RejectionReason.AGENT_TOO_OLD
        if offer.halted is not None:
            return RejectionReason.HALTED
        if offer.release_version in self.bad:
            return RejectionReason.MARKED_BAD
        return None


def _accepts(offer: Offer, version: Version) -> bool:
    return is_version_accepted(offer.upgrade_from, version)


def _find_stop_between(stops: Iterable[Version], low: Version, high: Version) -> Version | None:
    return next((stop for stop in stops if low < stop < high), None)


def _find_shortest_paths(
    current: Version, eligible: list[Offer], stops: list[Version]
) -> dict[Version, tuple[Offer, ...]]:
    """Return the best path to every reachable release; ``eligible`` is sorted by version."""
    paths: dict[Version, tuple[Offer, ...]] = {current: ()}
    for offer in eligible:
        version = offer.release_version
        before = [
            known
            for known in paths
            if known < version
            and _accepts(offer, known)
            and _find_stop_between(stops, known, version) is None
        ]
        if before:
            best = min(before, key=lambda v: (len(paths[v]), -sorted(paths).index(v)))
            paths[version] = (*paths[best], offer)
    return paths


def _explain_unreachable(
    offer: Offer, known: Collection[Version], stops: list[Version]
) -> OfferRejection:
    version = offer.release_version
    fitting = [v for v in known if v < version and _accepts(offer, v)]
    if not fitting:
        return OfferRejection(offer, RejectionReason.UPGRADE_FROM)
    return OfferRejection(
        offer, RejectionReason.REQUIRED_STOP, _find_stop_between(stops, max(fitting), version)
    )


def choose_path(
    current: Version,
    offers: Iterable[Offer],
    *,
    site: str,
    country: str,
    channel: Channel,
    agent: Version,
    now: datetime,
    bad: Collection[Version] = (),
    allow_bad: bool = False,
    target: Version | None = None,
) -> UpgradePath | NoUpgradePath:
    """Choose the releases to install.

    Args:
        current: The installed release.
        offers: All offers of one product, in any order.
        site: The site's id, which determines its bucket in the waves.
        country: The site's country, ISO 3166-1 alpha-2.
        channel: The site's channel; ``preview`` sites are offered stable releases too.
        agent: Version of this agent.
        now: The reference time (UTC).
        bad: Releases marked bad at this site.
        allow_bad: The operator asked to retry those.
        target: The release that the operator named; waves then do not apply. By default the newest
            reachable release.

    Returns:
        The path, or, if no target was named, the reasons why there is none.

    Raises:
        UpgradePathError: With the reason why the named target may not be installed.
    """
    rejected_as_bad = frozenset() if allow_bad else frozenset(bad)
    own_site = _Site(
        current,
        site,
        country,
        channel,
        agent,
        rejected_as_bad,
        now,
        target_named=target is not None,
    )
    ordered = sorted(offers, key=lambda offer: offer.release_version)
    judged = [(offer, own_site.check_offer(offer)) for offer in ordered]
    eligible = [offer for offer, rejection in judged if rejection is None]
    stops = [
        offer.release_version
        for offer, rejection in judged
        if offer.required and (rejection is None or rejection.reason not in NOT_FOR_SITE)
    ]
    paths = _find_shortest_paths(current, eligible, stops)
    rejected = tuple(
        rejection or _explain_unreachable(offer, paths.keys(), stops)
        for offer, rejection in judged
        if rejection is not None or offer.release_version not in paths
    )
    if target is not None and target not in paths:
        raise _make_path_error(target, own_site, rejected)
    if target == current:
        raise UpgradePathError(TARGET_RUNS_HERE, version=target)
    hops = paths[max(paths) if target is None else target]
    return UpgradePath(hops, rejected) if hops else NoUpgradePath(rejected)


def _make_path_error(
    target: Version, site: _Site, rejected: tuple[OfferRejection, ...]
) -> UpgradePathError:
    """Return the error for a named release that cannot be installed."""
    rejection = next((item for item in rejected if item.offer.release_version == target), None)
    if rejection is None:
        return UpgradePathError(TARGET_UNKNOWN, version=target)
    if target == site.current:
        return UpgradePathError(TARGET_RUNS_HERE, version=target)
    offer = rejection.offer
    why = offer.withdrawn or offer.halted
    values: dict[str, Any] = {
        "agent": offer.agent,
        "channel": offer.channel.value,
        "countries": ", ".join(offer.countries),
        "country": site.country,
        "current": site.current,
        "reason": why.reason if why else rejection.text,
    }
    message, *names = TARGET_MESSAGES.get(
        rejection.reason, (NO_PATH_TO_TARGET, "current", "reason")
    )
    return UpgradePathError(message, version=target, **{name: values[name] for name in names})


def compute_bucket(site: str, product: str, version: str) -> int:
    """Return the bucket of a site for one release, from 0 to 99.

    Args:
        site: Id of the site.
        product: Product of the release.
        version: Version of the release.
    """
    # No product name or version contains a line feed, so these texts are unique.
    text = f"{product}\n{version}\n{site}".encode()
    return int.from_bytes(hashlib.sha256(text).digest(), "big") % BUCKETS


def _is_in_wave(wave: RolloutWave, bucket: int, country: str) -> bool:
    return bucket < wave.percent and (not wave.countries or country in wave.countries)


def find_opening_time(waves: Iterable[RolloutWave], bucket: int, country: str) -> datetime | None:
    """Return when the first wave that includes the site opens; None if no wave includes it.

    Args:
        waves: The signed schedule, in any order.
        bucket: The site's bucket, see :func:`compute_bucket`.
        country: The site's country.
    """
    return min((w.opens for w in waves if _is_in_wave(w, bucket, country)), default=None)


def check_waves(
    offer: Offer, site: str, country: str, now: datetime
) -> tuple[bool, datetime | None]:
    """Return whether a release is open to a site, and when it opens if a wave includes the site.

    Args:
        offer: The offer; without waves it is open to every site at once.
        site: Id of the site.
        country: Country of the site.
        now: The reference time (UTC).
    """
    if not offer.waves:
        return True, None
    moment = find_opening_time(
        offer.waves, compute_bucket(site, offer.product, offer.version), country
    )
    return moment is not None and moment <= now, moment
