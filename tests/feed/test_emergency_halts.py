"""Tests of emergency halts: one for each key and release, three days, never longer, never again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Targets, Timestamp  # type: ignore[attr-defined]

from ncen_updater.feed.emergency_halt_statements import (
    _make_halt,
    update_known_halts,
    verify_emergency_halts,
)
from ncen_updater.feed.feed_summary import KnownEmergencyHalt, list_active_halts
from ncen_updater.feed.trust_state import TrustState
from ncen_updater.formats.rollout import (
    EMERGENCY_HALT_KEYS_FIELD,
    EMERGENCY_HALTS_FIELD,
    EmergencyHaltStatement,
    encode_for_signing,
)
from ncen_updater.publisher.distribute.emergency_halts import merge_emergency_halts
from ncen_updater.publisher.feed.feed_directory import FeedState

START = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)
AMINA, BO = "a" * 64, "b" * 64
OWNERS = {AMINA: "amina", BO: "bo"}
SIGNED = ("3.3.0", "3.4.0")


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


@dataclass(frozen=True)
class Halt:
    """An emergency halt that a timestamp carries."""

    since: float
    until: float
    key: str = AMINA
    version: str = "3.4.0"
    product: str = "ncen"

    @property
    def item(self) -> tuple[EmergencyHaltStatement, str]:
        statement = EmergencyHaltStatement(
            product=self.product, version=self.version, since=at(self.since),
            until=at(self.until), reason="loses cases", keyid=self.key,
        )  # fmt: skip
        return statement, OWNERS[self.key]


Look = tuple[float, Sequence[Halt]]


@dataclass(frozen=True)
class Case:
    """Looks of one site, each at an hour, and what holds after the last of them."""

    name: str
    looks: Sequence[Look]
    holds: tuple[str, ...] = ()


FULL = Halt(0, 72)
CASES = [
    Case("none", [(1, ())]),
    Case("one", [(1, [FULL])], ("amina 3.4.0",)),
    Case("it expires", [(1, [FULL]), (72, [FULL])]),
    Case("a moment before", [(1, [FULL]), (71.9, [FULL])], ("amina 3.4.0",)),
    Case("a shorter one", [(1, [Halt(0, 5)]), (6, [Halt(0, 5)])]),
    Case("it is no longer listed", [(1, [FULL]), (2, ())]),
    Case("lifted", [(1, [FULL]), (2, [Halt(0, 2)])]),
    Case("lifted, and played again", [(1, [FULL]), (2, [Halt(0, 2)]), (3, [FULL])]),
    Case("hidden for a while", [(1, [FULL]), (2, ()), (3, [FULL])], ("amina 3.4.0",)),
    Case("played after its end", [(1, [FULL]), (100, [FULL])]),
    Case("first seen after its end", [(80, [FULL])]),
    Case("another by the same key while it holds",
         [(1, [FULL]), (50, [Halt(50, 122)]), (73, [Halt(50, 122)])]),
    Case("another by the same key after it", [(1, [FULL]), (73, [Halt(73, 145)])]),
    Case("both at once: the first counts", [(1, [Halt(1, 73), FULL]), (72.5, [Halt(1, 73), FULL])]),
    Case("another by another key", [(1, [FULL]), (73, [Halt(73, 145, BO)])], ("bo 3.4.0",)),
    Case("two keys", [(1, [FULL, Halt(1, 50, BO)])], ("amina 3.4.0", "bo 3.4.0")),
    Case("another release", [(1, [FULL]), (73, [Halt(73, 145, version="3.3.0")])],
         ("amina 3.3.0",)),
    Case("signed ahead holds from its first sight, and three days", [(1, [Halt(500, 572)])],
         ("amina 3.4.0",)),
    Case("signed ahead, three days later", [(1, [Halt(500, 572)]), (73, [Halt(500, 572)])]),
    Case("signed ahead, when it would begin", [(1, [Halt(500, 572)]), (510, [Halt(500, 572)])]),
    Case("a release without signatures", [(1, [Halt(0, 72, version="9.9")])]),
    Case("of another product", [(1, [Halt(0, 72, product="ncen-updater")])]),
]  # fmt: skip


def learn_halts(looks: Sequence[Look]) -> tuple[Mapping[str, KnownEmergencyHalt], datetime]:
    seen: Mapping[str, KnownEmergencyHalt] = {}
    moment = START
    for hour, said in looks:
        moment = at(hour)
        seen = update_known_halts(seen, [one.item for one in said], "ncen", SIGNED, moment)
    return seen, moment


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_valid_halts_are_determined(case: Case) -> None:
    seen, moment = learn_halts(case.looks)
    held = list_active_halts(seen, "ncen", moment)
    assert sorted(f"{one.owner} {one.version}" for one in held) == sorted(case.holds)
    assert list_active_halts(seen, "ncen-updater", moment) == ()
    assert all(one.ends <= moment + timedelta(hours=72) for one in held)
    # As stored: the file contains the same.
    assert TrustState.from_json(TrustState(emergency_halts=seen).to_json()).emergency_halts == seen


def test_one_stolen_key_delays_a_release_by_at_most_three_days() -> None:
    """An emergency halt every hour for a year by one key: the release waits 72 hours, no more."""
    seen: Mapping[str, KnownEmergencyHalt] = {}
    held = 0
    for hour in range(24 * 365):
        forged = Halt(hour, hour + 72)
        seen = update_known_halts(seen, [forged.item], "ncen", SIGNED, at(hour))
        held += bool(list_active_halts(seen, "ncen", at(hour)))
        assert len(seen) == 1
    # It is over at once, for another emergency halt takes the place of the one that counts.
    assert held == 1
    seen, held = {}, 0
    for hour in range(24 * 30):
        both = [FULL.item, Halt(hour + 1, hour + 73).item]
        seen = update_known_halts(seen, both, "ncen", SIGNED, at(hour))
        held += bool(list_active_halts(seen, "ncen", at(hour)))
    assert held == 72


def test_halts_of_another_product_are_kept() -> None:
    seen = update_known_halts({}, [FULL.item], "ncen", SIGNED, at(1))
    assert update_known_halts(seen, [], "ncen-updater", SIGNED, at(2)) == seen


@pytest.mark.parametrize("until", [72.1, -1])
def test_overlong_halt_is_rejected(until: float) -> None:
    with pytest.raises(ValidationError):
        _ = Halt(0, until).item


def signed_by(
    signer: CryptoSigner, until: str = "2026-12-02T08:00:00Z", **more: str
) -> dict[str, Any]:
    data: dict[str, Any] = {
        "product": "ncen", "version": "3.4.0", "since": "2026-12-01T08:00:00Z", "until": until,
        "reason": "loses cases", "keyid": signer.public_key.keyid, **more,
    }  # fmt: skip
    return {**data, "sig": signer.sign(encode_for_signing(data)).signature}


def lists_with(signer: CryptoSigner, *carried: Any) -> tuple[Root, Timestamp]:
    root, timestamp = Root(), Timestamp()
    key = signer.public_key
    root.unrecognized_fields[EMERGENCY_HALT_KEYS_FIELD] = {key.keyid: key.to_dict()}
    timestamp.unrecognized_fields[EMERGENCY_HALTS_FIELD] = list(carried)
    return root, timestamp


LAST = "9999-12-31T23:00:00Z"


@pytest.mark.parametrize("broken", [
    {"since": LAST, "until": LAST}, {"since": "0001-01-01T00:00:00Z"}, {"keyid": "0" * 64},
    {"sig": "abc"}, {"sig": ""}, {"reason": 7}, {"version": "a/b"}, {"more": [[]]},
], ids=str)  # fmt: skip
def test_malformed_halt_does_not_block_the_metadata(broken: dict[str, Any]) -> None:
    """Anyone who has the key of the timestamp can put anything there."""
    signer = CryptoSigner.generate_ed25519()
    good = signed_by(signer)
    root, timestamp = lists_with(signer, {**good, **broken}, None, [], good)
    assert [one.until.day for one, _ in verify_emergency_halts(root, timestamp)] == [2]


@pytest.mark.parametrize(
    "owner", ["x" * 5000, "\ud800", 7, None, ["amina"], {"name": "amina"}], ids=repr
)
def test_halt_with_an_invalid_owner_does_not_block_the_metadata(owner: object) -> None:
    """Seen: no offer could be read where a name was longer than the reason of a halt may be."""
    signer = CryptoSigner.generate_ed25519()
    root, timestamp = lists_with(signer, signed_by(signer))
    root.unrecognized_fields[EMERGENCY_HALT_KEYS_FIELD][signer.public_key.keyid][
        "x-ncen-keyowner"
    ] = owner
    seen = update_known_halts({}, verify_emergency_halts(root, timestamp), "ncen", SIGNED, START)
    (halted,) = (_make_halt(brake) for brake in seen.values())
    assert halted.reason.startswith("loses cases [")


def test_newest_halts_of_each_key_are_read() -> None:
    """The holder of the online key may carry any number of one key's statements."""
    signer, other = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()
    many = [signed_by(signer, version=f"3.3.{number}") for number in range(40)]
    root, timestamp = lists_with(signer, *many, signed_by(other), signed_by(signer, version="x"))
    root.unrecognized_fields[EMERGENCY_HALT_KEYS_FIELD][other.public_key.keyid] = (
        other.public_key.to_dict()
    )
    assert [one.version for one, _ in verify_emergency_halts(root, timestamp)] == [
        "3.3.38",
        "3.3.39",
        "3.4.0",
    ]


def test_halt_of_a_newer_program_is_preserved_as_signed() -> None:
    """Another signer's emergency halt leaves it as it is, with what this program does not know."""
    signer, other = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()
    newer = signed_by(signer, scope="one country")
    root, timestamp = lists_with(signer, newer)
    state = FeedState(Metadata(root), Metadata(Targets()), timestamp=Metadata(timestamp))
    added = EmergencyHaltStatement.model_validate(signed_by(other, version="3.3.0"))
    carried = merge_emergency_halts(state, added, START)
    assert carried[0] == newer
    timestamp.unrecognized_fields[EMERGENCY_HALTS_FIELD] = carried
    assert [one.version for one, _ in verify_emergency_halts(root, timestamp)] == ["3.4.0"]
