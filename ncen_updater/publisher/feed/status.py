"""What a feed holds and what an event still needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ncen_updater.publisher.feed.feed import FeedState, verification
from ncen_updater.publisher.signing.draft import offers_of
from ncen_updater.publisher.signing.event import SigningEvent
from ncen_updater.publisher.signing.keys import names_of, owner_of
from ncen_updater.publisher.signing.roles import ONLINE_ROLES, issued_at


@dataclass(frozen=True)
class RoleStatus:
    """One role of a feed.

    Attributes:
        days_left: Whole days until it expires; negative when it has.
        holders: Who may sign it.
        due: Whether it is to be signed anew by now.
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
class ReleaseLine:
    """One release that the feed offers.

    Attributes:
        countries: For which it is; for all if there is none.
        waves: How many waves open it.
        halted: Why no further site shall begin with it.
        withdrawn: Why it was taken back.
    """

    product: str
    version: str
    channel: str
    required: bool
    countries: tuple[str, ...]
    waves: int
    halted: str | None
    withdrawn: str | None


@dataclass(frozen=True)
class SignatureStatus:
    """What a draft has and needs.

    Attributes:
        signed: Owners whose signatures are there and count.
        missing: Owners who may still sign.
        lacking: How many signatures are missing.
        complete: Whether it may be published.
    """

    role: str
    version: int
    signed: tuple[str, ...]
    threshold: int
    missing: tuple[str, ...]
    lacking: int
    complete: bool


def feed_status(state: FeedState, now: datetime) -> tuple[list[RoleStatus], list[ReleaseLine]]:
    """Roles with their dates, and releases, of a feed."""
    roles = []
    for role in (*state.offline_roles(), *ONLINE_ROLES):
        metadata = state.get(role)
        if metadata is None:
            continue
        result = verification(state, role)
        expires: datetime = metadata.signed.expires
        roles.append(
            RoleStatus(
                role=role,
                version=metadata.signed.version,
                issued=issued_at(metadata.signed),
                expires=f"{expires:%Y-%m-%dT%H:%M:%SZ}",
                days_left=(expires - now).days,
                signed=len(result.signed),
                threshold=result.threshold,
                holders=names_of((result.signed | result.unsigned).values()),
                due=expires - now < state.policy.window(role),
            )
        )
    releases = [
        ReleaseLine(
            offer.product,
            offer.version,
            offer.channel.value,
            offer.required,
            offer.countries,
            len(offer.waves),
            offer.halted.reason if offer.halted else None,
            offer.withdrawn.reason if offer.withdrawn else None,
        )
        for metadata in state.delegated.values()
        for offer in offers_of(metadata.signed)
    ]
    return roles, releases


def due_roles(state: FeedState, now: datetime) -> tuple[str, ...]:
    """Roles that officers sign, and that are to be signed anew by now."""
    roles, _ = feed_status(state, now)
    return tuple(role.role for role in roles if role.due and role.role not in ONLINE_ROLES)


def signature_status(event: SigningEvent) -> list[SignatureStatus]:
    """For each draft who signed, and whether it is enough.

    Raises:
        PublisherError: If a signature file does not belong to the event.
    """
    signed = event.signed()
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
                signed=tuple(sorted(owner_of(key) for key in have.values())),
                threshold=max(result.threshold for result in results),
                missing=names_of(lack.values()),
                lacking=max(max(0, r.threshold - len(r.signed)) for r in results),
                complete=all(bool(result) for result in results),
            )
        )
    return found
