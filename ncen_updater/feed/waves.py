"""When a release opens to this site: pure, from signed data and the site's name alone.

The feed stays static files, so it does not know who asks. Each site reckons its own place: a number
from 0 to 99 out of its name and the release. The same site has another place with every release, so
nobody is always first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime

from ncen_updater.formats.document import Offer
from ncen_updater.formats.rollout import RolloutWave

BUCKETS = 100


def compute_bucket(site: str, product: str, version: str) -> int:
    """The place of a site among a hundred, for one release.

    Args:
        site: Id of the site.
        product: What the release is of.
        version: Its version.
    """
    # No name of a product or version holds a line feed, so no two of these texts are alike.
    text = f"{product}\n{version}\n{site}".encode()
    return int.from_bytes(hashlib.sha256(text).digest(), "big") % BUCKETS


def _is_in_wave(wave: RolloutWave, bucket: int, country: str) -> bool:
    return bucket < wave.percent and (not wave.countries or country in wave.countries)


def find_opening_time(waves: Iterable[RolloutWave], bucket: int, country: str) -> datetime | None:
    """When the first wave that includes the site opens; None if none does yet.

    Args:
        waves: The signed schedule, in any order.
        bucket: The site's place, see :func:`compute_bucket`.
        country: The site's country.
    """
    return min((w.opens for w in waves if _is_in_wave(w, bucket, country)), default=None)


def check_waves(
    offer: Offer, site: str, country: str, now: datetime
) -> tuple[bool, datetime | None]:
    """Whether a release is open to a site, and when it opens if it is not and that is known.

    Args:
        offer: Without waves it is open to every site from the beginning.
        site: Id of the site.
        country: Its country.
        now: The time by which signed dates are judged (UTC).
    """
    if not offer.waves:
        return True, None
    moment = find_opening_time(
        offer.waves, compute_bucket(site, offer.product, offer.version), country
    )
    return moment is not None and moment <= now, moment
