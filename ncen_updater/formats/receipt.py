"""Receipts: signed reports of a site to the Secretariat, with a fixed set of fields.

A receipt is an in-toto statement in a DSSE envelope (https://in-toto.io/Statement/v1,
https://github.com/secure-systems-lab/dsse), signed with the site's own Ed25519 key. Its subject is
the installed release, by name and by the digest of its release document. :class:`Receipt` lists the
possible fields, each with its lowest level. A receipt with any other field is refused, even if its
signature is valid, so that no site can be made to report more than it agreed to. Values that follow
from another field are omitted.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field, StringConstraints, TypeAdapter, ValidationError, model_validator
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError, VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.cli.render import format_date
from ncen_updater.common.errors import InvalidValueError, UpdaterError, get_error_text
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import STATEMENT_TYPES, compute_sha256, encode_canonical_json
from ncen_updater.common.messages import RECEIPT_INVALID, RECEIPT_TOO_LARGE
from ncen_updater.formats.errors import describe_mistakes
from ncen_updater.formats.manifest import Country, ProductName, SignedModel, SiteId, VersionText

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = f"{STATEMENT_TYPES}/receipt/v1"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
#: Larger files are refused.
MAX_RECEIPT_BYTES: Final = 1100
#: Limit of the statement, which base64 and the signature make longer.
MAX_STATEMENT_BYTES: Final = 684


class ReceiptLevel(StrEnum):
    """How much a site reports; each level includes the previous ones."""

    NONE = "none"
    VERSION = "version"
    OUTCOME = "outcome"
    FIGURES = "figures"

    @property
    def rank(self) -> int:
        """Return the position among the levels; 0 for none."""
        return list(ReceiptLevel).index(self)


class Outcome(StrEnum):
    """Outcome of a site's last change."""

    UPGRADED = "upgraded"
    REVERTED = "reverted"  # failed before the commit
    ROLLED_BACK = "rolled-back"  # by an operator
    SOAK_ROLLBACK = "soak-rollback"  # failed in the soak period and was rolled back automatically
    SOAK_FAILED = "soak-failed"  # failed in the soak period and is still installed


class Fault(StrEnum):
    """Cause of a failure."""

    RELEASE = "release"
    SITE = "site"
    INTERRUPTED = "interrupted"  # by an operator, or by a temporary condition of the site


@dataclass(frozen=True)
class ReceiptField:
    """Agreed properties of one field of a receipt.

    Attributes:
        level: The lowest level that includes the field.
        sentence: Text for display, with ``{value}``.
    """

    level: ReceiptLevel
    sentence: str


_version = partial(ReceiptField, ReceiptLevel.VERSION)
_outcome = partial(ReceiptField, ReceiptLevel.OUTCOME)
_figures = partial(ReceiptField, ReceiptLevel.FIGURES)

#: Field of ``root``: addresses for receipts, ``https:`` before ``mailto:``.
RECEIPT_ADDRESSES_FIELD: Final = "x-ncen-receipts"
ReceiptAddresses = tuple[
    Annotated[
        str,
        StringConstraints(
            pattern=r"^(?:https://[A-Za-z0-9.-]+(?::[0-9]{1,5})?/[A-Za-z0-9._~/-]*"
            r"|mailto:[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+)$",
            max_length=200,
        ),
    ],
    ...,
]
_ADDRESSES: TypeAdapter[ReceiptAddresses] = TypeAdapter(ReceiptAddresses)

#: Maximum downtime in seconds (11 days); longer ones are reported as this value.
MAX_SECONDS: Final = 999_999
Seconds = Annotated[int, Field(ge=0, le=MAX_SECONDS)]
Count = Annotated[int, Field(ge=1, lt=100_000)]
ShortDigest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Epoch = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]
ShortHead = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,8}:[0-9a-f]{16}$")]
PublicKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}$")]
ErrorCode = Annotated[str, StringConstraints(pattern=r"^NU-[0-9]{4}$")]
Versions = Annotated[tuple[VersionText, ...], Field(min_length=2, max_length=2)]
SentLevel = Literal[ReceiptLevel.VERSION, ReceiptLevel.OUTCOME, ReceiptLevel.FIGURES]
Downtime = tuple[Seconds] | tuple[Seconds, Seconds, Seconds]


