"""Emergency halts as a site remembers them, and which hold now. Pure; imports nothing heavy.

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
from dataclasses import dataclass
from datetime import datetime

from ncen_updater.common.json_records import JsonRecord


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
