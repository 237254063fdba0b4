"""Tests of receipts: only permitted fields, in one form, signed by their key."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
import segno
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError
from securesystemslib.dsse import Envelope

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.json_records import encode_canonical_json
from ncen_updater.common.messages import RECEIPT_INVALID, RECEIPT_TOO_LARGE
from ncen_updater.formats.receipt import (
    ALLOWED,
    FIELDS,
    MAX_RECEIPT_BYTES,
    MAX_SECONDS,
    PAYLOAD_TYPE,
    Fault,
    Outcome,
    ReceiptLevel,
    encode_public_key,
    make_receipt,
    make_signer,
    read_receipt,
    sign_receipt,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
RELEASE = "ab" * 32
FACTS: dict[str, object] = {
    "site": "customs-nairobi",
    "country": "KE",
    "product": "ncen",
    "running": "3.3.0",
    "agent": "0.1.0",
    "root": 12,
    "number": 120,
    "previous": "cd" * 8,
    "epoch": "ef" * 4,
    "chain_head": f"123456:{'12' * 8}",
    "day": "2026-11-30",
    "key": encode_public_key(KEY),
    "change": ["3.2.4", "3.3.0"],
    "outcome": "soak-rollback",
    "code": "NU-6011",
    "fault": "release",
    "ended": "2026-11-30",
    "downtime": [123, 100, 200],
}
#: Facts of a site that no receipt may carry.
SECRETS = {"host": "db7.customs.example", "by": "amina", "reason": "month end", "size": 120_000}


def sign(level: ReceiptLevel = ReceiptLevel.FIGURES, **facts: object) -> bytes:
    made = make_receipt({**FACTS, **facts}, level)
    return sign_receipt(made, RELEASE, make_signer(KEY)).content


def sign_statement(change: Callable[[dict[str, Any]], None]) -> bytes:
    """Sign what no site would write, validly."""
    statement = json.loads(base64.b64decode(json.loads(sign())["payload"]))
    change(statement)
    envelope = Envelope(encode_canonical_json(statement), PAYLOAD_TYPE, [])
    envelope.sign(make_signer(KEY))
    return encode_canonical_json(envelope.to_dict())


#: The longest that each field takes whatever the site; names of releases have 10 characters.
LONGEST: dict[str, object] = {
    "site": "s" * 40, "running": "10.10.1rc1", "agent": "10.10.1rc1", "root": 99_999,
    "number": 99_999, "chain_head": f"{'9' * 8}:{'12' * 8}", "change": ["10.10.1rc1"] * 2,
    "outcome": max(Outcome, key=len), "fault": max(Fault, key=len), "downtime": [MAX_SECONDS] * 3,
}  # fmt: skip
LEVELS = [*ReceiptLevel][1:]


@pytest.mark.parametrize("level", LEVELS)
def test_longest_receipt_of_each_level_has_1100_bytes_and_fits_one_qr_code(
    level: ReceiptLevel,
) -> None:
    content = sign(level, **LONGEST)
    assert read_receipt(content).receipt.level is level
    assert len(content) <= 1100 == MAX_RECEIPT_BYTES
    version = segno.make_qr(content.decode()).version
    assert isinstance(version, int)
    assert version <= 24  # 113 modules wide
    # No field takes more.
    for name, value in LONGEST.items():
        longer = value + 1 if isinstance(value, int) else f"{value}9"
        if name not in ("running", "agent") and name in ALLOWED[level]:
            with pytest.raises(ValidationError):
                sign(level, **{name: longer})


def test_names_of_releases_that_do_not_fit_need_a_lower_level() -> None:
    long = "1." + "9" * 62
    names = {"product": "p" * 41, "running": long, "agent": long, "change": [long] * 2}
    assert len(sign(ReceiptLevel.VERSION, **{**LONGEST, **names})) <= 1100
    for level in LEVELS[1:]:
        with pytest.raises(UpdaterError) as refused:
            sign(level, **{**LONGEST, **names})
        assert refused.value.message is RECEIPT_TOO_LARGE


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_contains_exactly_its_fields(level: ReceiptLevel) -> None:
    content = sign(level, **SECRETS)
    signed = read_receipt(content)
    allowed = {name for name, field in FIELDS.items() if field.level.rank <= level.rank}
    allowed.discard("soaked")  # of a failure it says nothing
    assert set(signed.receipt.to_json()) == allowed
    assert signed.release_digest == RELEASE
    lines = [str(line) for line in signed.receipt.format_lines(RELEASE)]
    # Consent shows each field, also one without a value today, and the digest of the subject.
    assert len(lines) == len(ALLOWED[level]) + 1
    assert lines[-1] == f"Digest of the installed release: {RELEASE}"
    unset = "Last change, soak period completed: -"
    assert (unset in lines) == ("soaked" in ALLOWED[level])


def test_fields_of_a_level_never_change() -> None:
    """A country agreed to these; more needs a new level, which has to be allowed."""
    added = {level: [name for name in FIELDS if FIELDS[name].level is level] for level in LEVELS}
    assert added == {
        ReceiptLevel.VERSION: [
            "site", "country", "product", "running", "agent", "root", "level", "number",
            "previous", "epoch", "chain_head", "day", "key",
        ],
        ReceiptLevel.OUTCOME: ["change", "outcome", "code", "fault", "soaked", "ended"],
        ReceiptLevel.FIGURES: ["downtime"],
    }  # fmt: skip


def test_days_are_written_as_the_reader_writes_them() -> None:
    receipt = read_receipt(sign(ReceiptLevel.VERSION)).receipt
    (line,) = (one for one in receipt.format_lines(RELEASE) if "Day of" in one.template)
    assert line.render("fr") == f"Jour de ce compte rendu : {receipt.day:%d/%m/%Y}"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda s: s["predicate"].update(host="db7"), id="an unknown field"),
        pytest.param(lambda s: s["predicate"].update(level="version"), id="more than its level"),
        pytest.param(lambda s: s["predicate"].update(number=10**30), id="a huge number"),
        pytest.param(lambda s: s["predicate"].update(number=0), id="number zero"),
        pytest.param(lambda s: s["predicate"].update(number=1.0), id="a number in another form"),
        pytest.param(lambda s: s["predicate"].update(downtime=[True]), id="a boolean for a number"),
        pytest.param(lambda s: s["predicate"].update(country="ke"), id="a small country"),
        pytest.param(lambda s: s["predicate"].update(site="a\u202eb"), id="a turned name"),
        pytest.param(lambda s: s["predicate"].update(day="2026-11-30T12:00"), id="an hour"),
        pytest.param(lambda s: s["predicate"].update(day="99999-01-01"), id="a day out of reach"),
        pytest.param(lambda s: s["subject"][0].update(name="n " + "x" * 1000), id="long version"),
        pytest.param(lambda s: s["predicate"].pop("epoch"), id="a field is missing"),
        pytest.param(lambda s: s["predicate"].update(code=None), id="a field that is null"),
        pytest.param(lambda s: s["predicate"].update(key="A" * 43), id="another key"),
        pytest.param(lambda s: s.update(more=1), id="a field beside the statement's"),
        pytest.param(lambda s: s["subject"].append(s["subject"][0]), id="two subjects"),
        pytest.param(lambda s: s["subject"].clear(), id="no subject"),
        pytest.param(lambda s: s.update(predicateType="x"), id="another type"),
        pytest.param(lambda s: s["predicate"].update(running="3.3.0"), id="a duplicated field"),
        pytest.param(lambda s: s["predicate"].update(fault="none"), id="no fault"),
        pytest.param(lambda s: s["predicate"].update(downtime=[1, 2]), id="half a prediction"),
        pytest.param(lambda s: s["predicate"].update(downtime=[]), id="a downtime without seconds"),
        pytest.param(lambda s: s["subject"][0].update(name="ncen"), id="a release without version"),
        pytest.param(lambda s: s["subject"][0].update(name=1), id="a number for a name"),
        pytest.param(lambda s: s["subject"][0].pop("name"), id="a release without a name"),
    ],
)
def test_signed_but_impossible_receipt_is_refused(
    change: Callable[[dict[str, Any]], None],
) -> None:
    with pytest.raises(UpdaterError) as refused:
        read_receipt(sign_statement(change))
    assert refused.value.message is RECEIPT_INVALID


def test_base_statement_of_the_refusals_is_accepted() -> None:
    assert read_receipt(sign_statement(lambda _: None)).receipt.number == 120


def test_any_changed_byte_is_refused() -> None:
    """No byte can be changed, added or left out: there is one form, and it is signed."""
    content, chance = sign(), random.Random(7)
    for _ in range(2000):
        spoilt = bytearray(content)
        place = chance.randrange(len(spoilt))
        match chance.randrange(4):
            case 0:
                spoilt[place] ^= 1 << chance.randrange(8)
            case 1:
                del spoilt[place]
            case 2:
                spoilt.insert(place, chance.choice(b' \n"{}[]0a'))
            case _:
                del spoilt[place:]
        if bytes(spoilt) != content:
            with pytest.raises(UpdaterError) as refused:
                read_receipt(bytes(spoilt))
            assert refused.value.message is RECEIPT_INVALID


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{}", b"[]", b"null", b"\xff\xfe", b"[" * 3000, b'{"payload": 1}', b"9" * 4000,
        b"x" * 5000, b'{"payload":"","payloadType":"x","signatures":[]}',
        b'{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{}]}',
        b'{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":"a"}',
    ],
)  # fmt: skip
def test_non_receipts_are_refused(content: bytes) -> None:
    with pytest.raises(UpdaterError) as refused:
        read_receipt(content)
    assert refused.value.message is RECEIPT_INVALID
