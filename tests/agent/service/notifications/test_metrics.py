"""Tests of metrics, as Prometheus itself reads the file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.engine.rehearsal.downtime_forecasts import LastDowntime
from ncen_updater.agent.model.change import ChangeState
from ncen_updater.agent.model.event_names import NotificationKind
from ncen_updater.agent.policy.availability import Availability, AvailabilityState
from ncen_updater.agent.policy.downtime_prediction import DowntimeRange
from ncen_updater.agent.reports.status import JournalSnapshot, SiteStatus
from ncen_updater.agent.service.notifications.metrics import (
    METRIC_FAMILIES,
    PREFIX,
    collect_metrics,
    make_sample,
    render_metrics,
    write_metrics,
)
from ncen_updater.agent.service.notifications.outbox import Outbox
from ncen_updater.agent.storage.journal.site_history import FailedReleaseRecord, HoldRecord
from ncen_updater.agent.storage.service_state import Assessment, ServiceState
from ncen_updater.feed.feed_summary import FeedSummary
from tests.agent.cli.site import CHANGE, TrialSite
from tests.support.simulated_site import PLACES

MONITORING = Path(__file__).parents[4] / "docs/reference/monitoring.md"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STUCK = replace(CHANGE, state=ChangeState.STUCK)
FULL = SiteStatus(
    NOW,
    PLACES,
    current="3.2.4",
    availability=Availability(AvailabilityState.MAINTENANCE),
    journal=JournalSnapshot(
        last_event=42,
        open_change=STUCK,
        holds=(HoldRecord(1, "fair", "amina", NOW),),
        bad_releases=(FailedReleaseRecord("ncen", "3.3.0", "NU-4150", 1, NOW),),
    ),
    last_downtime=LastDowntime(17.5, DowntimeRange(10.0, 15.0, 20.0)),
    service_state=ServiceState(Assessment(last_event=42, target="3.4.0")),
    feed_view=FeedSummary(
        NOW - timedelta(hours=1), NOW + timedelta(days=3), 7, ("3.4.0",), ("3.2.4",)
    ),
    expiries={"timestamp": NOW + timedelta(days=1), "root": NOW + timedelta(days=300)},
    free_percent={"state": 12.5},
)


def read(site: TrialSite, now: SiteStatus) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    outbox = Outbox(1).with_notifications(1, {}, [], ("mail",))
    samples = collect_metrics(
        load_config(site.config), now, outbox, agent_version="0.1.0",
        runs={("check", 0): 3, ("check", 7): 1}, status_read_at=NOW,
    )  # fmt: skip
    found = {}
    for family in text_string_to_metric_families(render_metrics(samples)):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_every_metric_has_its_value(site: TrialSite) -> None:
    found = read(site, FULL)
    assert {name.removeprefix(PREFIX) for name, _ in found} == set(METRIC_FAMILIES)

    def value(name: str, **labels: str) -> float:
        return found[PREFIX + name, tuple(sorted(labels.items()))]

    assert value("info", site="ke-1", product="ncen", version="3.2.4", agent="0.1.0") == 1
    assert value("journal_events_total") == 42
    assert value("change_state", state="stuck") == 1
    assert value("change_state", state="none") == 0
    assert value("last_downtime_predicted_high_seconds") == 20
    assert value("feed_expiry_timestamp_seconds", role="timestamp") == NOW.timestamp() + 86_400
    assert value("command_runs_total", action="check", exit_code="7") == 1
    assert value("disk_free_ratio", content="state") == 0.125
    assert value("release_withdrawn") == 1
    assert value("availability_state", state="maintenance") == 1
    assert value("availability_state", state="available") == 0


def test_unknown_values_are_omitted(site: TrialSite) -> None:
    names = {name for name, _ in read(site, SiteStatus(NOW, PLACES, journal=OSError("gone")))}
    assert PREFIX + "hold" not in names
    assert PREFIX + "availability_state" not in names
    assert PREFIX + "last_downtime_seconds" not in names
    assert PREFIX + "feed_checked_timestamp_seconds" not in names


def test_labels_are_escaped() -> None:
    odd = 'a"b\\c\nd'
    text = render_metrics([make_sample("info", 1, site=odd)])
    (family,) = text_string_to_metric_families(text)
    assert family.samples[0].labels == {"site": odd}


def test_metrics_file_is_complete_and_readable_by_the_collector(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    write_metrics(path, [make_sample("hold", 1)])
    before = os.umask(0o027)  # of the service's unit
    try:
        write_metrics(path, [make_sample("hold", 0)])
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text().endswith("ncen_updater_hold 0.0\n")


def test_every_metric_is_documented() -> None:
    text = MONITORING.read_text("utf-8")
    for name, (kind, _) in METRIC_FAMILIES.items():
        assert f"| `{PREFIX}{name}` | {kind} |" in text


def test_every_notification_kind_is_documented() -> None:
    text = MONITORING.read_text("utf-8").partition("### Kinds")[2].partition("###")[0]
    kinds = re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE)
    assert sorted(kinds) == sorted(NotificationKind)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_accepts_the_metrics(site: TrialSite) -> None:
    outbox = Outbox(1).with_notifications(1, {}, [], ("mail",))
    samples = collect_metrics(
        load_config(site.config),
        FULL,
        outbox,
        agent_version="0.1.0",
        runs={("check", 0): 3},
        status_read_at=NOW,
    )
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=render_metrics(samples),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
