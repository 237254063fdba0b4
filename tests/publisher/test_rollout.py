"""Tests of waves, halts, channels and countries: as events, in text, and at a site."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from packaging.version import Version

from demo.release_flow import publish_release
from ncen_updater.common.cli.render import format_scheduled_time
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import NOTHING_TO_DO, OFFER_HALTED
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.feed_summary import get_view_path, read_feed_summary
from ncen_updater.feed.http_fetcher import HttpFetcher
from ncen_updater.feed.tuf_source import TufReleaseSource
from ncen_updater.feed.upgrade_path import NoUpgradePath, RejectionReason, UpgradePath, choose_path
from ncen_updater.formats.manifest import Channel
from ncen_updater.formats.release_document import Withdrawal
from ncen_updater.formats.rollout import ReleaseHalt, RolloutWave
from ncen_updater.publisher.build.release_build import build_release
from ncen_updater.publisher.feed.feed_directory import FeedDirectory, FeedState
from ncen_updater.publisher.new.trial import FeedKeys, create_feed, publish_draft
from ncen_updater.publisher.signing.draft import (
    Draft,
    draft_releases,
    draft_waves,
    draft_withdrawal,
    find_offer,
)
from ncen_updater.publisher.signing.event_diff import describe_event
from ncen_updater.publisher.signing.signing_event import SigningEvent
from tests.publisher.feeds import make_audience, make_channel, make_halt, make_halt_end
from tests.publisher.releases import NOW, clock, ring, write_release
from tests.support.errors import refused
from tests.support.http_server import WebServer

TOMORROW = NOW + timedelta(days=1)
FIRST, SECOND = RolloutWave(opens=NOW, percent=1), RolloutWave(opens=TOMORROW, percent=100)
AT = format_scheduled_time(NOW)
LATER = format_scheduled_time(TOMORROW)
HALT = ReleaseHalt(reason="prints blank permits")


@pytest.fixture
def keys(tmp_path: Path) -> FeedKeys:
    return ring(tmp_path)


@pytest.fixture
def feed(tmp_path: Path, keys: FeedKeys) -> Path:
    """A feed with 3.3.0, open to all, that plain tufup clients are shown too."""
    create_feed(tmp_path / "feed", keys, clock, plain_tufup=["ncen"])
    publish_release(tmp_path / "feed", [write_release(tmp_path / "r1")], keys, clock)
    return tmp_path / "feed"


def words(feed: Path, place: Path, draft: Draft) -> list[str]:
    event = SigningEvent.create(place, draft.title, draft.roles, FeedDirectory(feed).read_state())
    return [str(line.text) for line in describe_event(event) if line.role == "ncen"][4:]


class Site:
    """A real client of the feed over HTTP, whose clock can be set."""

    def __init__(self, place: Path, feed: Path, url: str, name: str = "dakar") -> None:
        self.now = NOW
        self.url, self.name = url, name
        self.state = place
        self.source = TufReleaseSource(
            "ncen",
            state=place,
            trusted_root=feed / "metadata" / "1.root.json",
            make_fetcher=lambda: HttpFetcher((url,)),
            now=lambda: self.now,
        )

    def path(self, target: str | None = None) -> UpgradePath | NoUpgradePath:
        return choose_path(
            Version("3.2.4"),
            self.source.refresh().offers,
            site=self.name,
            country="SN",
            channel=Channel.STABLE,
            agent=Version("1"),
            now=self.source.get_reference_time(),
            target=Version(target) if target else None,
        )

    def reasons(self) -> list[RejectionReason]:
        path = self.path()
        return [] if path else [rejection.reason for rejection in path.rejected]


@pytest.fixture
def site(tmp_path: Path, feed: Path) -> Iterator[Site]:
    with WebServer(feed) as server:
        site = Site(tmp_path / "site", feed, server.url)
        yield site
        site.source.close()


def test_release_is_opened_halted_and_resumed(
    site: Site, feed: Path, keys: FeedKeys, tmp_path: Path
) -> None:
    def publish(draft: Draft) -> None:
        publish_draft(feed, draft, keys, clock)

    assert site.reasons() == []
    publish(draft_waves(FeedDirectory(feed).read_state(), "ncen", "3.3.0", [FIRST, SECOND], NOW))
    assert site.reasons() == [RejectionReason.WAVE_NOT_OPEN]
    named = site.path("3.3.0")
    assert named
    site.now = TOMORROW
    assert site.reasons() == []
    chosen = site.path()
    assert isinstance(chosen, UpgradePath)
    publish(make_halt(FeedDirectory(feed).read_state(), "ncen", "3.3.0", HALT, NOW))
    with refused(OFFER_HALTED) as caught:
        Site(tmp_path / "late", feed, site.url).source.download_release(
            chosen.target, SilentProgress()
        )
    assert HALT.reason in str(caught.value)
    assert site.reasons() == [RejectionReason.HALTED]
    publish(make_halt_end(FeedDirectory(feed).read_state(), "ncen", "3.3.0", NOW))
    assert site.reasons() == []
    site.now = NOW
    assert site.reasons() == [RejectionReason.WAVE_NOT_OPEN]
    publish(draft_waves(FeedDirectory(feed).read_state(), "ncen", "3.3.0", [], NOW))
    assert site.reasons() == []
    # What was signed of the release itself still fits, and is fetched whole.
    assert site.source.download_release(
        site.source.refresh().offers[0], SilentProgress()
    ).archive.is_file()


def test_clock_floor_applies(site: Site, feed: Path, keys: FeedKeys) -> None:
    publish_draft(
        feed,
        draft_waves(FeedDirectory(feed).read_state(), "ncen", "3.3.0", [SECOND], NOW),
        keys,
        clock,
    )
    assert site.reasons() == [RejectionReason.WAVE_NOT_OPEN]
    # Signers sign something the day after: from then on it is that day, whatever a clock shows.
    later: Callable[[], datetime] = lambda: TOMORROW  # noqa: E731
    publish_draft(
        feed,
        make_channel(FeedDirectory(feed).read_state(), "ncen", "3.3.0", Channel.PREVIEW, TOMORROW),
        keys,
        later,
    )
    publish_draft(
        feed,
        make_channel(FeedDirectory(feed).read_state(), "ncen", "3.3.0", Channel.STABLE, TOMORROW),
        keys,
        later,
    )
    assert site.now == NOW
    assert site.reasons() == []
    # A clock that is far ahead opens nothing: the metadata has expired by then.
    site.now = NOW + timedelta(days=400)
    with pytest.raises(UpdaterError) as caught:
        site.path()
    assert caught.value.code in ("NU-2007", "NU-2008", "NU-2023")


def test_channel_and_countries_are_changeable(site: Site, feed: Path, keys: FeedKeys) -> None:
    def publish(draft: Draft) -> None:
        publish_draft(feed, draft, keys, clock)

    publish(make_channel(FeedDirectory(feed).read_state(), "ncen", "3.3.0", Channel.PREVIEW, NOW))
    assert site.reasons() == [RejectionReason.OTHER_CHANNEL]
    publish(make_channel(FeedDirectory(feed).read_state(), "ncen", "3.3.0", Channel.STABLE, NOW))
    publish(make_audience(FeedDirectory(feed).read_state(), "ncen", "3.3.0", ["NO"], NOW))
    assert site.reasons() == [RejectionReason.OTHER_COUNTRY]
    publish(
        make_audience(FeedDirectory(feed).read_state(), "ncen", "3.3.0", ["SN", "NO", "SN"], NOW)
    )
    assert site.source.refresh().offers[0].countries == ("NO", "SN")
    assert site.source.download_release(
        site.source.refresh().offers[0], SilentProgress()
    ).archive.is_file()


def test_new_release_is_drafted_with_its_waves(feed: Path, tmp_path: Path) -> None:
    build_release(write_release(tmp_path / "r2", "3.4.0"), tmp_path / "staging")
    draft = draft_releases(
        FeedDirectory(feed).read_state(), tmp_path / "staging", NOW, [FIRST, SECOND]
    )
    shown = words(feed, tmp_path / "event", draft)
    assert f"ncen 3.4.0: waves: 1 % from {AT}, 100 % from {LATER}" in shown
    assert set(draft.roles) == {"ncen"}  # not in the list of plain clients, who know no waves


def test_plain_clients_see_only_fully_opened_releases(feed: Path, keys: FeedKeys) -> None:
    def listed(draft: Draft | None) -> bool:
        if draft is not None:
            publish_draft(feed, draft, keys, clock)
        return "ncen-3.3.0.tar.gz" in FeedDirectory(feed).read_state().targets.signed.targets

    def state() -> FeedState:
        return FeedDirectory(feed).read_state()

    assert listed(None)
    assert not listed(make_halt(state(), "ncen", "3.3.0", HALT, NOW))
    assert not listed(draft_waves(state(), "ncen", "3.3.0", [SECOND], NOW))
    assert not listed(make_halt(state(), "ncen", "3.3.0", HALT, NOW))
    assert not listed(make_halt_end(state(), "ncen", "3.3.0", NOW))
    assert listed(draft_waves(state(), "ncen", "3.3.0", [], NOW))
    assert not listed(draft_withdrawal(state(), "ncen", "3.3.0", Withdrawal(reason="x"), NOW))


Make = Callable[[FeedState], Draft]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda s: draft_waves(
                s, "ncen", "3.3.0", [RolloutWave(opens=NOW, percent=5, countries=("SN", "MU"))], NOW
            ),
            [f"ncen 3.3.0: waves: 5 % in MU, SN from {AT}"],
        ),
        (
            lambda s: make_halt(s, "ncen", "3.3.0", HALT, NOW),
            ["HALTED: ncen 3.3.0: prints blank permits"],
        ),
        (
            lambda s: make_channel(s, "ncen", "3.3.0", Channel.PREVIEW, NOW),
            ["ncen 3.3.0: channel 'preview' (before: stable)"],
        ),
        (
            lambda s: make_audience(s, "ncen", "3.3.0", ["NO"], NOW),
            ["ncen 3.3.0: countries: NO (before: all)"],
        ),
    ],
)
def test_drafts_are_described(make: Make, expected: list[str], feed: Path, tmp_path: Path) -> None:
    assert words(feed, tmp_path / "event", make(FeedDirectory(feed).read_state())) == expected


def test_removals_are_described(feed: Path, keys: FeedKeys, tmp_path: Path) -> None:
    def state() -> FeedState:
        return FeedDirectory(feed).read_state()

    publish_draft(feed, draft_waves(state(), "ncen", "3.3.0", [FIRST, SECOND], NOW), keys, clock)
    publish_draft(feed, make_halt(state(), "ncen", "3.3.0", HALT, NOW), keys, clock)
    assert words(feed, tmp_path / "a", make_halt_end(state(), "ncen", "3.3.0", NOW)) == [
        "ncen 3.3.0: halt ends"
    ]
    assert words(feed, tmp_path / "b", draft_waves(state(), "ncen", "3.3.0", [], NOW)) == [
        "ncen 3.3.0: halt ends",
        "WARNING: ncen 3.3.0: waves: all sites at once"
        f" (before: 1 % from {AT}, 100 % from {LATER})",
    ]
    wider = [RolloutWave(opens=NOW, percent=20)]
    draft = draft_waves(state(), "ncen", "3.3.0", wider, NOW, add=True)
    assert "WARNING" not in "".join(words(feed, tmp_path / "c", draft))
    signed = draft.roles["ncen"].signed.targets["releases/ncen/3.3.0.json"].custom["ncen"]
    assert [w["percent"] for w in signed["waves"]] == [1, 20, 100]
    assert "halted" not in signed


def test_invalid_rollout_changes_are_refused(feed: Path, keys: FeedKeys) -> None:
    state = FeedDirectory(feed).read_state()
    cases: tuple[tuple[type[UpdaterError], Callable[[], Draft]], ...] = (
        (UpdaterError, lambda: make_halt_end(state, "ncen", "3.3.0", NOW)),
        (UpdaterError, lambda: make_audience(state, "ncen", "3.3.0", [], NOW)),
        (UpdaterError, lambda: make_halt(state, "ncen", "9.9.9", HALT, NOW)),
        (UpdaterError, lambda: make_halt(state, "zebra", "3.3.0", HALT, NOW)),
    )
    for error, make in cases:
        with pytest.raises(error):
            make()
    gone = draft_withdrawal(state, "ncen", "3.3.0", Withdrawal(reason="loses cases"), NOW)
    publish_draft(feed, gone, keys, clock)
    with refused(NOTHING_TO_DO) as caught:
        draft_waves(FeedDirectory(feed).read_state(), "ncen", "3.3.0", [SECOND], NOW)
    assert "withdrawn" in str(caught.value)
    assert find_offer(FeedDirectory(feed).read_state(), "ncen", "3.3.0").waves == ()


def test_sites_read_the_advice_of_a_withdrawn_release(
    site: Site, feed: Path, keys: FeedKeys
) -> None:
    taken = Withdrawal(reason="loses cases", advice="go back to 3.2.4")
    publish_draft(
        feed,
        draft_withdrawal(FeedDirectory(feed).read_state(), "ncen", "3.3.0", taken, NOW),
        keys,
        clock,
    )
    site.source.refresh()
    view = read_feed_summary(get_view_path(site.state, "ncen"))
    assert view is not None
    notice = view.notices["3.3.0"]
    assert (notice.reason, notice.advice) == ("loses cases", "go back to 3.2.4")
    assert UTC is view.checked_at.tzinfo
