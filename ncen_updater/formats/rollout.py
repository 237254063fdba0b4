"""Rollout of a release to sites by time and ring; signers may sign it again at any time.

An emergency halt: one signer's word that no site shall begin with a release, for at most three
days.

A halt is signed by as many signers as a release, which takes hours. An emergency halt is signed by
one, with a key that the root names for that and nothing else. It travels in the timestamp, which
every site fetches at every look, so it needs no file and no role of its own, and programs that do
not know it pass over it. It can delay, and no more: see ``docs/decisions`` ("an emergency halt").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from packaging.version import InvalidVersion, Version
from pydantic import BeforeValidator, Field, PlainSerializer, StringConstraints, model_validator

from ncen_updater.common.json_records import encode_canonical_json, within_calendar
from ncen_updater.formats.manifest import Country, ProductName, SignedModel, VersionText

MAX_WAVES = 100
TIME_PATTERN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


def _parse_utc_time(value: object) -> datetime:
    if isinstance(value, str) and TIME_PATTERN.fullmatch(value):
        return within_calendar(datetime.fromisoformat(value))
    if isinstance(value, datetime) and value.tzinfo is not None and not value.microsecond:
        return within_calendar(value)
    raise ValueError("use the form 2026-12-01T08:00:00Z")


def format_utc_time(moment: datetime) -> str:
    """Write a time (UTC) as it is signed; there is one way only."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


UtcTime = Annotated[
    datetime, BeforeValidator(_parse_utc_time), PlainSerializer(format_utc_time, when_used="json")
]


class RolloutWave(SignedModel):
    """A part of the sites, and when a release opens to them.

    Attributes:
        opens: When (UTC).
        percent: So many of a hundred sites, always the same ones for one release.
        countries: Of these countries only; of all if there is none.
    """

    opens: UtcTime
    percent: Annotated[int, Field(ge=1, le=100, strict=True)]
    countries: Annotated[tuple[Country, ...], Field(max_length=300)] = ()


#: Field of a product's role: when this version of it may be published. Sites do not read it.
PUBLISH_AFTER_FIELD: Final = "x-ncen-publish-after"


class PublishCondition(SignedModel):
    """Signed together with waves: they are published once enough countries soaked the release.

    Attributes:
        product: Of the release.
        version: Which one.
        count: So many countries must have reported that its soak period was completed.
        countries: Among these.
    """

    product: ProductName
    version: VersionText
    count: Annotated[int, Field(ge=1, strict=True)]
    countries: Annotated[tuple[Country, ...], Field(min_length=1, max_length=300)]

    @model_validator(mode="after")
    def _check_count(self) -> PublishCondition:
        if self.count > len(set(self.countries)):
            raise ValueError("more countries than are named")
        return self


#: Field of ``snapshot``: what that publication did not wait for. Sites do not read it.
WAIVERS_FIELD: Final = "x-ncen-waivers"


#: So many characters of a reason are signed.
MOST_REASON: Final = 1000


class Waiver(SignedModel):
    """A publication that did not wait for the receipts that its signers asked for.

    Attributes:
        product: Of the release.
        version: Which one.
        count: So many countries were asked for.
        reached: So many had reported.
        reason: Why nobody waited.
    """

    product: ProductName
    version: VersionText
    count: Annotated[int, Field(ge=1, strict=True)]
    reached: Annotated[int, Field(ge=0, strict=True)]
    reason: Annotated[str, StringConstraints(min_length=1, max_length=MOST_REASON)]


class ReleaseHalt(SignedModel):
    """A release that no further site shall begin with, and why."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=1000)]


#: Field of ``timestamp``: the statements, each signed by itself.
EMERGENCY_HALTS_FIELD: Final = "x-ncen-emergency-halts"
#: Field of ``root``: the public keys that may set an emergency halt, by their ids.
EMERGENCY_HALT_KEYS_FIELD: Final = "x-ncen-emergency-halt-keys"
#: No emergency halt holds longer, whatever it says.
MAX_DURATION: Final = timedelta(hours=72)
#: So many keys may set an emergency halt.
MOST_KEYS: Final = 12
#: So many emergency halts of one key are read, those of the newest releases: nobody takes another's
#: place.
MOST_HALTS_A_KEY: Final = 2
#: What those of one key may weigh, since no site reads a timestamp of more than 16 kB.
MOST_BYTES_A_KEY: Final = 1250
#: Keeps a signature under an emergency halt from fitting anything else that the same key may sign.
STATEMENT_TYPE: Final = "x-ncen-emergency-halt"

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!-]{0,99}$")]


class EmergencyHaltStatement(SignedModel):
    """What one signer signs.

    Attributes:
        product: The product.
        version: The release, as its list names it.
        since: When it was signed (UTC).
        until: When it ends by itself, at most :data:`MAX_DURATION` later.
        reason: Why, in a few words.
        keyid: The signer's emergency halt key.
        sig: Its signature over :func:`encode_for_signing`.
    """

    product: Name
    version: Name
    since: UtcTime
    until: UtcTime
    reason: Annotated[str, StringConstraints(min_length=1, max_length=300)]
    keyid: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    sig: Annotated[str, Field(pattern=r"^[0-9a-f]{0,2000}$")] = ""

    @model_validator(mode="after")
    def _check_duration(self) -> EmergencyHaltStatement:
        if not timedelta() <= self.until - self.since <= MAX_DURATION:  # at any date there is
            raise ValueError("an emergency halt ends within 72 hours")
        return self


def encode_for_signing(statement: Mapping[str, Any]) -> bytes:
    """Return the bytes to sign: the whole statement, including fields of newer programs."""
    values = {name: value for name, value in statement.items() if name != "sig"}
    return encode_canonical_json({**values, "_type": STATEMENT_TYPE})


def newest_first(statements: Iterable[EmergencyHaltStatement]) -> list[EmergencyHaltStatement]:
    """Order statements by their release, the newest first."""
    return sorted(statements, key=_release, reverse=True)


def newest_by_key(statements: Iterable[EmergencyHaltStatement]) -> list[EmergencyHaltStatement]:
    """Return the statements that have a place: of each key those of its newest releases."""
    held: dict[str, list[EmergencyHaltStatement]] = {}
    for statement in newest_first(statements):
        held.setdefault(statement.keyid, []).append(statement)
    return [one for of_key in held.values() for one in of_key[:MOST_HALTS_A_KEY]]


def _release(statement: EmergencyHaltStatement) -> tuple[Version, UtcTime]:
    try:
        return Version(statement.version), statement.since
    except InvalidVersion:
        return Version("0"), statement.since