class Receipt(SignedModel):
    """A site's report: all fields that a receipt can contain.

    Days are local dates of the site, without a time. ``downtime`` has whole seconds: the actual
    downtime, then the lowest and highest prediction, if there was one. ``fault`` is set for
    failures only, ``soaked`` for upgrades that did not fail.
    """

    site: Annotated[SiteId, _version(N_("Site: {value}"))]
    country: Annotated[Country, _version(N_("Country: {value}"))]
    product: Annotated[ProductName, _version(N_("Application: {value}"))]
    running: Annotated[VersionText, _version(N_("Installed release: {value}"))]
    agent: Annotated[VersionText, _version(N_("Version of ncen-updater: {value}"))]
    root: Annotated[Count, _version(N_("Version of the trusted root: {value}"))]
    level: Annotated[SentLevel, _version(N_("Level of this receipt: {value}"))]
    number: Annotated[Count, _version(N_("Number of this receipt: {value}"))]
    previous: Annotated[
        ShortDigest | None, _version(N_("Digest of the receipt before: {value}"))
    ] = None
    epoch: Annotated[Epoch, _version(N_("Series (epoch), new after a restore: {value}"))]
    chain_head: Annotated[ShortHead, _version(N_("Chain head of the audit log: {value}"))]
    day: Annotated[date, _version(N_("Day of this receipt: {value}"))]
    key: Annotated[PublicKey, _version(N_("Public key of this site: {value}"))]
    change: Annotated[Versions | None, _outcome(N_("Last change: {value}"))] = None
    outcome: Annotated[Outcome | None, _outcome(N_("Last change, outcome: {value}"))] = None
    code: Annotated[ErrorCode | None, _outcome(N_("Last change, error code: {value}"))] = None
    fault: Annotated[Fault | None, _outcome(N_("Last change, cause of failure: {value}"))] = None
    soaked: Annotated[bool | None, _outcome(N_("Last change, soak period completed: {value}"))] = (
        None
    )
    ended: Annotated[date | None, _outcome(N_("Last change, day: {value}"))] = None
    downtime: Annotated[Downtime | None, _figures(N_("Last change, downtime: {value}"))] = None

    @model_validator(mode="after")
    def _check_level(self) -> Receipt:
        above = self.model_fields_set - ALLOWED[self.level]
        if above:
            words = N_("fields above the level {level}: {fields}")
            raise InvalidValueError(words, level=self.level, fields=", ".join(sorted(above)))
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the fields that are set, as JSON values."""
        return self.model_dump(mode="json", exclude_none=True)

    def format_lines(self, release_digest: str) -> tuple[LazyText, ...]:
        """Return one sentence per field of the level, also if it is empty, and for the subject.

        Args:
            release_digest: SHA-256 of the installed release's document, in hexadecimal.
        """
        lines = [
            LazyText(field.sentence, {"value": _describe(getattr(self, name))})
            for name, field in FIELDS.items()
            if name in ALLOWED[self.level]
        ]
        words = N_("Digest of the installed release: {value}")
        return (*lines, LazyText(words, {"value": release_digest}))


#: All fields that a receipt may contain; no other data leaves a site.
FIELDS: Final[Mapping[str, ReceiptField]] = {
    name: next(one for one in field.metadata if isinstance(one, ReceiptField))
    for name, field in Receipt.model_fields.items()
}
#: Names of the fields that a receipt of each level may contain.
ALLOWED: Final = {
    level: {name for name, field in FIELDS.items() if field.level.rank <= level.rank}
    for level in ReceiptLevel
}


@dataclass(frozen=True)
class SignedReceipt:
    """A receipt with a valid signature of the key that it names.

    Attributes:
        receipt: The report.
        release_digest: SHA-256 of the installed release's document, in hexadecimal.
        digest: Digest by which the next receipt refers to this one.
        content: The file.
    """

    receipt: Receipt
    release_digest: str
    digest: str
    content: bytes


def make_receipt(facts: Mapping[str, object], level: ReceiptLevel) -> Receipt:
    """Make a receipt of the facts that its level includes; ignore facts without a field.

    Args:
        facts: Values by names of fields; None for an unknown value.
        level: Level of the receipt.

    Raises:
        RECEIPT_TOO_LARGE: If the version names are too long for a receipt.
    """
    values = {name: value for name, value in facts.items() if name in ALLOWED[level]}
    receipt = Receipt.model_validate({**values, "level": level})
    if len(encode_statement(receipt, "0" * 64)) > MAX_STATEMENT_BYTES:
        raise UpdaterError(RECEIPT_TOO_LARGE, limit_bytes=MAX_RECEIPT_BYTES)
    return receipt


def sign_receipt(receipt: Receipt, release_digest: str, signer: CryptoSigner) -> SignedReceipt:
    """Sign a receipt with the key that it names.

    Args:
        receipt: The report.
        release_digest: SHA-256 of the installed release's document, in hexadecimal.
        signer: The result of :func:`make_signer`.
    """
    payload = encode_statement(receipt, release_digest)
    envelope = Envelope(payload, PAYLOAD_TYPE, [])
    envelope.sign(signer)
    content = encode_canonical_json(envelope.to_dict())
    return SignedReceipt(receipt, release_digest, _compute_digest(payload), content)


def read_receipt(content: bytes, *, verify: bool = True) -> SignedReceipt:
    """Parse a receipt and verify its signature. The caller must know to which site the key belongs.

    Args:
        content: The file.
        verify: False for receipts that were verified before they were stored.

    Raises:
        RECEIPT_INVALID: If it is not a receipt, has an unknown field or a field above its level,
            is not in the canonical form that sites write, or is not signed with the key it names.
    """
    try:
        if len(content) > MAX_RECEIPT_BYTES:
            words = N_("more than {limit_bytes}")
            raise InvalidValueError(words, limit_bytes=MAX_RECEIPT_BYTES)
        envelope = Envelope.from_dict(parse_json(content))
        statement = parse_json(envelope.payload)
        subject = statement["subject"][0]
        product, _, running = subject["name"].partition(" ")
        named = {"product": product, "running": running}
        receipt = Receipt.model_validate({**statement["predicate"], **named})
        release_digest = subject["digest"]["sha256"]
        # Accept the canonical form only: no extra field, duplicate name or other spelling of a
        # number.
        if (
            envelope.payload_type != PAYLOAD_TYPE
            or envelope.payload != encode_statement(receipt, release_digest)
            or content != encode_canonical_json(envelope.to_dict())
        ):
            raise ValueError("not in canonical form")
        if verify:
            envelope.verify([_make_public_key(receipt.key)], 1)
    except VerificationError as error:
        raise UpdaterError(RECEIPT_INVALID, reason="invalid signature") from error
    except ValidationError as error:
        reason = describe_mistakes(error, "predicate")
        raise UpdaterError(RECEIPT_INVALID, reason=reason) from error
    except (
        ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, FormatError,
    ) as error:  # fmt: skip
        text = LazyText(N_("not a receipt: {reason}"), {"reason": get_error_text(error)})
        raise UpdaterError(RECEIPT_INVALID, reason=text) from error
    return SignedReceipt(receipt, release_digest, _compute_digest(envelope.payload), content)


def read_receipt_addresses(root: Mapping[str, Any]) -> ReceiptAddresses:
    """Return the addresses for receipts.

    Args:
        root: Fields of a verified root.

    Raises:
        ValueError: If the field is invalid.
    """
    return _ADDRESSES.validate_python(root.get(RECEIPT_ADDRESSES_FIELD, ()))


def make_signer(private_key: Ed25519PrivateKey) -> CryptoSigner:
    """Return the signer for a site's private key."""
    return CryptoSigner(private_key, _make_public_key(encode_public_key(private_key)))


