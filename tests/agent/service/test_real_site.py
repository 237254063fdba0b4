"""Tests of the real service on a real site, from an offered release to the end of its soak."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from demo.site import DemoSite, SiteOptions, version_of
from ncen_updater.agent.policy.automation import RehearsalStatus, ServiceAction
from ncen_updater.agent.storage.journal.jobs import JobKind
from ncen_updater.agent.storage.service_state import Assessment
from ncen_updater.common.messages import ExitCode
from tests.packaging.test_monitoring import ONLY_WITH_NOTIFY, find_missing_series
from tests.support.api_conformance import ordered, undescribed, undescribed_events
from tests.support.live_service import AMINA, BO, ServedSite, closed_hours, open_hours
from tests.support.sites import TrialFeed, connect, serve

SERVICE = {"timezone": "UTC", "required_approvals": 2}
DAY_S = 86_400


@pytest.fixture
def feed(tmp_path: Path) -> TrialFeed:
    made = TrialFeed(tmp_path)
    made.publish(["3.3.0"])
    return made


@pytest.fixture
def url(feed: TrialFeed) -> Iterator[str]:
    with serve(feed.directory) as address:
        yield address


@pytest.fixture
def served(tmp_path: Path, feed: TrialFeed, url: str) -> Iterator[ServedSite]:
    options = SiteOptions(
        feed_urls=(url,), cases=20, icomm=False, soak_s=0.5, health_timeout_s=15,
        settings={
            "service": {**SERVICE, "windows": [closed_hours()]},
            "retention": {"previous_days": 2 / DAY_S},
            "metrics": {"file": "metrics.prom"},
        },
    )  # fmt: skip
    with DemoSite(tmp_path / "site", None, options) as demo:
        connect(demo, feed)
        (demo.state / "inbox").mkdir()  # as the package does
        (demo.state / "inbox").chmod(0o1770)
        demo.start_app()
        site = ServedSite(demo)
        try:
            yield site
        finally:
            site.stop()


def rehearsed(served: ServedSite) -> bool:
    assessment = served.service_state().assessment
    return assessment is not None and assessment.rehearsal_status is RehearsalStatus.PASSED


def dossiers(served: ServedSite) -> list[str]:
    return [path.read_text("utf-8") for path in (served.demo.state / "dossiers").iterdir()]


def test_release_is_offered_installed_and_retained(served: ServedSite) -> None:
    before, began = served.records(), datetime.now(UTC)
    served.start()
    served.until("rehearsed", lambda: rehearsed(served))
    assert len(list((served.demo.state / "dossiers").iterdir())) == 2
    for kind in ("check", "prepare", "self-update"):
        assert ordered(served.socket, kind=kind)["result"]["exit_code"] is not None
    assert undescribed(served.socket) == []
    assert served.approve(AMINA) == 1
    served.until("one more has to approve", lambda: served.said("waiting for approval"))
    served.until("on paper, too", lambda: all("amina" in page for page in dossiers(served)))
    assert served.approve(BO) == 0
    served.until("next upgrade: ", lambda: served.said("next upgrade: "))
    served.hold("audit")
    served.until("on hold", lambda: served.said("upgrades on hold: audit"))
    served.configure(service={**SERVICE, "windows": [open_hours()]})
    served.tell(signal.SIGHUP)
    served.until("read again", lambda: served.said("configuration reloaded"))
    assert served.current() == "3.2.4", "neither on hold nor outside the window"
    served.unhold()
    served.until("installed", lambda: "change-finished" in served.kinds())
    assert version_of(served.demo).whole == "3.3.0"
    served.until("collected", lambda: "prune-finished" in served.kinds())
    served.until("at rest", served.at_rest)
    figures = served.demo.root / "metrics.prom"
    served.until(
        "what rules and panels need",
        lambda: find_missing_series(figures.read_text("utf-8")) <= ONLY_WITH_NOTIFY,
    )
    assert served.judge(before, "3.2.4") == []
    assert all("bo" in page for page in dossiers(served)), "what was approved stays on paper"
    assert served.outside(open_hours(), began) == []
    assert undescribed(served.socket, "fr") == []
    assert undescribed_events(served.socket, "prune-finished") == []
    kinds = served.kinds()
    for kind in (
        "rehearsal-passed",
        "approved",
        "predicted",
        "downtime-compared",
        "prune-finished",
    ):
        assert kind in kinds, kind
    assert served.stop() == 0


def test_older_release_is_chosen_rehearsed_approved_and_installed(
    served: ServedSite, feed: TrialFeed
) -> None:
    """A director goes to 3.3.0 while a newer release is out: rehearsed, approved, and installed."""
    feed.publish(["3.3.4"])
    served.configure(service={**SERVICE, "windows": [closed_hours()]})
    served.start()
    served.until("the newest is rehearsed", lambda: rehearsed(served))
    newest = served.service_state().assessment
    assert newest is not None
    assert newest.target == "3.3.4"
    served.order(JobKind.REHEARSE, version="3.3.0")
    served.tell(signal.SIGHUP)  # as the interface wakes it; else it looks after a while

    def other() -> Assessment | None:
        found = served.service_state().assessment
        return found.find_release("3.3.0") if found is not None else None

    served.until("it can be approved, too", lambda: other() is not None)
    chosen = other()
    assert chosen is not None
    assert chosen.binding
    assert chosen.binding != newest.binding
    seen = newest.last_event
    served.approve(AMINA, "3.3.0")
    served.tell(signal.SIGHUP)

    def has_new_assessment() -> bool:
        found = served.service_state().assessment
        with served.journal() as journal:
            return found is not None and found.last_event == journal.read_last_event_number() > seen

    served.until("assessed", has_new_assessment)
    found = served.service_state().assessment
    assert found is not None
    assert (found.target, found.approved) == ("3.3.4", ()), "one of two holds nothing up"
    assert served.approve(BO, "3.3.0") == 0
    served.tell(signal.SIGHUP)
    served.until("it is what comes next", lambda: served.said("next upgrade: 3.3.0"))
    found = served.service_state().assessment
    assert found is not None
    assert (found.target, found.newest, found.approved) == ("3.3.0", "3.3.4", ("3.3.0",))
    served.configure(service={**SERVICE, "windows": [open_hours()]})
    served.tell(signal.SIGHUP)
    served.until("installed", lambda: served.current() == "3.3.0")
    served.until("the newest is next again", lambda: served.said("3.3.4 is not rehearsed"))
    assert served.stop() == 0


def test_failed_release_is_rolled_back_and_marked_bad(served: ServedSite, feed: TrialFeed) -> None:
    feed.publish(["3.3.4"])
    before = served.records()
    served.configure(service={"timezone": "UTC", "mode": "automatic", "windows": [open_hours()]})
    served.start()
    served.until("failed", lambda: ServiceAction.UPGRADE in served.service_state().failures)
    served.until("remembered", lambda: served.said("3.3.0 is ready"))
    served.until("went around it", lambda: served.current() == "3.3.0")
    served.until("at rest", served.at_rest)
    assert "release-bad" in served.kinds()
    assert served.judge(before, "3.2.4") == []


def test_machine_crash_during_an_upgrade_leaves_one_consistent_version(
    served: ServedSite,
) -> None:
    """The stand-in for a power cut: service, child and application are killed together."""
    before = served.records()
    served.configure(service={"timezone": "UTC", "mode": "automatic", "windows": [open_hours()]})
    served.start()
    served.until("officers are out", served.demo.maintenance_file.exists)
    served.kill()
    served.demo.stop_app()
    ended = subprocess.run(
        [sys.executable, "-m", "ncen_updater.agent.cli.main", "--config",
         str(served.demo.config_path), "resume", "--boot"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert not served.demo.app_running(), "the system starts it, after us"
    served.demo.start_app()
    assert served.judge(before, "3.2.4") == []
    served.start()
    served.until("upgraded after all", lambda: served.current() == "3.3.0")
    served.until("at rest", served.at_rest)
    assert served.judge(before, "3.2.4") == []


def test_unreachable_feed_causes_no_notification(served: ServedSite) -> None:
    gone = SiteOptions(feed_urls=("http://127.0.0.1:9/",)).feed_urls
    served.configure(feed={"urls": list(gone)})
    served.start()
    served.until("asked", lambda: ServiceAction.CHECK_FEED in served.service_state().failures)
    number = served.order(JobKind.CHECK)
    served.until("answered", lambda: served.result(number) is not None)
    result = served.result(number)
    assert result is not None
    assert result["exit_code"] == ExitCode.NETWORK
    assert served.current() == "3.2.4"
