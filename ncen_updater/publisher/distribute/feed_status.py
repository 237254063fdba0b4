"""Status of a feed, missing signatures of an event, and signers of published metadata.

The signing history is read from the metadata itself, which a feed retains for ever; there is no
other record. Metadata without its signatures is invalid, so the history cannot be lost, nor differ
from what sites accepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root, Targets  # type: ignore[attr-defined]

from ncen_updater.publisher.feed.feed_directory import (
    FeedDirectory,
    FeedState,
    list_offers,
    verify_role,
)
from ncen_updater.publisher.feed.role_policy import ONLINE_ROLES, read_issue_time
from ncen_updater.publisher.signing.keys import get_key_owner, list_key_owners
from ncen_updater.publisher.signing.signing_event import SigningEvent


@dataclass(frozen=True)
class RoleStatus:
    """Status of one role.

    Attributes:
        days_left: Whole days until it expires; negative if it has expired.
        holders: Owners of the keys that may sign it.
        due: Whether its renewal is due.
    """

    role: str
    version: int
    issued: str
    expires: str
    days_left: int
    signed: int
    threshold: int
    holders: tuple[str, ...]
    due: bool


@dataclass(frozen=True)
class ReleaseStatus:
    """Status of one release in the feed.

    Attributes:
        countries: Countries that it is for; empty for all.
        waves: Its waves, as signed; none if it is offered to all sites at once.
        halted: Reason of a halt.
        withdrawn: Reason of its withdrawal.
    """

    product: str
    version: str
    channel: str
    required: bool
    countries: tuple[str, ...]
    waves: tuple[dict[str, Any], ...]
    halted: str | None
    withdrawn: str | None


@dataclass(frozen=True)
class SignatureStatus:
    """Signatures of a draft.

    Attributes:
        signed: Owners of valid signatures.
        missing: Owners who may still sign.
        missing_count: Number of missing signatures.
        complete: Whether the threshold is reached.
    """

    role: str
    version: int
    signed: tuple[str, ...]
    threshold: int
    missing: tuple[str, ...]
    missing_count: int
    complete: bool


def read_feed_status(
    state: FeedState, now: datetime
) -> tuple[list[RoleStatus], list[ReleaseStatus]]:
    """Return the status of the roles and releases of a feed."""
    roles = []
    for role in (*state.list_offline_roles(), *ONLINE_ROLES):
        metadata = state.get_role(role)
        if metadata is None:
            continue
        result = verify_role(state, role)
        expires: datetime = metadata.signed.expires
        roles.append(
            RoleStatus(
                role=role,
                version=metadata.signed.version,
                issued=read_issue_time(metadata.signed),
                expires=f"{expires:%Y-%m-%dT%H:%M:%SZ}",
                days_left=(expires - now).days,
                signed=len(result.signed),
                threshold=result.threshold,
                holders=list_key_owners((result.signed | result.unsigned).values()),
                due=expires - now < state.policy.get_renewal_window(role),
            )
        )
    releases = [
        ReleaseStatus(
            offer.product,
            offer.version,
            offer.channel.value,
            offer.required,
            offer.countries,
            tuple(wave.model_dump(mode="json") for wave in offer.waves),
            offer.halted.reason if offer.halted else None,
            offer.withdrawn.reason if offer.withdrawn else None,
        )
        for metadata in state.delegated.values()
        for offer in list_offers(metadata.signed)
    ]
    return roles, releases


def list_due_roles(state: FeedState, now: datetime) -> tuple[str, ...]:
    """Return the offline roles whose renewal is due."""
    roles, _ = read_feed_status(state, now)
    return tuple(role.role for role in roles if role.due and role.role not in ONLINE_ROLES)


def read_signature_status(event: SigningEvent) -> list[SignatureStatus]:
    """Return the signatures of each draft.

    Raises:
        UpdaterError: If a signature file does not belong to the event.
    """
    signed = event.apply_signatures()
    newest = {role: signed.get(role) or event.base[role] for role in ("root", "targets")}
    previous = event.base.get("root")
    found = []
    for role, metadata in signed.items():
        payload, signatures = metadata.signed_bytes, metadata.signatures
        delegator = newest["root" if role in ("root", "targets") else "targets"].signed
        results = [delegator.get_verification_result(role, payload, signatures)]
        if role == "root" and previous is not None:
            results.append(previous.signed.get_verification_result(role, payload, signatures))
        have = {k: v for result in results for k, v in result.signed.items()}
        lack = {k: v for result in results for k, v in result.unsigned.items()}
        found.append(
            SignatureStatus(
                role=role,
                version=metadata.signed.version,
                signed=tuple(sorted(get_key_owner(key) for key in have.values())),
                threshold=max(result.threshold for result in results),
                missing=list_key_owners(lack.values()),
                missing_count=max(max(0, r.threshold - len(r.signed)) for r in results),
                complete=all(bool(result) for result in results),
            )
        )
    return found


@dataclass(frozen=True)
class SignedMetadata:
    """A version of an offline role and its signers.

    Attributes:
        drafted: Issue time (UTC); empty without one.
        signed: Owners of the keys with valid signatures, as far as this feed knows the keys.
    """

    role: str
    version: int
    drafted: str
    signed: tuple[str, ...]


def list_signing_history(feed: FeedDirectory) -> tuple[SignedMetadata, ...]:
    """Return all versions of all offline roles, the newest first.

    Raises:
        FEED_BROKEN: If one cannot be read.
    """
    found = list(feed.iter_signed_metadata())
    keys: dict[str, Key] = {}
    for _, metadata in found:
        keys |= _list_keys(metadata.signed)
    lines = [
        SignedMetadata(
            role,
            metadata.signed.version,
            read_issue_time(metadata.signed),
            tuple(sorted(_list_signers(metadata, keys))),
        )
        for role, metadata in found
    ]
    return tuple(sorted(lines, key=lambda line: (line.drafted, line.version, line.role))[::-1])


def _list_keys(signed: Root | Targets) -> Mapping[str, Key]:
    if isinstance(signed, Root):
        return signed.keys
    return signed.delegations.keys if signed.delegations is not None else {}


def _list_signers(metadata: Metadata[Any], keys: Mapping[str, Key]) -> Iterator[str]:
    for keyid, signature in metadata.signatures.items():
        if keyid in keys:
            try:
                keys[keyid].verify_signature(signature, metadata.signed_bytes)
            except UnverifiedSignatureError:
                continue  # an invalid signature
            yield get_key_owner(keys[keyid])
