"""Brakes out of a timestamp: verified, noted in the memory, and put on the offers.

The rules are in :mod:`.brakes`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Key, Signature
from tuf.api.metadata import Root, Timestamp  # type: ignore[attr-defined]

from ncen_updater.feed.brakes import BrakeSeen
from ncen_updater.formats.document import Offer
from ncen_updater.formats.forward_compat import understood
from ncen_updater.formats.rollout import (
    BRAKE_KEYS_FIELD,
    BRAKES_FIELD,
    LONGEST,
    BrakeStatement,
    Halt,
    newest_by_key,
    signed_bytes,
)

logger = logging.getLogger(__name__)

OWNER: Final = "x-ncen-keyowner"
OWNER_LENGTH: Final = 200


def brake_keys(root: Root) -> dict[str, Key]:
    """The keys that may brake; none in a root that names none, or names them in another form."""
    named = root.unrecognized_fields.get(BRAKE_KEYS_FIELD)
    keys: dict[str, Key] = {}
    for keyid, data in named.items() if isinstance(named, dict) else ():
        try:
            keys[keyid] = Key.from_dict(keyid, dict(data))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("the brake key %.16s cannot be used: %s", keyid, error)
    return keys


def brakes_of(root: Root, timestamp: Timestamp) -> tuple[tuple[BrakeStatement, str], ...]:
    """The statements of a timestamp that a key of the root signed, each with the key's owner.

    Args:
        root: The newest root; verified.
        timestamp: Verified under it.
    """
    return tuple((statement, owner) for statement, owner, _ in brakes_as_signed(root, timestamp))


def brakes_as_signed(
    root: Root, timestamp: Timestamp
) -> Iterator[tuple[BrakeStatement, str, Mapping[str, Any]]]:
    """As :func:`brakes_of`, each with what stands in the timestamp: the signature is over that."""
    keys = brake_keys(root)
    found = list(_signed(keys, timestamp))
    places = newest_by_key(statement for statement, _ in found)
    for statement, data in found:
        if statement in places:
            yield statement, _owner(keys[statement.keyid]), data


def _signed(
    keys: Mapping[str, Key], timestamp: Timestamp
) -> Iterator[tuple[BrakeStatement, Mapping[str, Any]]]:
    carried = timestamp.unrecognized_fields.get(BRAKES_FIELD)
    for data in carried if keys and isinstance(carried, list) else ():
        try:
            statement = understood(BrakeStatement, data)
            key = keys[statement.keyid]
            key.verify_signature(Signature(statement.keyid, statement.sig), signed_bytes(data))
        except (
            ValidationError, ValueError, KeyError, TypeError, RecursionError,
            UnverifiedSignatureError, VerificationError,
        ) as error:  # fmt: skip
            logger.warning("a brake that does not count is passed over: %.200s", error)
            continue
        yield statement, data


def _owner(key: Key) -> str:
    """Whose key it is, as far as a line takes it; the officers of the root wrote it."""
    said: object = key.unrecognized_fields.get(OWNER)
    if not isinstance(said, str):
        return str(key.keyid)[:12]
    return said[:OWNER_LENGTH].encode("utf-8", "replace").decode()


def noted(
    before: Mapping[str, BrakeSeen],
    found: Iterable[tuple[BrakeStatement, str]],
    product: str,
    versions: Collection[str],
    reference: datetime,
) -> dict[str, BrakeSeen]:
    """Return the memory after a timestamp was proved; pure.

    Args:
        before: What is remembered, by key and release.
        found: The statements of the timestamp.
        product: Whose list was proved with it; of others nothing is learned.
        versions: Releases that its officers signed: no more is ever remembered.
        reference: The time by which signed dates are judged.
    """
    seen = {
        place: replace(known, stands=False) if known.product == product else known
        for place, known in before.items()
    }
    for statement, owner in sorted(found, key=lambda item: item[0].since):
        if statement.product != product or statement.version not in versions:
            continue
        place = f"{statement.keyid}/{product}/{statement.version}"
        known = seen.get(place)
        if known is None:
            ends = min(statement.until, reference + LONGEST)
            seen[place] = BrakeSeen(
                product, statement.version, statement.since, ends, statement.reason, owner
            )
        elif known.since == statement.since:
            seen[place] = replace(known, ends=min(known.ends, statement.until), stands=True)
    return seen


def braked(offers: Sequence[Offer], brakes: Sequence[BrakeSeen]) -> tuple[Offer, ...]:
    """The offers as this site takes them: one that is braked is as one that is halted; pure."""
    by_version: dict[str, BrakeSeen] = {}
    for brake in brakes:  # the one that ends last speaks
        by_version.setdefault(brake.version, brake)
    return tuple(
        offer
        if offer.halted is not None or offer.version not in by_version
        else offer.model_copy(update={"halted": _halt(by_version[offer.version])})
        for offer in offers
    )


def _halt(brake: BrakeSeen) -> Halt:
    """In no language but that of the reason: who, and until when."""
    ends = f"{brake.ends.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return Halt(reason=f"{brake.reason} [{brake.owner}, -> {ends}]")
