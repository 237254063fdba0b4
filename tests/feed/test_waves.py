"""Tests of waves and halts: which site gets a release, when, and why not."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version
from pydantic import ValidationError

from ncen_updater.common.messages import NO_PATH_TO_TARGET, TARGET_HALTED
from ncen_updater.feed.upgrade_path import (
    NoUpgradePath,
    RejectionReason,
    UpgradePath,
    check_waves,
    choose_path,
    compute_bucket,
    find_opening_time,
)
from ncen_updater.formats.manifest import Channel
from ncen_updater.formats.release_document import Offer, TargetRef
from ncen_updater.formats.rollout import RolloutWave
from tests.support.errors import refused

ARCHIVE = TargetRef(target="x", length=1, sha256="0" * 64)
DAY = timedelta(days=1)
NOW = datetime(2026, 12, 1, 8, tzinfo=UTC)
YESTERDAY, TOMORROW, LATER = NOW - DAY, NOW + DAY, NOW + 3 * DAY


def wave(opens: datetime, percent: int, *countries: str) -> RolloutWave:
    return RolloutWave(opens=opens, percent=percent, countries=countries)


def offer(version: str, *waves: RolloutWave, **more: object) -> Offer:
    fields = {"product": "ncen", "version": version, "upgrade_from": ">=0", "waves": waves}
    return Offer.model_validate({**fields, "archive": ARCHIVE, "unpacked_bytes": 1, **more})


@pytest.mark.parametrize(
    ("name", "waves", "bucket", "expected"),
    [
        ("in the first", (wave(YESTERDAY, 10), wave(TOMORROW, 100)), 9, YESTERDAY),
        ("just not in the first", (wave(YESTERDAY, 10), wave(TOMORROW, 100)), 10, TOMORROW),
        ("the last place", (wave(NOW, 100),), 99, NOW),
        ("in none", (wave(NOW, 50),), 50, None),
        ("the earliest counts, in any order", (wave(LATER, 100), wave(NOW, 100)), 5, NOW),
        ("another country's", (wave(YESTERDAY, 100, "NO"), wave(LATER, 100)), 0, LATER),
        ("the own country's", (wave(YESTERDAY, 100, "NO", "SN"), wave(LATER, 100)), 0, YESTERDAY),
        ("a share of the own country", (wave(YESTERDAY, 5, "SN"),), 5, None),
    ],
)  # fmt: skip
def test_wave_opening_time_is_found(
    name: str, waves: tuple[RolloutWave, ...], bucket: int, expected: datetime | None
) -> None:
    assert find_opening_time(waves, bucket, "SN") == expected, name


def test_wave_opens_at_its_exact_second() -> None:
    release = offer("3.3.0", wave(NOW, 100))
    assert check_waves(release, "dakar", "SN", NOW) == (True, NOW)
    assert check_waves(release, "dakar", "SN", NOW - timedelta(seconds=1)) == (False, NOW)
    assert check_waves(offer("3.3.0"), "dakar", "SN", NOW) == (True, None)


def test_buckets_are_spread_and_differ_between_releases() -> None:
    sites = [f"site-{number}" for number in range(5000)]
    places = [compute_bucket(site, "ncen", "3.3.0") for site in sites]
    assert set(places) == set(range(100))
    assert 400 < sum(place < 10 for place in places) < 600
    others = [compute_bucket(site, "ncen", "3.3.1") for site in sites]
    assert sum(a == b for a, b in zip(places, others, strict=True)) < 150
    # Written down: a site must keep its place whatever agent it runs.
    assert compute_bucket("dakar", "ncen", "3.3.0") == PLACE_OF_DAKAR


PLACE_OF_DAKAR = 39
OPEN, CLOSED = wave(YESTERDAY, 100), wave(TOMORROW, 100)
HALT = {"halted": {"reason": "prints blank permits"}}


@dataclass(frozen=True)
class Row:
    """Offers, and what comes of them at a site with 3.2.4 that named a release or none."""

    name: str
    offers: tuple[Offer, ...]
    hops: tuple[str, ...] = ()
    rejected: dict[str, RejectionReason] = field(default_factory=dict)
    target: str | None = None


ROWS = (
    Row("open", (offer("3.3.0", OPEN),), ("3.3.0",)),
    Row("not open yet", (offer("3.3.0", CLOSED),), (), {"3.3.0": RejectionReason.WAVE_NOT_OPEN}),
    Row(
        "an older one that is open",
        (offer("3.3.0"), offer("3.4.0", CLOSED)),
        ("3.3.0",),
        {"3.4.0": RejectionReason.WAVE_NOT_OPEN},
    ),
    Row(
        "a stop that is not open is not jumped over",
        (offer("3.3.0", CLOSED, required=True), offer("3.4.0", OPEN)),
        (),
        {"3.3.0": RejectionReason.WAVE_NOT_OPEN, "3.4.0": RejectionReason.REQUIRED_STOP},
    ),
    Row(
        "nor one that is halted",
        (offer("3.3.0", required=True, **HALT), offer("3.4.0")),
        (),
        {"3.3.0": RejectionReason.HALTED, "3.4.0": RejectionReason.REQUIRED_STOP},
    ),
    Row(
        "what leads to it may be walked",
        (offer("3.2.9"), offer("3.3.0", CLOSED, required=True), offer("3.4.0")),
        ("3.2.9",),
        {"3.3.0": RejectionReason.WAVE_NOT_OPEN, "3.4.0": RejectionReason.REQUIRED_STOP},
    ),
    Row("a person names it", (offer("3.3.0", CLOSED),), ("3.3.0",), target="3.3.0"),
    Row(
        "a person names what lies behind a stop",
        (offer("3.3.0", CLOSED, required=True), offer("3.4.0", CLOSED)),
        ("3.3.0", "3.4.0"),
        target="3.4.0",
    ),
    Row("halted", (offer("3.3.0", OPEN, **HALT),), (), {"3.3.0": RejectionReason.HALTED}),
)


def choose(row: Row) -> UpgradePath | NoUpgradePath:
    return choose_path(
        Version("3.2.4"),
        row.offers,
        site="dakar",
        country="SN",
        channel=Channel.STABLE,
        agent=Version("1"),
        now=NOW,
        target=Version(row.target) if row.target else None,
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_waves_and_halts_limit_the_path(row: Row) -> None:
    path = choose(row)
    hops = path.hops if isinstance(path, UpgradePath) else ()
    assert tuple(hop.version for hop in hops) == row.hops
    assert {r.offer.version: r.reason for r in path.rejected} == row.rejected


def test_halt_applies_to_a_named_target() -> None:
    with refused(TARGET_HALTED) as caught:
        choose(Row("", (offer("3.3.0", **HALT),), target="3.3.0"))
    assert "prints blank permits" in str(caught.value)
    with refused(NO_PATH_TO_TARGET):
        stop = offer("3.3.0", required=True, **HALT)
        choose(Row("", (stop, offer("3.4.0")), target="3.4.0"))


def test_rejections_are_described() -> None:
    part = tuple(wave(NOW - DAY, 1, country) for country in ("NO", "FR"))
    path = choose(
        Row("", (offer("3.3.0", CLOSED), offer("3.4.0", *part), offer("3.5.0", **HALT)))
    )  # fmt: skip
    assert [r.text.render() for r in path.rejected] == [
        "staged rollout: open for this site on 2026-12-02 08:00 UTC",
        "staged rollout: date for this site not set",
        "halted by the Secretariat: prints blank permits",
    ]


@pytest.mark.parametrize(
    "moment",
    ["2026-12-01", "2026-12-01T08:00:00", "2026-12-01T08:00:00+01:00", "2026-13-01T08:00:00Z",
     1_764_576_000, "2026-12-01T08:00:00.5Z", None, "9999-12-31T24:00:00Z", ""],
)  # fmt: skip
def test_time_has_one_form(moment: object) -> None:
    with pytest.raises(ValidationError):
        RolloutWave.model_validate({"opens": moment, "percent": 10})


@pytest.mark.parametrize("percent", [0, 101, "10", 1.5, True])
def test_percentage_is_a_whole_number(percent: object) -> None:
    with pytest.raises(ValidationError):
        RolloutWave.model_validate({"opens": "2026-12-01T08:00:00Z", "percent": percent})


def test_schedule_round_trips() -> None:
    release = offer("3.3.0", wave(NOW, 10, "SN"), CLOSED)
    written = release.model_dump(mode="json")
    assert written["waves"][0] == {
        "opens": "2026-12-01T08:00:00Z", "percent": 10, "countries": ["SN"],
    }  # fmt: skip
    assert Offer.model_validate(written) == release


waves_ = st.builds(
    wave,
    st.integers(-5, 5).map(lambda days: NOW + days * DAY),
    st.integers(1, 100),
    st.sampled_from(["SN", "NO"]),
)


@given(st.lists(waves_, max_size=5), waves_, st.integers(0, 99))
def test_additional_wave_never_closes_a_release(
    waves: list[RolloutWave], more: RolloutWave, bucket: int
) -> None:
    before, after = (
        find_opening_time(waves, bucket, "SN"),
        find_opening_time([*waves, more], bucket, "SN"),
    )
    assert before is None or (after is not None and after <= before)
