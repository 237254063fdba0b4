"""Verify the emergency halts of a timestamp, add them to the trust state, and mark the offers.

The rules are in :mod:`.feed_summary`.
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

from ncen_updater.feed.feed_summary import KnownEmergencyHalt
from ncen_updater.formats.release_document import Offer, parse_leniently
from ncen_updater.formats.rollout import (
    EMERGENCY_HALT_KEYS_FIELD,
    EMERGENCY_HALTS_FIELD,
    MAX_DURATION,
    EmergencyHaltStatement,
    ReleaseHalt,
    encode_for_signing,
    select_newest_by_key,
)

logger = logging.getLogger(__name__)

KEY_OWNER_FIELD: Final = "x-ncen-keyowner"
MAX_OWNER_CHARS: Final = 200


def read_emergency_halt_keys(root: Root) -> dict[str, Key]:
    """Return the emergency halt keys of a root; empty if it has no key in a known format."""
    published = root.unrecognized_fields.get(EMERGENCY_HALT_KEYS_FIELD)
    keys: dict[str, Key] = {}
    for keyid, data in published.items() if isinstance(published, dict) else ():
        try:
            keys[keyid] = Key.from_dict(keyid, dict(data))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("the emergency halt key %.16s cannot be used: %s", keyid, error)
    return keys


def verify_emergency_halts(
    root: Root, timestamp: Timestamp
) -> tuple[tuple[EmergencyHaltStatement, str], ...]:
    """Return the emergency halts of a timestamp that a key of the root signed, with the owners.

    Args:
        root: The newest verified root.
        timestamp: A timestamp verified under this root.
    """
    return tuple((statement, owner) for statement, owner, _ in iter_verified_halts(root, timestamp))


def iter_verified_halts(
    root: Root, timestamp: Timestamp
) -> Iterator[tuple[EmergencyHaltStatement, str, Mapping[str, Any]]]:
    """Yield the same as :func:`verify_emergency_halts`, with the signed JSON of each halt."""
    keys = read_emergency_halt_keys(root)
    found = list(_iter_verified(keys, timestamp))
    newest = select_newest_by_key(statement for statement, _ in found)
    for statement, data in found:
        if statement in newest:
            yield statement, _get_owner(keys[statement.keyid]), data


def _iter_verified(
    keys: Mapping[str, Key], timestamp: Timestamp
) -> Iterator[tuple[EmergencyHaltStatement, Mapping[str, Any]]]:
    published = timestamp.unrecognized_fields.get(EMERGENCY_HALTS_FIELD)
    for data in published if keys and isinstance(published, list) else ():
        try:
            statement = parse_leniently(EmergencyHaltStatement, data)
            key = keys[statement.keyid]
            key.verify_signature(
                Signature(statement.keyid, statement.sig), encode_for_signing(data)
            )
        except (
            ValidationError, ValueError, KeyError, TypeError, RecursionError,
            UnverifiedSignatureError, VerificationError,
        ) as error:  # fmt: skip
            logger.warning("an invalid emergency halt is ignored: %.200s", error)
            continue
        yield statement, data


def _get_owner(key: Key) -> str:
    """Return the key's owner from the signed root, truncated to fit on a line; else the key id."""
    value: object = key.unrecognized_fields.get(KEY_OWNER_FIELD)
    if not isinstance(value, str):
        return str(key.keyid)[:12]
    return value[:MAX_OWNER_CHARS].encode("utf-8", "replace").decode()


def update_known_halts(
    known_statements: Mapping[str, KnownEmergencyHalt],
    statements: Iterable[tuple[EmergencyHaltStatement, str]],
    product: str,
    versions: Collection[str],
    reference: datetime,
) -> dict[str, KnownEmergencyHalt]:
    """Return the known emergency halts after a timestamp was verified. Pure.

    Args:
        known_statements: The halts known so far, by key and release.
        statements: The verified halts of the timestamp, with the key owners.
        product: The product whose metadata was verified; halts of other products are ignored.
        versions: The signed releases of the product; this bounds how many halts are stored.
        reference: The reference time for expiry.
    """
    seen = {
        halt_key: replace(known, still_published=False) if known.product == product else known
        for halt_key, known in known_statements.items()
    }
    for statement, owner in sorted(statements, key=lambda item: item[0].since):
        if statement.product != product or statement.version not in versions:
            continue
        halt_key = f"{statement.keyid}/{product}/{statement.version}"
        known = seen.get(halt_key)
        # The first halt of a key for a release counts (rule 3 of feed_summary).
        if known is None:
            ends = min(statement.until, reference + MAX_DURATION)
            seen[halt_key] = KnownEmergencyHalt(
                product, statement.version, statement.since, ends, statement.reason, owner
            )
        elif known.since == statement.since:
            seen[halt_key] = replace(
                known, ends=min(known.ends, statement.until), still_published=True
            )
    return seen


def apply_emergency_halts(
    offers: Sequence[Offer], halts: Sequence[KnownEmergencyHalt]
) -> tuple[Offer, ...]:
    """Return the offers, with those marked as halted that an active emergency halt names. Pure."""
    by_version: dict[str, KnownEmergencyHalt] = {}
    for halt in halts:  # the halt that ends last comes first and wins
        by_version.setdefault(halt.version, halt)
    return tuple(
        offer
        if offer.halted is not None or offer.version not in by_version
        else offer.model_copy(update={"halted": _make_halt(by_version[offer.version])})
        for offer in offers
    )


def _make_halt(halt: KnownEmergencyHalt) -> ReleaseHalt:
    """Return a halt whose reason also gives owner and end, without words to translate."""
    ends = f"{halt.ends.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return ReleaseHalt(reason=f"{halt.reason} [{halt.owner}, -> {ends}]")