def encode_public_key(private_key: Ed25519PrivateKey) -> str:
    """Return the public key of a site as receipts contain it: base64 without padding."""
    raw = private_key.public_key().public_bytes_raw()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def compute_fingerprint(key: str) -> str:
    """Return the fingerprint of a site's public key, to read out: SHA-256 in hexadecimal."""
    return compute_sha256(_decode_key(key))


def _make_public_key(key: str) -> SSlibKey:
    # No key id: the receipt itself contains the key.
    return SSlibKey("", "ed25519", "ed25519", {"public": _decode_key(key).hex()})


def _decode_key(key: str) -> bytes:
    return base64.urlsafe_b64decode(f"{key}=")


def encode_statement(receipt: Receipt, release_digest: str) -> bytes:
    """Return the bytes to sign, which contain the whole receipt."""
    predicate = receipt.to_json()
    name = f"{predicate.pop('product')} {predicate.pop('running')}"
    return encode_canonical_json({
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": release_digest}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    })  # fmt: skip


def _compute_digest(payload: bytes) -> str:
    return compute_sha256(payload)[:16]


#: Display texts of enumerated values.
_WORDS = {
    "upgraded": N_("upgraded"),
    "reverted": N_("reverted"),
    "rolled-back": N_("rolled back by people"),
    "soak-rollback": N_("rolled back in the soak period"),
    "soak-failed": N_("unhealthy in the soak period, still installed"),
    "release": N_("the release"),
    "site": N_("the site"),
    "interrupted": N_("an interruption"),
}


def _describe(value: object) -> object:
    if value is None:
        return "-"
    if isinstance(value, date):
        return format_date(value)
    if isinstance(value, str):
        return LazyText(_WORDS[value]) if value in _WORDS else str(value)
    if isinstance(value, bool):
        return LazyText(N_("yes")) if value else LazyText(N_("no"))
    if isinstance(value, tuple) and isinstance(value[0], str):
        return LazyText(N_("{old} to {new}"), {"old": value[0], "new": value[1]})
    if isinstance(value, tuple):
        predicted = "{} - {} s".format(*value[1:]) if value[1:] else "-"
        values = {"real": value[0], "range": predicted}
        return LazyText(N_("{real} s (predicted: {range})"), values)
    return value
