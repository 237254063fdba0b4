"""Brakes at the publisher: one is signed by an officer alone, and carried by the timestamp."""

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
    BRAKE_NOT_SET,
    BRAKE_SPENT,
    BRAKES_FULL,
    KEY_NOT_ALLOWED,
)
from ncen_updater.feed.brake_statements import brake_keys, brakes_as_signed, brakes_of
from ncen_updater.formats.rollout import (
    BRAKES_A_KEY,
    MOST_BYTES_A_KEY,
    BrakeStatement,
    format_moment,
    newest_first,
    signed_bytes,
)
from ncen_updater.publisher.feed.feed import FeedState
from ncen_updater.publisher.signing.draft import offers_of
from ncen_updater.publisher.signing.keys import owner_of

#: A brake that is over is carried for so long, so that its key is not used for it once more.
REMEMBERED = timedelta(days=30)


@dataclass(frozen=True)
class BrakeLine:
    """A brake that holds.

    Attributes:
        owner: Who set it.
        until: When it ends by itself.
    """

    product: str
    version: str
    owner: str
    until: str
    reason: str


def carried(state: FeedState) -> tuple[tuple[BrakeStatement, str], ...]:
    """What the timestamp carries, signed by who may, with the owner of each."""
    if state.timestamp is None:
        return ()
    return brakes_of(state.root.signed, state.timestamp.signed)


def brake_lines(
    found: Sequence[tuple[BrakeStatement, str]], now: datetime
) -> tuple[BrakeLine, ...]:
    """Those that hold."""
    return tuple(
        BrakeLine(one.product, one.version, owner, format_moment(one.until), one.reason)
        for one, owner in found
        if one.until > now
    )


def statement(
    state: FeedState,
    signer: Signer,
    product: str,
    version: str,
    reason: str,
    now: datetime,
    hours: int,
) -> BrakeStatement:
    """Sign a brake.

    Raises:
        KeyNotAllowed: If the root does not name the key.
        BrakeSpent: If the key was used for this release before.
        BrakeNotSet: If the feed offers no such release, or the reason cannot be one.
    """
    _refuse_other(state, signer, product)
    product_role = state.get(product)
    known = offers_of(product_role.signed) if product_role is not None else []
    if version not in {offer.version for offer in known}:
        raise UpdaterError(
            BRAKE_NOT_SET, product=product, version=version, detail="the feed does not offer it"
        )
    for one, owner in carried(state):
        if (one.keyid, one.product, one.version) == (signer.public_key.keyid, product, version):
            raise UpdaterError(
                BRAKE_SPENT, product=product, version=version, owner=owner,
                until=format_time(one.until),
            )  # fmt: skip
    since = now.replace(microsecond=0)
    until = since + timedelta(hours=hours)
    return _signed(signer, product, version, since, until, reason)


def lifted(
    state: FeedState, signer: Signer, product: str, version: str, now: datetime
) -> BrakeStatement:
    """Sign the end of a brake, by the key that set it.

    Raises:
        KeyNotAllowed: If the root does not name the key.
        BrakeNotSet: If this key has no brake of this release that holds.
    """
    _refuse_other(state, signer, product)
    for one, _ in carried(state):
        mine = (one.keyid, one.product, one.version) == (
            signer.public_key.keyid, product, version,
        )  # fmt: skip
        if mine and one.until > now:
            until = max(one.since, now.replace(microsecond=0))
            return _signed(signer, product, version, one.since, until, one.reason)
    raise UpdaterError(
        BRAKE_NOT_SET, product=product, version=version, detail="this key does not brake it"
    )


def _refuse_other(state: FeedState, signer: Signer, product: str) -> None:
    if signer.public_key.keyid not in brake_keys(state.root.signed):
        raise UpdaterError(KEY_NOT_ALLOWED, key=owner_of(signer.public_key), role="brakes")
    if product not in state.delegated:
        from ncen_updater.publisher.feed.feed import unknown_role

        raise unknown_role(state, product)


def _signed(
    signer: Signer, product: str, version: str, since: datetime, until: datetime, reason: str
) -> BrakeStatement:
    keyid = signer.public_key.keyid
    data: dict[str, Any] = {
        "product": product, "version": version, "since": format_moment(since),
        "until": format_moment(until), "reason": reason, "keyid": keyid,
    }  # fmt: skip
    try:
        BrakeStatement.model_validate(data)
    except ValidationError as error:
        detail = "; ".join(f"{item['loc']}: {item['msg']}" for item in error.errors())
        raise UpdaterError(
            BRAKE_NOT_SET, product=product, version=version, detail=detail
        ) from error
    content = signed_bytes(data)
    signature = signer.sign(content)
    signer.public_key.verify_signature(signature, content)
    return BrakeStatement.model_validate({**data, "sig": signature.signature})


def with_statement(state: FeedState, new: BrakeStatement, now: datetime) -> list[dict[str, Any]]:
    """What the next timestamp carries.

    Raises:
        BrakesFull: If this key has as many brakes of newer releases as a site reads.
        BrakeNotSet: If it is longer than a timestamp can carry.
    """
    place = (new.keyid, new.product, new.version)
    timestamp = state.timestamp
    found = brakes_as_signed(state.root.signed, timestamp.signed) if timestamp is not None else ()
    # As they were signed: a newer program may have said more, and the signature is over that, too.
    kept = [
        (one, dict(data))
        for one, _, data in found
        if (one.keyid, one.product, one.version) != place and one.until > now - REMEMBERED
    ]
    said = new.model_dump(mode="json")
    if not _has_room([(new, said)], new.keyid):
        raise UpdaterError(
            BRAKE_NOT_SET, product=new.product, version=new.version, detail="its reason is too long"
        )
    while not _has_room([*kept, (new, said)], new.keyid):
        mine = [one for one, _ in kept if one.keyid == new.keyid]
        # One that is over gives its place first, then one of an older release.
        (last,) = [one for one in mine if one.until <= now][:1] or newest_first([*mine, new])[-1:]
        if last == new:
            raise UpdaterError(BRAKES_FULL, count=len(mine))
        kept = [pair for pair in kept if pair[0] != last]
    return [*(data for _, data in kept), said]


def _has_room(carried: Sequence[tuple[BrakeStatement, dict[str, Any]]], keyid: str) -> bool:
    mine = [data for one, data in carried if one.keyid == keyid]
    return len(mine) <= BRAKES_A_KEY and len(json.dumps(mine)) <= MOST_BYTES_A_KEY
