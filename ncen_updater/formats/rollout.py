"""Rollout of a release to sites by time and wave, which signers may change at any time; halts.

A halt by the signers needs the same threshold as a release, which takes hours. An *emergency halt*
is signed by one signer, with a key that the root lists for this purpose only, and lasts at most
three days. It is part of the timestamp, which every site downloads at each check. So it needs no
file and no role of its own, and older programs ignore it. It can only delay a release: see
docs/decisions/0007-rollout-control.md.
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
    raise ValueError("use the form 2030-12-03T08:00:00Z")


def format_utc_time(moment: datetime) -> str:
    """Format a time (UTC) for signing; there is exactly one format."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


UtcTime = Annotated[
    datetime, BeforeValidator(_parse_utc_time), PlainSerializer(format_utc_time, when_used="json")
]


class RolloutWave(SignedModel):
    """A rollout wave: a share of the sites, and when the release opens to them.

    Attributes:
        opens: When it opens (UTC).
        percent: Share of the sites; for one release always the same sites.
        countries: Only sites of these countries; all countries if empty.
    """

    opens: UtcTime
    percent: Annotated[int, Field(ge=1, le=100, strict=True)]
    countries: Annotated[tuple[Country, ...], Field(max_length=300)] = ()


#: Field of a product's role: the condition for publishing this version. Sites do not read it.
PUBLISH_AFTER_FIELD: Final = "x-ncen-publish-after"


class PublishCondition(SignedModel):
    """A condition signed with waves: publish them after enough countries completed the soak period.

    Attributes:
        product: Product of the release.
        version: Version of the release.
        count: Number of countries that must have reported a completed soak period.
        countries: The countries that count.
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


#: Field of ``snapshot``: waived conditions of this publication. Sites do not read it.
WAIVERS_FIELD: Final = "x-ncen-waivers"


#: Maximum length of a signed reason in characters.
MAX_REASON_CHARS: Final = 1000


class Waiver(SignedModel):
    """A publication before its signed condition was met.

    Attributes:
        product: Product of the release.
        version: Version of the release.
        count: Number of countries that the condition required.
        reached: Number of countries that had reported.
        reason: Why the condition was waived.
    """

    product: ProductName
    version: VersionText
    count: Annotated[int, Field(ge=1, strict=True)]
    reached: Annotated[int, Field(ge=0, strict=True)]
    reason: Annotated[str, StringConstraints(min_length=1, max_length=MAX_REASON_CHARS)]


class ReleaseHalt(SignedModel):
    """A halt: no more sites start to install the release; with the reason."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=1000)]


#: Field of ``timestamp``: the emergency halts, each with its own signature.
EMERGENCY_HALTS_FIELD: Final = "x-ncen-emergency-halts"
#: Field of ``root``: the public emergency halt keys, by key id.
EMERGENCY_HALT_KEYS_FIELD: Final = "x-ncen-emergency-halt-keys"
#: Maximum duration of an emergency halt, whatever its end.
MAX_DURATION: Final = timedelta(hours=72)
#: Maximum number of emergency halt keys.
MOST_KEYS: Final = 12
#: Number of emergency halts read per key, those of the newest releases, so that one key cannot
#: displace the halts of another.
MAX_HALTS_PER_KEY: Final = 2
#: Maximum bytes of the halts of one key, since sites refuse a timestamp above 16 kB.
MAX_HALT_BYTES_PER_KEY: Final = 1250
#: Type field, so that the signature of an emergency halt is not valid for other data.
STATEMENT_TYPE: Final = "x-ncen-emergency-halt"

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!-]{0,99}$")]


class EmergencyHaltStatement(SignedModel):
    """An emergency halt as one signer signs it.

    Attributes:
        product: The product.
        version: Version of the halted release.
        since: When it was signed (UTC).
        until: When it ends, at most :data:`MAX_DURATION` later.
        reason: A short reason.
        keyid: Id of the signer's emergency halt key.
        sig: Signature over :func:`encode_for_signing`.
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
        # cannot overflow at any date
        if not timedelta() <= self.until - self.since <= MAX_DURATION:
            raise ValueError("an emergency halt ends within 72 hours")
        return self


def encode_for_signing(statement: Mapping[str, Any]) -> bytes:
    """Return the bytes to sign: the whole statement, including fields of newer programs."""
    values = {name: value for name, value in statement.items() if name != "sig"}
    return encode_canonical_json({**values, "_type": STATEMENT_TYPE})


def sort_newest_first(statements: Iterable[EmergencyHaltStatement]) -> list[EmergencyHaltStatement]:
    """Sort statements by release, newest first."""
    return sorted(statements, key=_release, reverse=True)


def select_newest_by_key(
    statements: Iterable[EmergencyHaltStatement],
) -> list[EmergencyHaltStatement]:
    """Return the statements that are read: for each key those of its newest releases."""
    held: dict[str, list[EmergencyHaltStatement]] = {}
    for statement in sort_newest_first(statements):
        held.setdefault(statement.keyid, []).append(statement)
    return [one for of_key in held.values() for one in of_key[:MAX_HALTS_PER_KEY]]


def _release(statement: EmergencyHaltStatement) -> tuple[Version, UtcTime]:
    try:
        return Version(statement.version), statement.since
    except InvalidVersion:
        return Version("0"), statement.since


COUNTRIES: Final = frozenset(
    """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS
    BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE
    EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM
    HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC
    LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA
    NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW
    SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO
    TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW XK
    """.split()  # noqa: SIM905 - a table
)


def find_invalid_countries(codes: Iterable[str]) -> list[str]:
    """Return the codes that are not ISO 3166-1 country codes, each once."""
    return sorted({code for code in codes if code not in COUNTRIES})
