"""Tests of the choice of a path: a table of sites and offers, and properties over many feeds."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ncen_updater.common.messages import (
    NO_PATH_TO_TARGET,
    TARGET_BAD,
    TARGET_FOR_OTHER_COUNTRY,
    TARGET_HALTED,
    TARGET_NEEDS_NEWER_AGENT,
    TARGET_OTHER_CHANNEL,
    TARGET_RUNS_HERE,
    TARGET_UNKNOWN,
    TARGET_WITHDRAWN,
    ErrorMessage,
)
from ncen_updater.feed.errors import UpgradePathError
from ncen_updater.feed.upgrade_path import NoUpgradePath, RejectionReason, UpgradePath, choose_path
from ncen_updater.formats.manifest import Channel
from ncen_updater.formats.release_document import Offer, TargetRef, Withdrawal
from ncen_updater.formats.rollout import ReleaseHalt
from tests.support.errors import refused

NOW = datetime(2026, 12, 1, 8, tzinfo=UTC)
ARCHIVE = TargetRef(target="x", length=1, sha256="0" * 64)
V = Version


def offer(version: str, upgrade_from: str = ">=0", **more: object) -> Offer:
    fields = {"product": "ncen", "version": version, "upgrade_from": upgrade_from}
    return Offer.model_validate({**fields, "archive": ARCHIVE, "unpacked_bytes": 1, **more})


GONE = Withdrawal(reason="loses photographs")


@dataclass(frozen=True)
class Row:
    """Offers, what should come of them at a site with 3.2.4, and why others are left out."""

    name: str
    offers: tuple[Offer, ...]
    hops: tuple[str, ...] = ()
    rejected: dict[str, RejectionReason] = field(default_factory=dict)
    bad: tuple[str, ...] = ()
    allow_bad: bool = False
    channel: Channel = Channel.STABLE


STOP = offer("3.3.0", ">=3.2", required=True)
ROWS = (
    Row("nothing on offer", ()),
    Row("one step", (offer("3.3.0"),), ("3.3.0",)),
    Row("newest of two", (offer("3.4.0"), offer("3.3.0")), ("3.4.0",)),
    Row("fewest steps", (offer("3.3.0"), offer("3.4.0", ">=3.2"), offer("3.3.5")), ("3.4.0",)),
    Row("two steps", (offer("3.3.0"), offer("3.4.0", ">=3.3,<3.4")), ("3.3.0", "3.4.0")),
    Row(
        "through the newest of two ways",
        (offer("3.3.0"), offer("3.3.1"), offer("3.4.0", ">=3.3")),
        ("3.3.1", "3.4.0"),
    ),
    Row("stop is walked", (STOP, offer("3.4.0", ">=3.2")), ("3.3.0", "3.4.0")),
    Row(
        "two stops",
        (STOP, offer("3.4.0", required=True), offer("3.5.0", ">=3")),
        ("3.3.0", "3.4.0", "3.5.0"),
    ),
    Row(
        "a stop out of reach",
        (offer("3.3.0", "==3.1", required=True), offer("3.4.0", ">=3.2")),
        (),
        {"3.3.0": RejectionReason.UPGRADE_FROM, "3.4.0": RejectionReason.REQUIRED_STOP},
    ),
    Row(
        "a stop that failed here is not jumped over",
        (STOP, offer("3.4.0", ">=3.2")),
        (),
        {"3.3.0": RejectionReason.MARKED_BAD, "3.4.0": RejectionReason.REQUIRED_STOP},
        bad=("3.3.0",),
    ),
    Row(
        "a stop that needs a newer agent is not jumped over",
        (offer("3.3.0", required=True, agent=">=9"), offer("3.4.0")),
        (),
        {"3.3.0": RejectionReason.AGENT_TOO_OLD, "3.4.0": RejectionReason.REQUIRED_STOP},
    ),
    Row(
        "a stop for another country is passed",
        (offer("3.3.0", required=True, countries=("NO",)), offer("3.4.0")),
        ("3.4.0",),
        {"3.3.0": RejectionReason.OTHER_COUNTRY},
    ),
    Row(
        "a withdrawn stop is passed",
        (offer("3.3.0", required=True, withdrawn=GONE), offer("3.4.0")),
        ("3.4.0",),
        {"3.3.0": RejectionReason.WITHDRAWN},
    ),
    Row(
        "a preview stop is passed by a stable site",
        (offer("3.3.0", required=True, channel="preview"), offer("3.4.0")),
        ("3.4.0",),
        {"3.3.0": RejectionReason.OTHER_CHANNEL},
    ),
    Row("own country", (offer("3.3.0", countries=("NO", "SN")),), ("3.3.0",)),
    Row(
        "preview site",
        (offer("3.3.0"), offer("3.4.0rc1", channel="preview")),
        ("3.4.0rc1",),
        channel=Channel.PREVIEW,
    ),
    Row(
        "not newer",
        (offer("3.2.4"), offer("3.1.0", required=True)),
        (),
        {"3.2.4": RejectionReason.NOT_NEWER, "3.1.0": RejectionReason.NOT_NEWER},
    ),
    Row("bad", (offer("3.3.0"),), (), {"3.3.0": RejectionReason.MARKED_BAD}, bad=("3.3.0",)),
    Row(
        "bad, older one left",
        (offer("3.3.0"), offer("3.4.0")),
        ("3.3.0",),
        {"3.4.0": RejectionReason.MARKED_BAD},
        bad=("3.4.0",),
    ),
    Row("retry of a bad one", (offer("3.3.0"),), ("3.3.0",), bad=("3.3.0",), allow_bad=True),
    Row(
        "fits only over a newer one",
        (offer("3.4.0", ">=3.5"), offer("3.5.0")),
        ("3.5.0",),
        {"3.4.0": RejectionReason.UPGRADE_FROM},
    ),
    Row("does not fit", (offer("3.3.0", ">=3.2.5"),), (), {"3.3.0": RejectionReason.UPGRADE_FROM}),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_path_is_chosen(row: Row) -> None:
    path = choose_path(
        V("3.2.4"),
        row.offers,
        site="dakar",
        now=NOW,
        country="SN",
        channel=row.channel,
        agent=V("0.1.0"),
        bad=[V(version) for version in row.bad],
        allow_bad=row.allow_bad,
    )
    assert bool(path) == bool(row.hops)
    if isinstance(path, UpgradePath):
        assert tuple(hop.version for hop in path.hops) == row.hops
        assert path.target.version == row.hops[-1]
    else:
        assert row.hops == ()
    assert {r.offer.version: r.reason for r in path.rejected} == row.rejected
    for rejection in path.rejected:
        assert rejection.text.render()


def test_rejection_is_described() -> None:
    path = choose_path(
        V("3.2.4"),
        (
            offer("3.3.0", "==3.1", required=True),
            offer("3.4.0", ">=3.2"),
            offer("3.3.11", ">=3.3.10,<3.4.0"),
            offer("3.5.0", withdrawn=GONE),
        ),
        site="dakar",
        now=NOW,
        country="SN",
        channel=Channel.STABLE,
        agent=V("1"),
    )
    assert isinstance(path, NoUpgradePath)
    assert [r.text.render() for r in path.rejected] == [
        "upgrade only from 3.1",
        "upgrade only from 3.3.10 or later, earlier than 3.4.0",
        "required release 3.3.0 cannot be installed first",
        "withdrawn by the Secretariat: loses photographs",
    ]


def test_named_required_release_is_the_next_one() -> None:
    offers = (STOP, offer("3.4.0", required=True, agent=">=9"), offer("3.5.0", ">=3.2"))
    path = choose_path(
        V("3.2.4"),
        offers,
        site="dakar",
        now=NOW,
        country="SN",
        channel=Channel.STABLE,
        agent=V("0.1.0"),
    )
    assert {r.offer.version: r.stop for r in path.rejected} == {"3.4.0": None, "3.5.0": V("3.4.0")}


def test_release_candidate_of_the_agent_is_accepted() -> None:
    assert choose_path(
        V("3.2.4"),
        (offer("3.3.0", agent=">=0.1"),),
        site="dakar",
        now=NOW,
        country="SN",
        channel=Channel.STABLE,
        agent=V("0.2.0rc1"),
    )


FEED = (
    offer("3.3.0", required=True),
    offer("3.4.0"),
    offer("3.5.0", "==3.1"),
    offer("3.6.0", countries=("NO",)),
    offer("3.7.0", channel="preview"),
    offer("3.8.0", withdrawn=GONE),
    offer("3.9.0", agent=">=9"),
    offer("4.0.0"),
    offer("4.1.0", halted=ReleaseHalt(reason=GONE.reason)),
    offer("3.2.4"),
)


@pytest.mark.parametrize(
    ("target", "outcome"),
    [
        ("3.3.0", ("3.3.0",)),
        ("3.4.0", ("3.3.0", "3.4.0")),
        ("3.5.0", NO_PATH_TO_TARGET),
        ("3.6.0", TARGET_FOR_OTHER_COUNTRY),
        ("3.7.0", TARGET_OTHER_CHANNEL),
        ("3.8.0", TARGET_WITHDRAWN),
        ("3.9.0", TARGET_NEEDS_NEWER_AGENT),
        ("4.0.0", TARGET_BAD),
        ("4.1.0", TARGET_HALTED),
        ("3.2.4", TARGET_RUNS_HERE),
        ("3.0.0", TARGET_UNKNOWN),
    ],
)
def test_named_target_is_chosen_or_refused(
    target: str, outcome: tuple[str, ...] | ErrorMessage
) -> None:
    def choose() -> UpgradePath | NoUpgradePath:
        return choose_path(
            V("3.2.4"),
            FEED,
            site="dakar",
            now=NOW,
            country="SN",
            channel=Channel.STABLE,
            agent=V("1"),
            bad={V("4.0.0")},
            target=V(target),
        )

    if isinstance(outcome, tuple):
        path = choose()
        assert isinstance(path, UpgradePath)
        assert tuple(hop.version for hop in path.hops) == outcome
    else:
        with refused(outcome) as caught:
            choose()
        assert isinstance(caught.value, UpgradePathError)
        assert target in str(caught.value)
        assert (GONE.reason in str(caught.value)) is (outcome in (TARGET_WITHDRAWN, TARGET_HALTED))


def test_current_version_is_never_a_target() -> None:
    with refused(TARGET_RUNS_HERE) as caught:
        choose_path(
            V("3.2.4"),
            (),
            site="dakar",
            now=NOW,
            country="SN",
            channel=Channel.STABLE,
            agent=V("1"),
            target=V("3.2.4"),
        )
    assert caught.value.values == {"version": V("3.2.4")}


versions = st.sampled_from([f"3.{minor}.{patch}" for minor in range(6) for patch in range(2)])
specifiers = st.one_of(
    st.just(""),
    versions.map(lambda v: f">={v}"),
    versions.map(lambda v: f"=={v}"),
    st.tuples(versions, versions).map(lambda p: f">={min(p)},<{max(p)}"),
)
offers_ = st.builds(
    offer,
    versions,
    specifiers,
    required=st.booleans(),
    channel=st.sampled_from(["stable", "stable", "preview"]),
    countries=st.sampled_from([(), (), ("SN",), ("NO",)]),
    agent=st.sampled_from([">=0.1", ">=0.1", ">=9"]),
    withdrawn=st.sampled_from([None, None, None, GONE]),
)


@given(
    current=versions,
    feed=st.lists(offers_, unique_by=lambda o: o.version, max_size=10),
    bad=st.sets(versions, max_size=2),
    channel=st.sampled_from(Channel),
    target=st.one_of(st.none(), versions),
)
def test_forbidden_path_is_never_chosen(
    current: str, feed: list[Offer], bad: set[str], channel: Channel, target: str | None
) -> None:
    try:
        path = choose_path(
            V(current),
            feed,
            site="dakar",
            now=NOW,
            country="SN",
            channel=channel,
            agent=V("1"),
            bad={V(v) for v in bad},
            target=None if target is None else V(target),
        )
    except UpgradePathError:
        assert target is not None
        return
    if isinstance(path, NoUpgradePath):
        assert target is None
        assert {r.offer.version for r in path.rejected} == {o.version for o in feed}
        return
    assert target in (None, path.target.version)
    meant = [
        o.release_version
        for o in feed
        if o.required
        and o.withdrawn is None
        and (not o.countries or "SN" in o.countries)
        and (o.channel is Channel.STABLE or channel is Channel.PREVIEW)
    ]
    steps = [V(current), *(hop.release_version for hop in path.hops)]
    for (low, high), hop in zip(pairwise(steps), path.hops, strict=True):
        assert low < high
        assert hop.withdrawn is None
        assert hop.version not in bad
        assert not hop.countries or "SN" in hop.countries
        assert hop.channel is Channel.STABLE or channel is Channel.PREVIEW
        assert hop.agent == ">=0.1"
        assert SpecifierSet(hop.upgrade_from, prereleases=True).contains(low)
        assert not [stop for stop in meant if low < stop < high]


@given(feed=st.lists(offers_, unique_by=lambda o: o.version, max_size=8), current=versions)
def test_order_of_the_offers_is_irrelevant(feed: list[Offer], current: str) -> None:
    def choose(offers: list[Offer]) -> UpgradePath | NoUpgradePath:
        return choose_path(
            V(current),
            offers,
            site="dakar",
            now=NOW,
            country="SN",
            channel=Channel.STABLE,
            agent=V("1"),
        )

    assert choose(feed) == choose(feed[::-1])


def test_release_without_predecessors_is_for_first_installations_only() -> None:
    path = choose_path(
        V("3.2.4"),
        [offer("3.3.0", "")],
        site="port-louis",
        now=NOW,
        country="MU",
        channel=Channel.STABLE,
        agent=V("1"),
    )
    assert not path
    assert [row.reason for row in path.rejected] == [RejectionReason.UPGRADE_FROM]
    assert path.rejected[0].text.render() == "upgrade only from -"
