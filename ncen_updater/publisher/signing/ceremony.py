"""The ceremony file: the keys, threshold and expiry period of each role.

Signers write it by hand once and read it aloud; drafts of root and targets are made from it. Keys
and thresholds are changed later by changing the same file. The Secretariat's is
``keys/ceremony.toml`` in the repository.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Delegations, Role, Root, Targets  # type: ignore[attr-defined]

from ncen_updater.common.bounded_io import parse_toml, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import BAD_CEREMONY, ONE_SIGNATURE
from ncen_updater.formats.errors import describe_mistakes
from ncen_updater.formats.receipt import RECEIPT_ADDRESSES_FIELD, ReceiptAddresses
from ncen_updater.formats.rollout import EMERGENCY_HALT_KEYS_FIELD, MOST_KEYS
from ncen_updater.publisher.errors import describe_system_error
from ncen_updater.publisher.feed.role_policy import (
    OFFLINE_EXPIRY_DAYS,
    ONLINE_EXPIRY_DAYS,
    ONLINE_ROLES,
    POLICY_FIELD,
    TOP_ROLES,
    Days,
    FeedPolicy,
    compute_default_window,
    list_target_patterns,
    sort_delegations,
    stamp_metadata,
)
from ncen_updater.publisher.signing.event_files import RoleName
from ncen_updater.publisher.signing.keys import (
    get_key_owner,
    load_public_key,
    refuse_duplicate_keys,
)

MAX_CEREMONY_BYTES = 200_000
#: Minimum threshold of metadata that sites trust.
MIN_THRESHOLD = 2


@dataclass(frozen=True)
class RoleHolders:
    """The keys of one role.

    Attributes:
        keys: Public keys, each of a different person or machine.
        threshold: Number of required signatures.
        expiry_days: Days until a version of the role's metadata expires.
        signing_days: Days before expiry at which it is to be signed again; None for the default.
    """

    keys: tuple[Key, ...]
    threshold: int
    expiry_days: int
    signing_days: int | None = None


@dataclass(frozen=True)
class Ceremony:
    """Roles of a feed: TUF's four roles, one role per product, and emergency halt keys.

    Raises:
        BAD_CEREMONY: If a role is missing, a threshold cannot be met, or an online key may sign
            for an offline role.
        DUPLICATE_KEY: If one public key has two ids.
    """

    roles: Mapping[str, RoleHolders]
    plain_tufup: tuple[str, ...] = ()
    emergency_halt_keys: tuple[Key, ...] = ()
    receipts: ReceiptAddresses = ()
    source: Path = field(default=Path("ceremony"), compare=False)

    def __post_init__(self) -> None:
        mistakes = list(self._find_errors())
        if mistakes:
            raise UpdaterError(BAD_CEREMONY, path=self.source, detail="; ".join(mistakes))
        held = (k for r in self.roles.values() for k in r.keys)
        refuse_duplicate_keys([*held, *self.emergency_halt_keys])

    def _find_errors(self) -> list[str]:
        found = [f"the role '{name}' is missing" for name in TOP_ROLES if name not in self.roles]
        if not self.products:
            found.append("no product has a role")
        found += [
            f"plain_tufup names '{name}', which has no role"
            for name in self.plain_tufup
            if name not in self.products
        ]
        for name, holders in self.roles.items():
            distinct = {key.keyid for key in holders.keys}
            if len(distinct) != len(holders.keys):
                found.append(f"{name}: a key is named twice")
            if not 1 <= holders.threshold <= len(distinct):
                found.append(f"{name}: {holders.threshold} of {len(distinct)} keys cannot be met")
            if (holders.signing_days or 0) > holders.expiry_days:
                found.append(f"{name}: signing_days is more than expiry_days")
        if len({key.keyid for key in self.emergency_halt_keys}) != len(self.emergency_halt_keys):
            found.append("emergency_halt_keys: a key is named twice")
        online = {k.keyid: k for n in ONLINE_ROLES if n in self.roles for k in self.roles[n].keys}
        offline = {n: r.keys for n, r in self.roles.items() if n not in ONLINE_ROLES}
        for name, keys in {**offline, "emergency_halt_keys": self.emergency_halt_keys}.items():
            found += [
                f"{name}: '{get_key_owner(key)}' is also an online key"
                for key in keys
                if key.keyid in online
            ]
        return found

    @property
    def products(self) -> tuple[str, ...]:
        """Return the products with a role, in the order of their delegations."""
        return tuple(sort_delegations(name for name in self.roles if name not in TOP_ROLES))

    def refuse_one_signature(self) -> None:
        """Refuse a ceremony in which a single person could sign metadata for all sites.

        Raises:
            ONE_SIGNATURE: Naming the roles.
        """
        alone = [
            name
            for name, holders in self.roles.items()
            if name not in ONLINE_ROLES and holders.threshold < MIN_THRESHOLD
        ]
        if alone:
            raise UpdaterError(ONE_SIGNATURE, roles=", ".join(alone))

    def make_policy(self) -> FeedPolicy:
        """Return the policy that the root stores beside keys and thresholds."""
        return FeedPolicy(
            expiry_days={name: self.roles[name].expiry_days for name in sorted(self.roles)},
            signing_days={
                name: self.roles[name].signing_days
                or compute_default_window(name, self.roles[name].expiry_days)
                for name in sorted(self.roles)
            },
            plain_tufup=self.plain_tufup,
        )


class _RoleModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    keys: Annotated[list[str], Field(min_length=1, max_length=50)]
    threshold: Annotated[int, Field(ge=1, le=50)]
    expiry_days: Days | None = None
    signing_days: Days | None = None


class _EmergencyHaltModel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    keys: Annotated[list[str], Field(min_length=1, max_length=MOST_KEYS)]


class _CeremonyModel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    roles: dict[RoleName, _RoleModel]
    emergency_halt_keys: _EmergencyHaltModel | None = None
    plain_tufup: list[RoleName] = Field(default_factory=list)
    receipts: ReceiptAddresses = ()


def load_ceremony(path: Path) -> Ceremony:
    """Read a ceremony file; paths of key files are relative to it.

    Raises:
        BAD_CEREMONY: With every mistake and its place.
        BAD_KEY_FILE: If a public key file is invalid.
        DUPLICATE_KEY: If one public key has two ids.
    """
    try:
        data = parse_toml(read_file(path, MAX_CEREMONY_BYTES).decode())
        model = _CeremonyModel.model_validate(data)
    except ValidationError as error:
        detail = describe_mistakes(error, path.name)
        raise UpdaterError(BAD_CEREMONY, path=path, detail=detail) from error
    except (OSError, ValueError) as error:
        raise UpdaterError(BAD_CEREMONY, path=path, detail=describe_system_error(error)) from error
    roles = {
        name: RoleHolders(
            keys=tuple(load_public_key(path.parent / key) for key in role.keys),
            threshold=role.threshold,
            expiry_days=role.expiry_days or ONLINE_EXPIRY_DAYS.get(name, OFFLINE_EXPIRY_DAYS),
            signing_days=role.signing_days,
        )
        for name, role in model.roles.items()
    }
    named = model.emergency_halt_keys.keys if model.emergency_halt_keys else []
    halt_keys = tuple(load_public_key(path.parent / key) for key in named)
    return Ceremony(roles, tuple(model.plain_tufup), halt_keys, model.receipts, path)


def make_root(ceremony: Ceremony, version: int, now: datetime) -> Root:
    """Draft a root of this version from the ceremony."""
    keys = {k.keyid: k for name in TOP_ROLES for k in ceremony.roles[name].keys}
    roles = {
        name: Role([key.keyid for key in holders.keys], holders.threshold)
        for name, holders in ceremony.roles.items()
        if name in TOP_ROLES
    }
    root = Root(
        version=version,
        expires=now.astimezone(UTC).replace(microsecond=0)
        + timedelta(days=ceremony.roles["root"].expiry_days),
        keys=keys,
        roles=roles,
        consistent_snapshot=True,
    )
    root.unrecognized_fields[POLICY_FIELD] = ceremony.make_policy().model_dump(mode="json")
    if ceremony.emergency_halt_keys:
        root.unrecognized_fields[EMERGENCY_HALT_KEYS_FIELD] = {
            k.keyid: k.to_dict() for k in ceremony.emergency_halt_keys
        }
    if ceremony.receipts:
        root.unrecognized_fields[RECEIPT_ADDRESSES_FIELD] = list(ceremony.receipts)
    stamp_metadata(root, "root", now)
    return root


def set_delegations(targets: Targets, ceremony: Ceremony) -> None:
    """Set the delegations of the top-level targets to those of the ceremony."""
    targets.delegations = Delegations(
        keys={k.keyid: k for name in ceremony.products for k in ceremony.roles[name].keys},
        roles={
            name: DelegatedRole(
                name,
                [key.keyid for key in ceremony.roles[name].keys],
                ceremony.roles[name].threshold,
                terminating=True,
                paths=list_target_patterns(name),
            )
            for name in ceremony.products
        },
    )
