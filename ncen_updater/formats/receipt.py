"""Receipts: what a site says of itself to the Secretariat, signed by the site, and nothing else.

A receipt is an in-toto statement in a DSSE envelope (https://in-toto.io/Statement/v1,
https://github.com/secure-systems-lab/dsse), signed with the site's own Ed25519 key. Its subject is
the release that runs, by name and by the digest of its release document. :class:`Receipt` lists
what a receipt may contain, with the level from which on it does. A receipt with any other field is
refused, even if its signature is valid, so that no site can be made to say more than it agreed to.
Nothing is said twice: what follows from another field is left out.
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
from ncen_updater.common.errors import UpdaterError, get_error_text
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import (
    STATEMENT_TYPES,
    compute_sha256,
    encode_canonical_json,
)
from ncen_updater.common.messages import RECEIPT_INVALID, RECEIPT_TOO_LARGE
from ncen_updater.formats.errors import describe_mistakes
from ncen_updater.formats.manifest import Country, ProductName, SignedModel, SiteId, VersionText

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = f"{STATEMENT_TYPES}/receipt/v1"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
#: Larger files are no receipts.
MAX_RECEIPT_BYTES: Final = 1100
#: What fits into one, in base64 and with its signature.
MAX_STATEMENT_BYTES: Final = 684


class ReceiptLevel(StrEnum):
    """How much a site says; each level contains the ones before it."""

    NONE = "none"
    VERSION = "version"
    OUTCOME = "outcome"
    FIGURES = "figures"

    @property
    def rank(self) -> int:
        """Position among the levels; 0 is none."""
        return list(ReceiptLevel).index(self)


class Outcome(StrEnum):
    """How the last change of a site ended."""

    UPGRADED = "upgraded"
    REVERTED = "reverted"  # it failed before users could work again
    ROLLED_BACK = "rolled-back"  # by people
    SOAK_ROLLBACK = "soak-rollback"  # it failed in the soak period, and the agent rolled it back
    SOAK_FAILED = "soak-failed"  # it failed in the soak period, and is still installed


class Fault(StrEnum):
    """What a failure is attributed to."""

    RELEASE = "release"
    SITE = "site"
    INTERRUPTED = "interrupted"  # by people, or by a condition of the site that passes


@dataclass(frozen=True)
class ReceiptField:
    """What is agreed on one field of a receipt.

    Attributes:
        level: The lowest level that contains it.
        sentence: What it says, for people, with ``{value}``.
    """

    level: ReceiptLevel
    sentence: str


_version = partial(ReceiptField, ReceiptLevel.VERSION)
_outcome = partial(ReceiptField, ReceiptLevel.OUTCOME)
_figures = partial(ReceiptField, ReceiptLevel.FIGURES)

#: Field of ``root``: where receipts may be sent, ``https:`` before ``mailto:``.
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

#: No downtime is said to be longer; it is 11 days.
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
    """What a site says of itself: the table of everything that a receipt may contain.

    Days are dates of the site's own calendar, without hours. ``downtime`` has whole seconds: the
    actual one, then the lowest and the highest that was predicted, where there was a prediction.
    ``fault`` is said of failures alone, ``soaked`` of upgrades that did not fail.
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
        ShortDigest | None, _version(N_("Digest of the receipt before it: {value}"))
    ] = None
    epoch: Annotated[Epoch, _version(N_("Series of receipts, new after a restore: {value}"))]
    chain_head: Annotated[ShortHead, _version(N_("Chain head of the audit log: {value}"))]
    day: Annotated[date, _version(N_("Day of this receipt: {value}"))]
    key: Annotated[PublicKey, _version(N_("Public key of this site: {value}"))]
    change: Annotated[Versions | None, _outcome(N_("Last change: {value}"))] = None
    outcome: Annotated[Outcome | None, _outcome(N_("Last change, outcome: {value}"))] = None
    code: Annotated[ErrorCode | None, _outcome(N_("Last change, error code: {value}"))] = None
    fault: Annotated[Fault | None, _outcome(N_("Last change, failure attributed to: {value}"))] = (
        None
    )
    soaked: Annotated[bool | None, _outcome(N_("Last change, soak period completed: {value}"))] = (
        None
    )
    ended: Annotated[date | None, _outcome(N_("Last change, day: {value}"))] = None
    downtime: Annotated[Downtime | None, _figures(N_("Last change, downtime: {value}"))] = None

    @model_validator(mode="after")
    def _check_level(self) -> Receipt:
        above = [name for name in self.model_fields_set if not is_within(name, self.level)]
        if above:
            raise ValueError(
                LazyText(
                    N_("fields above the level {level}: {fields}"),
                    {"level": self.level, "fields": ", ".join(sorted(above))},
                )
            )
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the fields that are set, as JSON has them."""
        return self.model_dump(mode="json", exclude_none=True)

    def format_lines(self) -> tuple[LazyText, ...]:
        """Say it for people, one sentence a field, in the order of :data:`FIELDS`."""
        values = self.to_json()
        return tuple(
            LazyText(field.sentence, {"value": _describe(values[name])})
            for name, field in FIELDS.items()
            if name in values
        )


#: Everything that a receipt may contain. A fact that is not here never leaves a site.
FIELDS: Final[Mapping[str, ReceiptField]] = {
    name: next(one for one in field.metadata if isinstance(one, ReceiptField))
    for name, field in Receipt.model_fields.items()
}


@dataclass(frozen=True)
class SignedReceipt:
    """A receipt whose signature is that of the key it names.

    Attributes:
        receipt: What it says.
        release_digest: SHA-256 of the document of the release that runs, in hexadecimal.
        digest: By which the next receipt refers to this one.
        content: The file.
    """

    receipt: Receipt
    release_digest: str
    digest: str
    content: bytes


def is_within(name: str, level: ReceiptLevel) -> bool:
    """Tell whether a receipt of this level may contain a field."""
    return name in FIELDS and FIELDS[name].level.rank <= level.rank


def make_receipt(facts: Mapping[str, object], level: ReceiptLevel) -> Receipt:
    """Take from what is known what this level contains; a fact that no field is for is left out.

    Args:
        facts: Values by names of :data:`FIELDS`; None is unknown.
        level: How much may be said.

    Raises:
        RECEIPT_TOO_LARGE: If the versions have so long names that it is no receipt.
    """
    values = {name: value for name, value in facts.items() if is_within(name, level)}
    receipt = Receipt.model_validate({**values, "level": level})
    if len(encode_statement(receipt, "0" * 64)) > MAX_STATEMENT_BYTES:
        raise UpdaterError(RECEIPT_TOO_LARGE, limit_bytes=MAX_RECEIPT_BYTES)
    return receipt


def sign_receipt(receipt: Receipt, release_digest: str, signer: CryptoSigner) -> SignedReceipt:
    """Sign a receipt with the key that it names.

    Args:
        receipt: What is said.
        release_digest: SHA-256 of the document of the release that runs, in hexadecimal.
        signer: Of :func:`make_signer`.
    """
    payload = encode_statement(receipt, release_digest)
    envelope = Envelope(payload, PAYLOAD_TYPE, [])
    envelope.sign(signer)
    content = encode_canonical_json(envelope.to_dict())
    return SignedReceipt(receipt, release_digest, _compute_digest(payload), content)


def read_receipt(content: bytes, *, verify: bool = True) -> SignedReceipt:
    """Read a receipt and verify its signature. Whose key it is, the caller has to know.

    Args:
        content: The file.
        verify: False for what was verified before it was stored.

    Raises:
        RECEIPT_INVALID: If it is none, has a field that nobody allowed, is not in the one form that
            sites write, or is not signed with the key it names.
    """
    try:
        if len(content) > MAX_RECEIPT_BYTES:
            raise ValueError(
                LazyText(N_("more than {limit_bytes}"), {"limit_bytes": MAX_RECEIPT_BYTES})
            )
        envelope = Envelope.from_dict(parse_json(content))
        statement = parse_json(envelope.payload)
        subject = statement["subject"][0]
        product, _, running = subject["name"].partition(" ")
        named = {"product": product, "running": running}
        receipt = Receipt.model_validate({**statement["predicate"], **named})
        release_digest = subject["digest"]["sha256"]
        # One form only: no field beside, no name twice, no other spelling of a number.
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
        raise UpdaterError(
            RECEIPT_INVALID,
            reason=LazyText(N_("not a receipt: {reason}"), {"reason": get_error_text(error)}),
        ) from error
    return SignedReceipt(receipt, release_digest, _compute_digest(envelope.payload), content)


def read_receipt_addresses(root: Mapping[str, Any]) -> ReceiptAddresses:
    """Read where receipts may be sent.

    Args:
        root: Fields of a verified root.

    Raises:
        ValueError: If it names something else.
    """
    return _ADDRESSES.validate_python(root.get(RECEIPT_ADDRESSES_FIELD, ()))


def make_signer(private_key: Ed25519PrivateKey) -> CryptoSigner:
    """Return what signs with a site's key."""
    return CryptoSigner(private_key, _make_public_key(encode_public_key(private_key)))


