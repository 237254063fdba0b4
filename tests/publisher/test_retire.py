"""Tests of retirement: old releases leave the metadata, and no site loses its upgrade path."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from demo.release_flow import publish_release, withdraw
from ncen_updater.common.messages import (
    ALREADY_PUBLISHED,
    NOTHING_TO_DO,
    TARGET_UNKNOWN,
    UNKNOWN_RELEASE,
    UNSOUND_DRAFT,
)
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.http_fetcher import HttpFetcher
from ncen_updater.feed.tuf_source import TufReleaseSource
from ncen_updater.feed.upgrade_path import UpgradePath, choose_path
from ncen_updater.formats.manifest import Channel
from ncen_updater.formats.release_document import Offer, Withdrawal
from ncen_updater.formats.rollout import ReleaseHalt, RolloutWave
from ncen_updater.publisher.build.release_build import build_release
from ncen_updater.publisher.feed.feed_directory import FeedDirectory, FeedRepository, list_offers
from ncen_updater.publisher.feed.role_policy import RETIRED_FIELD, read_retired_versions
from ncen_updater.publisher.fleet.store import read_release_digests
from ncen_updater.publisher.new.trial import FeedKeys, create_feed, publish_draft
from ncen_updater.publisher.review.event_review import summarize_event
from ncen_updater.publisher.signing.draft import Draft, draft_releases, draft_retirement
from ncen_updater.publisher.signing.event_diff import describe_event
from ncen_updater.publisher.signing.metadata_rules import list_retirable_releases
from ncen_updater.publisher.signing.signing_event import SigningEvent
from tests.publisher.releases import NOW, clock, ring, write_release
from tests.support.errors import refused
from tests.support.http_server import WebServer

GONE = Withdrawal(reason="loses cases", advice="Install 1.5")


def offer(version: str, upgrade_from: str = ">=1.0", **more: Any) -> Offer:
    archive = {"target": f"ncen-{version}.tar.gz", "length": 1, "sha256": "0" * 64}
    return Offer.model_validate(
        {
            "product": "ncen", "version": version, "upgrade_from": upgrade_from,
            "archive": archive, "unpacked_bytes": 1, **more,
        }
    )  # fmt: skip


def retirable(limit: str, *offers: Offer, retired: tuple[str, ...] = ()) -> list[str]:
    found = list_retirable_releases(offers, retired, Version(limit), NOW)
    return [one.version for one in found]


def test_releases_below_the_limit_retire() -> None:
    assert retirable("1.3", *map(offer, ("1.0", "1.1", "1.2", "1.3", "1.4"))) == [
        "1.0", "1.1", "1.2",
    ]  # fmt: skip


@pytest.mark.parametrize("stays", [{"required": True}, {"withdrawn": GONE}])
def test_required_and_withdrawn_releases_stay(stays: dict[str, Any]) -> None:
    releases = [offer("1.0"), offer("1.1", **stays), offer("1.2"), offer("1.3")]
    assert retirable("1.3", *releases) == ["1.0", "1.2"]


def test_newest_release_that_is_offered_stays() -> None:
    """New sites are adopted with it, although no upgrade leads to it."""
    assert retirable("1.3", offer("1.1"), offer("1.2", ""), offer("1.3", withdrawn=GONE)) == ["1.1"]


def test_oldest_release_stays_if_required() -> None:
    """Sites of a version that was never in the feed may still have to stop there."""
    assert retirable("1.3", offer("1.1", required=True), offer("1.2"), offer("1.3")) == ["1.2"]


def test_release_that_older_sites_need_stays() -> None:
    """From 1.0 and 1.1 nothing leads to 2.0 but 1.5 or 1.6; the newer one is enough."""
    releases = [offer(one) for one in ("1.0", "1.1", "1.5", "1.6")]
    assert retirable("2.0", *releases, offer("2.0", ">=1.5"), offer("2.1", ">=1.5")) == [
        "1.0", "1.1", "1.5",
    ]  # fmt: skip


def test_release_needed_before_a_required_one_stays() -> None:
    releases = [offer("1.0"), offer("1.4"), offer("1.5", ">=1.4", required=True), offer("1.6")]
    assert retirable("2.0", *releases, offer("2.0")) == ["1.0", "1.6"]


def test_release_stays_if_the_newer_ones_lead_less_far() -> None:
    """2.0 excludes 1.2, so from 1.0 it is reached by 1.1 alone."""
    releases = [offer("1.0"), offer("1.1"), offer("1.2"), offer("2.0", "==1.1")]
    assert retirable("1.2", *releases) == ["1.0"]


def test_each_country_and_channel_keeps_its_path() -> None:
    """Senegal and preview sites reach their newest release over an older one of theirs."""
    senegal = offer("1.5", "==1.1", countries=("SN",))
    releases = [offer("1.0"), offer("1.1", countries=("SN",)), offer("1.2"), senegal]
    assert retirable("1.2", *releases, offer("1.6", countries=("KE",))) == ["1.0"]
    preview = [offer("1.0"), offer("1.1", channel=Channel.PREVIEW), offer("1.2")]
    assert retirable("1.2", *preview, offer("1.5", "==1.1", channel=Channel.PREVIEW)) == ["1.0"]


@pytest.mark.parametrize(
    "only",
    [
        {"countries": ("SN",)},
        {"channel": Channel.PREVIEW},
        {"halted": ReleaseHalt(reason="prints blank permits")},
        {"withdrawn": GONE},
        {"waves": (RolloutWave(opens=NOW, percent=50),)},
        {"waves": (RolloutWave(opens=NOW, percent=100, countries=("SN",)),)},
        {"waves": (RolloutWave(opens=NOW + timedelta(days=1), percent=100),)},
    ],
)
def test_release_not_open_to_all_sites_replaces_no_other(only: dict[str, Any]) -> None:
    releases = [offer("1.0"), offer("1.1"), offer("1.2"), offer("1.3", **only)]
    assert retirable("1.3", *releases) == ["1.0", "1.1"]
    opened = offer("1.3", waves=(RolloutWave(opens=NOW, percent=100),))
    assert retirable("1.3", *releases[:3], opened) == ["1.0", "1.1", "1.2"]


def test_sites_of_releases_retired_before_keep_their_path() -> None:
    """1.3 alone leads on from 1.0, which retired earlier and may still be in use."""
    releases = [offer("1.3"), offer("1.4", ">=1.2"), offer("1.5", ">=1.2")]
    assert retirable("1.5", *releases) == ["1.3", "1.4"]
    assert retirable("1.5", *releases, retired=("1.0",)) == ["1.4"]


def test_versions_without_any_path_hinder_no_retirement() -> None:
    releases = [offer("1.0"), offer("1.1"), offer("2.0", ""), offer("2.1", ">=2.0")]
    assert retirable("2.0", *releases) == ["1.0"]  # 1.1 is the end of the path from 1.0
    assert retirable("1.1", *releases) == ["1.0"]


RANGES = st.sampled_from(["", ">=1.0", ">=1.2", ">=1.4", "==1.1", "==1.3", "!=1.4", ">=1.1,!=1.3"])


@st.composite
def any_releases(draw: st.DrawFn) -> list[Offer]:
    """Up to nine releases with any ranges, audiences, stops and halts."""
    rarely = st.sampled_from([False, False, False, True])
    return [
        offer(
            f"1.{number}",
            draw(RANGES),
            required=draw(rarely),
            countries=("SN",) if draw(rarely) else (),
            channel=Channel.PREVIEW if draw(rarely) else Channel.STABLE,
            halted=ReleaseHalt(reason="prints blank permits") if draw(rarely) else None,
            withdrawn=GONE if draw(rarely) else None,
        )
        for number in range(draw(st.integers(2, 9)))
    ]


@settings(max_examples=300, deadline=None)
@given(releases=any_releases(), limit=st.integers(1, 9), missing=st.integers(0, 3))
def test_no_site_loses_its_newest_release(releases: list[Offer], limit: int, missing: int) -> None:
    """Judged by the function with which sites choose their path."""
    retired = [one.version for one in releases[:missing]]
    releases = releases[missing:]
    leaving = set(retirable(f"1.{limit}", *releases, retired=tuple(retired)))
    remaining = [one for one in releases if one.version not in leaving]
    for country, channel in itertools.product(("SN", "KE"), Channel):
        for start in [*retired, *(one.version for one in releases)]:
            before, after = (
                choose_path(
                    Version(start), offers, site="dakar", country=country, channel=channel,
                    agent=Version("1"), now=NOW,
                )
                for offers in (releases, remaining)
            )  # fmt: skip
            newest = before.target.version if isinstance(before, UpgradePath) else None
            assert (after.target.version if isinstance(after, UpgradePath) else None) == newest


VERSIONS = ("3.3.0", "3.3.1", "3.4.0", "3.4.1")


@pytest.fixture
def keys(tmp_path: Path) -> FeedKeys:
    return ring(tmp_path)


@pytest.fixture
def feed(tmp_path: Path, keys: FeedKeys) -> Path:
    """A feed with four releases, the second withdrawn, for plain tufup clients too."""
    create_feed(tmp_path / "feed", keys, clock, plain_tufup=["ncen"])
    for version in VERSIONS:
        release = write_release(tmp_path / version, version)
        publish_release(tmp_path / "feed", [release], keys, clock, packs=True)
    withdraw(tmp_path / "feed", "ncen", "3.3.1", GONE, keys, clock)
    return tmp_path / "feed"


def retirement(feed: Path, limit: str) -> Draft:
    return draft_retirement(FeedDirectory(feed).read_state(), "ncen", limit, NOW)


def listed(feed: Path) -> list[str]:
    state = FeedDirectory(feed).read_state()
    return [one.version for one in list_offers(state.delegated["ncen"].signed)]


@pytest.fixture
def source(tmp_path: Path, feed: Path) -> Iterator[TufReleaseSource]:
    with WebServer(feed) as server:
        made = TufReleaseSource(
            "ncen",
            state=tmp_path / "site",
            trusted_root=feed / "metadata" / "1.root.json",
            make_fetcher=lambda: HttpFetcher((server.url,)),
            now=clock,
        )
        yield made
        made.close()


def path_from(source: TufReleaseSource, current: str, target: str | None = None) -> list[str]:
    found = choose_path(
        Version(current), source.refresh().offers, site="dakar", country="SN",
        channel=Channel.STABLE, agent=Version("1"), now=NOW,
        target=Version(target) if target else None,
    )  # fmt: skip
    return [hop.version for hop in found.hops] if isinstance(found, UpgradePath) else []


def test_retired_release_leaves_the_metadata_with_all_its_files(
    feed: Path, keys: FeedKeys, source: TufReleaseSource
) -> None:
    planned = source.refresh().offers[0]
    publish_draft(feed, retirement(feed, "3.4.1"), keys, clock)
    assert listed(feed) == ["3.3.1", "3.4.1"]  # 3.3.1 is withdrawn: its sites must be told
    state = FeedDirectory(feed).read_state()
    names = [*state.delegated["ncen"].signed.targets, *state.targets.signed.targets]
    assert not [one for one in names if "3.3.0." in one or one.endswith(("-3.3.0", "-3.4.0"))]
    assert [one for one in names if one.startswith("trees/")] == [
        "trees/ncen/3.3.1.json.zst", "trees/ncen/3.4.1.json.zst",
    ]  # fmt: skip
    for running in ("3.2.4", "3.3.0", "3.4.0"):
        assert path_from(source, running) == ["3.4.1"]
    with refused(TARGET_UNKNOWN):
        path_from(source, "3.2.4", "3.3.0")
    with refused(TARGET_UNKNOWN):  # planned before; neither changed nor withdrawn
        source.download_release(planned, SilentProgress())


def test_signers_read_which_releases_retire(feed: Path, tmp_path: Path) -> None:
    draft = retirement(feed, "3.4.1")
    state = FeedDirectory(feed).read_state()
    event = SigningEvent.create(tmp_path / "event", draft.title, draft.roles, state)
    lines = [line for line in describe_event(event) if not line.annex and line.role == "ncen"][3:]
    assert [str(line.text) for line in lines] == ["retired: 3.3.0, 3.4.0"]
    assert [text.render() for text in summarize_event(event)] == [
        "Retires 2 releases of ncen: sites can no longer install them. Sites that run them can"
        " still upgrade.",
        "Removes 2 files from the metadata.",  # those that plain tufup clients read
    ]


def test_number_of_a_retired_release_is_not_used_again(
    feed: Path, keys: FeedKeys, tmp_path: Path
) -> None:
    publish_draft(feed, retirement(feed, "3.4.1"), keys, clock)
    staging = tmp_path / "staging"
    changed = write_release(tmp_path / "changed", "3.3.0")
    (changed / "bin/app").write_text("#!/bin/sh\n")
    build_release(changed, staging)
    with refused(ALREADY_PUBLISHED):
        draft_releases(FeedDirectory(feed).read_state(), staging, NOW, feed=FeedDirectory(feed))


def test_staging_directory_may_still_contain_retired_releases(
    feed: Path, keys: FeedKeys, tmp_path: Path
) -> None:
    publish_draft(feed, retirement(feed, "3.4.1"), keys, clock)
    place, staging = FeedDirectory(feed), tmp_path / "staging"
    build_release(tmp_path / "3.3.0", staging)
    with refused(NOTHING_TO_DO, match="already published"):
        draft_releases(place.read_state(), staging, NOW, feed=place)
    build_release(write_release(tmp_path / "next", "3.5.0"), staging)
    draft = draft_releases(place.read_state(), staging, NOW, feed=place)
    assert draft.title == "Release of ncen 3.5.0"
    publish_draft(feed, draft, keys, later, [staging])
    assert listed(feed) == ["3.3.1", "3.4.1", "3.5.0"]


def test_receipts_of_retired_releases_are_known(feed: Path, keys: FeedKeys) -> None:
    before = read_release_digests(FeedDirectory(feed))
    assert sorted(before.values()) == [("ncen", version) for version in VERSIONS]
    publish_draft(feed, retirement(feed, "3.4.0"), keys, clock)
    publish_draft(feed, retirement(feed, "3.4.1"), keys, clock)
    assert read_release_digests(FeedDirectory(feed)) == before
    for path in (feed / "metadata").glob("[4-7].ncen.json"):  # a copy without all versions
        path.unlink()
    assert sorted(read_release_digests(FeedDirectory(feed)).values()) == [
        ("ncen", version) for version in ("3.3.0", "3.3.1", "3.4.1")
    ]  # fmt: skip


def test_nothing_to_retire_is_said(feed: Path) -> None:
    with refused(NOTHING_TO_DO):
        retirement(feed, "3.3.0")
    with refused(UNKNOWN_RELEASE):
        retirement(feed, "3.9")


def removal(feed: Path, versions: tuple[str, ...], retired: list[str]) -> Draft:
    """Draft what the program refuses to draft: remove releases by hand."""
    state = FeedDirectory(feed).read_state()
    repository = FeedRepository(state, state.policy, NOW)
    with repository.edit_targets("ncen") as targets:
        for version in versions:
            for name in [one for one in targets.targets if version in one.rpartition("--")[2]]:
                del targets.targets[name]
        targets.unrecognized_fields[RETIRED_FIELD] = retired
    return Draft("Removal", repository.changed)


@pytest.mark.parametrize(
    ("versions", "retired", "reason"),
    [
        (("3.3.0",), [], "does not name"),
        ((), ["3.3.0"], "does not name"),
        (("3.3.0", "3.3.1"), ["3.3.0", "3.3.1"], "3.3.1 is required or withdrawn"),
        (("3.4.1", "3.4.0"), ["3.4.0", "3.4.1"], "sites of 3.4.0 need 3.4.1"),
    ],
)
def test_signers_programs_refuse_lost_releases(
    feed: Path, tmp_path: Path, versions: tuple[str, ...], retired: list[str], reason: str
) -> None:
    draft = removal(feed, versions, retired)
    state = FeedDirectory(feed).read_state()
    with refused(UNSOUND_DRAFT, match=reason):
        SigningEvent.create(tmp_path / "event", draft.title, draft.roles, state)


def test_retired_versions_stay_known(feed: Path, keys: FeedKeys, tmp_path: Path) -> None:
    publish_draft(feed, retirement(feed, "3.4.0"), keys, clock)
    publish_draft(feed, retirement(feed, "3.4.1"), keys, clock)
    signed = FeedDirectory(feed).read_state().delegated["ncen"].signed
    assert read_retired_versions(signed) == ("3.3.0", "3.4.0")
    publish_release(feed, [write_release(tmp_path / "n", "3.5.0")], keys, later)
    signed = FeedDirectory(feed).read_state().delegated["ncen"].signed
    assert read_retired_versions(signed) == ("3.3.0", "3.4.0")


def later() -> datetime:
    return datetime(2026, 11, 24, 13, 0, tzinfo=UTC)
