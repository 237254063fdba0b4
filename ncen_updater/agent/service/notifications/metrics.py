"""Metrics in the Prometheus text format, for the textfile collector of the node exporter.

Formatted without the Prometheus library, which would need more memory than the rest of this package
(locks/README.md). Times are in seconds since 1970, so that an age is ``time() - x`` whenever the
file is read. All metrics are listed in docs/reference/monitoring.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.policy.availability import AvailabilityState
from ncen_updater.agent.reports.status import SiteStatus, get_part_or_none
from ncen_updater.agent.service.notifications.outbox import Outbox
from ncen_updater.common import atomic_files as durable

PREFIX = "ncen_updater_"
CHANGE_STATES = ("none", "running", "reverting", "committed", "stuck")
#: Number of runs by action and exit status.
RunCounts = Mapping[tuple[str, int], int]

#: Type and help text by name.
METRIC_FAMILIES: Mapping[str, tuple[str, str]] = {
    "info": ("gauge", "The site, its release and its agent. Always 1."),
    "journal_readable": ("gauge", "1 if the journal can be read."),
    "journal_events_total": ("counter", "Events in the journal."),
    "journal_head_info": ("gauge", "Chain head of the audit log. Always 1."),
    "change_state": ("gauge", "1 for the state of the open change; none without an open change."),
    "last_downtime_seconds": ("gauge", "Downtime of the last change."),
    "last_downtime_predicted_low_seconds": ("gauge", "Its shortest predicted downtime."),
    "last_downtime_predicted_high_seconds": ("gauge", "Its longest predicted downtime."),
    "availability_state": ("gauge", "1 for the current availability to users."),
    "release_available": ("gauge", "1 if a newer release is available for this site."),
    "release_withdrawn": ("gauge", "1 if the installed release was withdrawn."),
    "hold": ("gauge", "1 if upgrades are on hold."),
    "approvals_missing": ("gauge", "Missing approvals of the next upgrade."),
    "bad_releases": ("gauge", "Releases marked bad at this site."),
    "feed_checked_timestamp_seconds": ("gauge", "When metadata was last verified."),
    "feed_expiry_timestamp_seconds": ("gauge", "When the metadata of a role expires."),
    "disk_free_ratio": ("gauge", "Free space of a disk, 0 to 1."),
    "loop_timestamp_seconds": ("gauge", "When the service last read the status of the site."),
    "command_runs_total": ("counter", "Commands that the service ran since it started."),
    "notifications_waiting": ("gauge", "Notifications not delivered yet."),
    "notifications_failures": ("gauge", "Consecutive failed deliveries."),
    "written_timestamp_seconds": ("gauge", "When this file was written."),
}


@dataclass(frozen=True)
class MetricSample:
    """One sample."""

    name: str
    value: float
    labels: Mapping[str, str]


def make_sample(name: str, value: float, **labels: str) -> MetricSample:
    """Make a sample."""
    return MetricSample(name, value, labels)


def _to_epoch_s(moment: datetime) -> float:
    return round(moment.timestamp(), 3)


def _collect_journal_metrics(config: AgentConfig, site: SiteStatus) -> Iterator[MetricSample]:
    journal = get_part_or_none(site.journal)
    yield make_sample("journal_readable", journal is not None)
    if journal is not None:
        yield make_sample("journal_events_total", journal.last_event)
        number, _, digest = journal.head.partition(":")
        yield make_sample("journal_head_info", 1, number=number, hash=digest)
        state = journal.open_change.state.value if journal.open_change else "none"
        for name in CHANGE_STATES:
            yield make_sample("change_state", name == state, state=name)
        yield make_sample("hold", bool(journal.holds))
        yield make_sample(
            "approvals_missing",
            site.count_missing_approvals(config.service.required_approvals) or 0,
        )
        yield make_sample("bad_releases", len({row.version for row in journal.bad_releases}))


def _collect_availability_metrics(site: SiteStatus) -> Iterator[MetricSample]:
    availability = get_part_or_none(site.availability)
    if availability is not None:
        for state in AvailabilityState:
            present = availability.state is state
            yield make_sample("availability_state", present, state=state.value)


def collect_metrics(
    config: AgentConfig,
    site: SiteStatus,
    outbox: Outbox,
    *,
    agent_version: str,
    runs: RunCounts,
    status_read_at: datetime | None,
) -> Iterator[MetricSample]:
    """Yield all known samples. Pure.

    Args:
        config: The configuration.
        site: Status of the site.
        outbox: Pending notifications.
        agent_version: Version of the agent.
        runs: Commands that the service ran.
        status_read_at: When the service loop last read the status.
    """
    version: str | None = get_part_or_none(site.current)
    yield make_sample(
        "info", 1, site=config.site.id, product=config.site.product,
        version=version or "", agent=agent_version,
    )  # fmt: skip
    yield from _collect_journal_metrics(config, site)
    yield from _collect_availability_metrics(site)
    downtime = get_part_or_none(site.last_downtime)
    if downtime is not None:
        yield make_sample("last_downtime_seconds", downtime.actual_s)
        if downtime.predicted is not None:
            yield make_sample("last_downtime_predicted_low_seconds", downtime.predicted.low)
            yield make_sample("last_downtime_predicted_high_seconds", downtime.predicted.high)
    if site.next_upgrade is not None:
        yield make_sample("release_available", site.next_upgrade.target is not None)
    if site.is_withdrawn is not None:
        yield make_sample("release_withdrawn", site.is_withdrawn)
    view = get_part_or_none(site.feed_view)
    if view is not None:
        yield make_sample("feed_checked_timestamp_seconds", _to_epoch_s(view.checked_at))
    for role, moment in (get_part_or_none(site.expiries) or {}).items():
        if isinstance(moment, datetime):
            yield make_sample("feed_expiry_timestamp_seconds", _to_epoch_s(moment), role=role)
    for content, percent in (get_part_or_none(site.free_percent) or {}).items():
        if isinstance(percent, float):
            yield make_sample("disk_free_ratio", percent / 100, content=content)
    if status_read_at is not None:
        yield make_sample("loop_timestamp_seconds", _to_epoch_s(status_read_at))
    for (action, code), count in sorted(runs.items()):
        yield make_sample("command_runs_total", count, action=action, exit_code=str(code))
    for name, channel in outbox.channels.items():
        yield make_sample("notifications_waiting", len(channel.pending), channel=name)
        yield make_sample("notifications_failures", channel.failures, channel=name)
    yield make_sample("written_timestamp_seconds", _to_epoch_s(site.now))


def _escape_label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def render_metrics(samples: Iterable[MetricSample]) -> str:
    """Return the text: each family once, with its help and type. Pure."""
    by_name: dict[str, list[MetricSample]] = {name: [] for name in METRIC_FAMILIES}
    for sample in samples:
        by_name[sample.name].append(sample)
    lines = []
    for name, family in by_name.items():
        if not family:
            continue
        kind, meaning = METRIC_FAMILIES[name]
        lines += [f"# HELP {PREFIX}{name} {meaning}", f"# TYPE {PREFIX}{name} {kind}"]
        for sample in family:
            pairs = ",".join(
                f'{key}="{_escape_label(text)}"' for key, text in sample.labels.items()
            )
            labels = f"{{{pairs}}}" if pairs else ""
            lines.append(f"{PREFIX}{name}{labels} {float(sample.value)!r}")
    return "\n".join(lines) + "\n"


def write_metrics(path: Path, samples: Iterable[MetricSample]) -> None:
    """Replace the file atomically; the collector reads it as another user."""
    durable.write_file(path, render_metrics(samples).encode(), 0o644, exactly=True)
