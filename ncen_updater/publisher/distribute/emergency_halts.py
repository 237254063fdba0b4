"""Emergency halts for publishing: signed by one signer, contained in the timestamp."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError
from securesystemslib.signer import Signer

from ncen_updater.common.cli.render import format_time
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    EMERGENCY_HALT_ALREADY_USED,
    EMERGENCY_HALT_INVALID,
    TOO_MANY_EMERGENCY_HALTS,
)
from ncen_updater.feed.emergency_halt_statements import (
    iter_verified_halts,
    read_emergency_halt_keys,
    verify_emergency_halts,
)
from ncen_updater.formats.errors import describe_mistakes
from ncen_updater.formats.rollout import (
    MAX_DURATION,
    MAX_HALT_BYTES_PER_KEY,
    MAX_HALTS_PER_KEY,
    EmergencyHaltStatement,
    RolloutWave,
    encode_for_signing,
    format_utc_time,
    sort_newest_first,
)
from ncen_updater.publisher.feed.feed_directory import (
    FeedState,
    list_offers,
    make_unknown_role_error,
)
from ncen_updater.publisher.signing.keys import make_key_error
from ncen_updater.publisher.signing.value_format import format_signed_time

#: How long an expired emergency halt stays in the timestamp, so that its key cannot repeat it.
RETENTION = timedelta(days=30)


@dataclass(frozen=True)
class EmergencyHaltStatus:
    """An active emergency halt.

    Attributes:
        owner: Owner of the key.
        until: When it ends.
    """

    product: str
    version: str
    owner: str
    until: str
    reason: str


#: Why no site may start an upgrade, and until when; "" if a halt or withdrawal is signed.
Stop = tuple[str, str]


def read_emergency_halts(state: FeedState) -> tuple[tuple[EmergencyHaltStatement, str], ...]:
    """Return the emergency halts of the timestamp that a valid key signed, with the key owners."""
    if state.timestamp is None:
        return ()
    return verify_emergency_halts(state.root.signed, state.timestamp.signed)


def list_active_halts(
    found: Sequence[tuple[EmergencyHaltStatement, str]], now: datetime
) -> tuple[EmergencyHaltStatus, ...]:
    """Return the active emergency halts."""
    return tuple(
        EmergencyHaltStatus(one.product, one.version, owner, format_utc_time(one.until), one.reason)
        for one, owner in found
        if one.until > now
    )


def read_rollouts(
    state: FeedState, now: datetime
) -> dict[tuple[str, str], tuple[tuple[RolloutWave, ...], Stop | None]]:
    """Return waves and stop of each release, by product and version."""
    halts = list_active_halts(read_emergency_halts(state), now)
    ends = {(one.product, one.version): (one.reason, one.until) for one in halts}
    rollouts = {}
    for role in state.delegated.values():
        for offer in list_offers(role.signed):
            key, stop = (offer.product, offer.version), offer.withdrawn or offer.halted
            reason, until = (stop.reason, "") if stop else ends.get(key, ("", ""))
            rollouts[key] = offer.waves, (reason, format_signed_time(until)) if reason else None
    return rollouts


def sign_emergency_halt(
    state: FeedState,
    signer: Signer,
    product: str,
    version: str,
    reason: str,
    now: datetime,
) -> EmergencyHaltStatement:
    """Sign an emergency halt.

    Raises:
        KEY_NOT_ALLOWED: If the root does not list the key.
        EMERGENCY_HALT_ALREADY_USED: If the key was already used for this release.
        EMERGENCY_HALT_INVALID: If the feed does not offer the release, or the reason is invalid.
    """
    _require_halt_key(state, signer, product)
    product_role = state.get_role(product)
    known = list_offers(product_role.signed) if product_role is not None else []
    if version not in {offer.version for offer in known}:
        raise UpdaterError(
            EMERGENCY_HALT_INVALID,
            product=product,
            version=version,
            detail="not in the feed",
        )
    for one, owner in read_emergency_halts(state):
        if (one.keyid, one.product, one.version) == (signer.public_key.keyid, product, version):
            raise UpdaterError(
                EMERGENCY_HALT_ALREADY_USED, product=product, version=version, owner=owner,
                until=format_time(one.until),
            )  # fmt: skip
    since = now.replace(microsecond=0)
    return _sign_statement(signer, product, version, since, since + MAX_DURATION, reason)


def sign_emergency_halt_end(
    state: FeedState, signer: Signer, product: str, version: str, now: datetime
) -> EmergencyHaltStatement:
    """Sign the end of an emergency halt, with the key that signed the halt.

    Raises:
        KEY_NOT_ALLOWED: If the root does not list the key.
        EMERGENCY_HALT_INVALID: If this key has no active emergency halt for the release.
    """
    _require_halt_key(state, signer, product)
    for one, _ in read_emergency_halts(state):
        mine = (one.keyid, one.product, one.version) == (
            signer.public_key.keyid, product, version,
        )  # fmt: skip
        if mine and one.until > now:
            until = max(one.since, now.replace(microsecond=0))
            return _sign_statement(signer, product, version, one.since, until, one.reason)
    raise UpdaterError(
        EMERGENCY_HALT_INVALID,
        product=product,
        version=version,
        detail="no emergency halt by this key",
    )


def _require_halt_key(state: FeedState, signer: Signer, product: str) -> None:
    allowed = read_emergency_halt_keys(state.root.signed)
    if signer.public_key.keyid not in allowed:
        raise make_key_error(signer.public_key, "emergency_halt_keys", allowed.values())
    if product not in state.delegated:
        raise make_unknown_role_error(state, product)


def _sign_statement(
    signer: Signer, product: str, version: str, since: datetime, until: datetime, reason: str
) -> EmergencyHaltStatement:
    keyid = signer.public_key.keyid
    data: dict[str, Any] = {
        "product": product, "version": version, "since": format_utc_time(since),
        "until": format_utc_time(until), "reason": reason, "keyid": keyid,
    }  # fmt: skip
    try:
        EmergencyHaltStatement.model_validate(data)
    except ValidationError as error:
        detail = describe_mistakes(error, version)
        raise UpdaterError(
            EMERGENCY_HALT_INVALID, product=product, version=version, detail=detail
        ) from error
    content = encode_for_signing(data)
    signature = signer.sign(content)
    signer.public_key.verify_signature(signature, content)
    return EmergencyHaltStatement.model_validate({**data, "sig": signature.signature})


def merge_emergency_halts(
    state: FeedState, new: EmergencyHaltStatement, now: datetime
) -> list[dict[str, Any]]:
    """Return the emergency halts for the next timestamp: the retained ones and the new one.

    Raises:
        TOO_MANY_EMERGENCY_HALTS: If the key already has the maximum, all of newer releases.
        EMERGENCY_HALT_INVALID: If it is too long for the timestamp.
    """
    place = (new.keyid, new.product, new.version)
    timestamp = state.timestamp
    found = (
        iter_verified_halts(state.root.signed, timestamp.signed) if timestamp is not None else ()
    )
    # Keep the signed data unchanged: it may have fields of a newer program.
    retained = [
        (one, dict(data))
        for one, _, data in found
        if (one.keyid, one.product, one.version) != place and one.until > now - RETENTION
    ]
    value = new.model_dump(mode="json")
    if not _has_room([(new, value)], new.keyid):
        raise UpdaterError(
            EMERGENCY_HALT_INVALID,
            product=new.product,
            version=new.version,
            detail="reason too long",
        )
    while not _has_room([*retained, (new, value)], new.keyid):
        mine = [one for one, _ in retained if one.keyid == new.keyid]
        # Drop an expired halt first, else the one of the oldest release.
        (last,) = [one for one in mine if one.until <= now][:1] or sort_newest_first([*mine, new])[
            -1:
        ]
        if last == new:
            raise UpdaterError(TOO_MANY_EMERGENCY_HALTS, count=len(mine))
        retained = [pair for pair in retained if pair[0] != last]
    return [*(data for _, data in retained), value]


def _has_room(carried: Sequence[tuple[EmergencyHaltStatement, dict[str, Any]]], keyid: str) -> bool:
    mine = [data for one, data in carried if one.keyid == keyid]
    return len(mine) <= MAX_HALTS_PER_KEY and len(json.dumps(mine)) <= MAX_HALT_BYTES_PER_KEY
