"""Roles of a feed, the target paths that each may sign, and the policy in the signed root."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from tuf.api.metadata import Root, Signed  # type: ignore[attr-defined]

from ncen_updater.common.errors import InvalidValueError
from ncen_updater.common.i18n import N_
from ncen_updater.formats.errors import describe_mistakes
from ncen_updater.formats.manifest import VersionText
from ncen_updater.formats.rollout import PUBLISH_AFTER_FIELD, PublishCondition
from ncen_updater.formats.target_names import ISSUE_TIME_FIELD, ROLE_FIELD

POLICY_FIELD: Final = "x-ncen-policy"
#: Field of a product's role: versions whose files left the role. Sites may still run them, but do
#: not read the field.
RETIRED_FIELD: Final = "x-ncen-retired"
OFFLINE_TOP_ROLES: Final = ("root", "targets")
ONLINE_ROLES: Final = ("snapshot", "timestamp")
TOP_ROLES: Final = (*OFFLINE_TOP_ROLES, *ONLINE_ROLES)
OFFLINE_EXPIRY_DAYS: Final = 365
ONLINE_EXPIRY_DAYS: Final = {"snapshot": 30, "timestamp": 7}

Days = Annotated[int, Field(ge=1, le=3660)]


class FeedPolicy(BaseModel):
    """The signers' policy beside keys and thresholds; part of the signed root.

    Attributes:
        expiry_days: Days until a version expires, by role.
        signing_days: Days before expiry at which a role is to be signed again, by role.
        plain_tufup: Products whose archives are also listed in the top-level targets, for clients
            that read only that role.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    expiry_days: dict[str, Days]
    signing_days: dict[str, Days] = Field(default_factory=dict)
    plain_tufup: tuple[str, ...] = ()

    def get_renewal_window(self, role: str) -> timedelta:
        """Return how long before its expiry a role is signed again; at most its whole validity."""
        days = self.expiry_days[role]
        return timedelta(
            days=min(days, self.signing_days.get(role) or compute_default_window(role, days))
        )


def compute_default_window(role: str, days: int) -> int:
    """Return the default number of days before expiry at which a role is signed again.

    The timestamp is renewed daily, so that a week without renewal is noticed and survived, and the
    snapshot after half its validity. Offline roles have enough time to bring the signers together.
    """
    if role == "timestamp":
        return max(1, days - 1)
    if role == "snapshot":
        return (days + 1) // 2
    return max(1, min(90 if role == "root" else 60, days // 2))


Value = TypeVar("Value")
_POLICY = TypeAdapter(FeedPolicy)
_CONDITION: TypeAdapter[PublishCondition | None] = TypeAdapter(PublishCondition | None)
_RETIRED = TypeAdapter(tuple[VersionText, ...])


def read_policy(root: Root) -> FeedPolicy:
    """Return the policy of a root.

    Raises:
        ValueError: If it is missing or invalid.
    """
    return _validate_field(_POLICY, POLICY_FIELD, root.unrecognized_fields.get(POLICY_FIELD, {}))


def read_publish_condition(signed: Signed) -> PublishCondition | None:
    """Return the condition for publishing a version of a product's role; None without one.

    Raises:
        ValueError: If it is invalid.
    """
    value = signed.unrecognized_fields.get(PUBLISH_AFTER_FIELD)
    return _validate_field(_CONDITION, PUBLISH_AFTER_FIELD, value)


def read_retired_versions(signed: Signed) -> tuple[str, ...]:
    """Return the versions of a product that left its role, as listed.

    Raises:
        ValueError: If the field is invalid.
    """
    value = signed.unrecognized_fields.get(RETIRED_FIELD, ())
    return _validate_field(_RETIRED, RETIRED_FIELD, value)


def _validate_field(model: TypeAdapter[Value], field: str, value: object) -> Value:
    try:
        return model.validate_python(value)
    except ValidationError as error:
        raise InvalidValueError(
            N_("invalid field {field}: {mistakes}"),
            field=field,
            mistakes=describe_mistakes(error, field),
        ) from error


def list_target_patterns(product: str) -> list[str]:
    """Return the patterns of the targets that a product's role may sign.

    The archive's pattern requires a digit after the name, so that ``ncen`` never covers an archive
    of ``ncen-updater``, whatever the order of the delegations.
    """
    return [
        f"{product}-[0-9]*.tar.gz",
        f"releases/{product}/*",
        f"trees/{product}/*",
        f"deltas/{product}/*",
        f"sbom/{product}/*",
        f"provenance/{product}/*",
    ]


def sort_delegations(products: Iterable[str]) -> list[str]:
    """Sort products in the order of their delegations, the longest name first.

    Terminating delegations are searched in order, and the first match decides. So a product whose
    name begins with another product's name must come first.
    """
    return sorted(products, key=lambda name: (-len(name), name))


def stamp_metadata(signed: Signed, role: str, now: datetime) -> None:
    """Set role and issue time in a new version."""
    signed.unrecognized_fields[ROLE_FIELD] = role
    signed.unrecognized_fields[ISSUE_TIME_FIELD] = now.astimezone(UTC).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )


def read_issue_time(signed: Signed) -> str:
    """Return the issue time of a version as written; empty without one."""
    return str(signed.unrecognized_fields.get(ISSUE_TIME_FIELD, ""))