def encode_public_key(private_key: Ed25519PrivateKey) -> str:
    """Return the public half of a site's key as receipts name it, in base64 without padding."""
    raw = private_key.public_key().public_bytes_raw()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def compute_fingerprint(key: str) -> str:
    """Return the fingerprint of a site's public key, to be read out: SHA-256 in hexadecimal."""
    return compute_sha256(_decode_key(key))


def _make_public_key(key: str) -> SSlibKey:
    # Without a name: which key it is, the receipt says.
    return SSlibKey("", "ed25519", "ed25519", {"public": _decode_key(key).hex()})


def _decode_key(key: str) -> bytes:
    return base64.urlsafe_b64decode(f"{key}=")


def encode_statement(receipt: Receipt, release_digest: str) -> bytes:
    """Return the bytes that are signed; all that a receipt says is in them."""
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


#: Values that are words, as people read them.
_WORDS = {
    "version": N_("version"),
    "outcome": N_("outcome"),
    "figures": N_("figures"),
    "upgraded": N_("upgraded"),
    "reverted": N_("reverted"),
    "rolled-back": N_("rolled back by people"),
    "soak-rollback": N_("rolled back in the soak period"),
    "soak-failed": N_("unhealthy in the soak period, still installed"),
    "release": N_("the release"),
    "site": N_("the site"),
    "interrupted": N_("an interruption"),
}


def describe_word(value: str) -> LazyText | str:
    """Return a value of a receipt as people read it."""
    return LazyText(_WORDS[value]) if value in _WORDS else value


def _describe(value: object) -> object:
    if isinstance(value, str):
        return describe_word(value)
    if isinstance(value, bool):
        return LazyText(N_("yes")) if value else LazyText(N_("no"))
    if isinstance(value, list) and isinstance(value[0], str):
        return LazyText(N_("{old} to {new}"), {"old": value[0], "new": value[1]})
    if isinstance(value, list) and len(value) > 1:
        words = N_("{real} seconds (predicted: {low} to {high})")
        return LazyText(words, dict(zip(("real", "low", "high"), value, strict=True)))
    if isinstance(value, list):
        return LazyText(N_("{real} seconds"), {"real": value[0]})
    return value
