"""The dossier's HTML page, and the pages stored at the site. Rendering is pure."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from packaging.version import Version

from ncen_updater.agent.adapters.databases.base import RollbackKind
from ncen_updater.agent.engine.approvals import upgrade_approvals as approving
from ncen_updater.agent.engine.approvals.approval import Approval
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports.dossier.facts import (
    Dossier,
    collect_dossier,
    format_code_mapping,
    list_table_changes,
)
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.cli.render import (
    SEVERITY_LABELS,
    format_duration,
    format_time,
)
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Severity
from ncen_updater.common.html_templates import render_page
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, N_, LazyText, LocalizedFigure, list_languages
from ncen_updater.common.labels import format_predicted_downtime
from ncen_updater.common.progress import SilentProgress

logger = logging.getLogger(__name__)

#: Directory of the pages, below the state directory; file names have binding and language.
DOSSIERS_DIRECTORY = "dossiers"
#: Maximum offset of the approvals' digest in a page.
HEAD_BYTES = 4096
#: Number of earlier upgrades in the chart, newest first; the journal has all.
MAX_UPGRADES_DRAWN = 8


@dataclass(frozen=True)
class ChartRange:
    """Predicted and actual downtime in a chart.

    Attributes:
        name: The release.
        left: Lowest prediction, 0 to 100.
        right: Highest prediction, 0 to 100.
        mark: Actual downtime, 0 to 100; for a prediction the likely one.
        is_measured: Whether the mark is a measured value.
        figure: Displayed value of the mark.
    """

    name: str
    left: float
    right: float
    mark: float
    is_measured: bool
    figure: LocalizedFigure


def build_downtime_ranges(dossier: Dossier) -> tuple[ChartRange, ...]:
    """Return past predictions with their actual downtime, and the current prediction.

    Empty if no downtime is known.
    """
    earlier = dossier.past_predictions[-MAX_UPGRADES_DRAWN:]
    ends = [end for item in earlier for end in (item.high_s, item.actual_s)]
    predicted = dossier.downtime_s
    longest = max([*ends, *([predicted[2]] if predicted else [])], default=0.0)
    if longest <= 0:
        return ()

    def share(seconds: float) -> float:
        return round(100 * max(0.0, seconds) / longest, 2)

    ranges = [
        ChartRange(item.version, share(item.low_s), share(item.high_s), share(item.actual_s),
              is_measured=True, figure=format_duration(item.actual_s))
        for item in earlier
    ]  # fmt: skip
    if predicted is not None:
        low, likely, high = predicted
        ranges.append(
            ChartRange(dossier.target, share(low), share(high), share(likely), is_measured=False,
                  figure=format_duration(likely))
        )  # fmt: skip
    return tuple(ranges)


def format_verdict(dossier: Dossier) -> LazyText:
    """Return one line on whether the upgrade can be approved."""
    if any(finding.severity is Severity.CRITICAL for finding in dossier.findings):
        return LazyText(N_("Blocked by preflight checks"))
    if dossier.rehearsed_at is None:
        return LazyText(N_("No rehearsal: downtime and data changes are unknown"))
    return LazyText(N_("Ready for approval"))


def list_risks(dossier: Dossier) -> tuple[LazyText, ...]:
    """Return the risks, most serious first; empty if no particular risk is known."""
    risks: list[LazyText] = []
    lost_objects = [name for hop in dossier.hops for name in hop.lost_objects]
    if lost_objects:
        template = N_("After the upgrade, a rollback loses values entered in {objects}.")
        risks.append(LazyText(template, {"objects": ", ".join(lost_objects)}))
    if any(hop.rollback_kind is not RollbackKind.KEEPS_RECORDS for hop in dossier.hops):
        template = N_("After the upgrade, a rollback loses all records entered since.")
        risks.append(LazyText(template))
    unmapped = sum(hop.unmapped_rows for hop in dossier.hops)
    if unmapped:
        template = N_("{count} records have no new code; see the release notes.")
        risks.append(LazyText(template, {"count": unmapped}))
    changed_tables = [
        name for hop in dossier.hops if hop.report for name in hop.report.rollback_differences
    ]
    if changed_tables:
        template = N_("Tables changed by the rollback in the rehearsal: {tables}")
        risks.append(LazyText(template, {"tables": ", ".join(changed_tables)}))
    if any(hop.report and not hop.report.downtime.from_history for hop in dossier.hops):
        template = N_("Downtime is partly estimated: few upgrades so far on this site.")
        risks.append(LazyText(template))
    missed = [
        item for item in dossier.past_predictions if not item.low_s <= item.actual_s <= item.high_s
    ]
    if missed:
        template = N_("Earlier predictions missed: {missed} of {count}")
        risks.append(
            LazyText(template, {"count": len(dossier.past_predictions), "missed": len(missed)})
        )
    if len(dossier.hops) > 1:
        template = N_(
            "Releases on the path: {count}. If one fails, the site stays on the previous one."
        )
        risks.append(LazyText(template, {"count": len(dossier.hops)}))
    return tuple(risks)


def render_dossier(dossier: Dossier, language: str = DEFAULT_LANGUAGE) -> bytes:
    """Return the dossier as one HTML file in UTF-8."""
    order = list(Severity)
    findings = sorted(dossier.findings, key=lambda item: order.index(item.severity))
    return render_page(
        "ncen_updater.agent.reports.dossier",
        "dossier.html",
        language,
        dossier=dossier,
        mark=compute_approvals_digest(dossier.approvals, dossier.not_before),
        verdict=format_verdict(dossier),
        when=_format_start(dossier),
        risks=list_risks(dossier),
        findings=[(SEVERITY_LABELS[item.severity], item) for item in findings],
        days=f"{dossier.retention_days:g}",
        span=_format_downtime,
        ranges=build_downtime_ranges(dossier),
        describe_map=format_code_mapping,
        table_rows=list_table_changes,
    )


def compute_approvals_digest(approvals: Iterable[Approval], not_before: datetime | None) -> str:
    """Return a digest of approvals and start time, which identifies an outdated page. Pure."""
    rows = [[a.actor, a.uid, a.at.isoformat()] for a in approvals]
    content = json.dumps([rows, not_before.isoformat() if not_before else None]).encode()
    return hashlib.sha256(content).hexdigest()


def _format_downtime(bounds: tuple[float, float, float] | None) -> LazyText:
    if bounds is None:
        return LazyText(N_("unknown (no rehearsal yet)"))
    return format_predicted_downtime(*bounds[1:])


def _format_start(dossier: Dossier) -> LazyText:
    not_before, zone = dossier.not_before, dossier.zone
    if dossier.window_opens_at is not None and dossier.window_closes_at is not None:
        begin = max(dossier.window_opens_at, not_before) if not_before else dossier.window_opens_at
        values = {
            "begin": format_time(begin, zone),
            "end": format_time(dossier.window_closes_at, zone),
        }
        return LazyText(N_("after approval, between {begin} and {end}"), values)
    if not_before is not None:
        return LazyText(
            N_("after approval, not before {at}"), {"at": format_time(not_before, zone)}
        )
    return LazyText(N_("after approval, started by an operator (no maintenance window)"))


def write_dossiers(site: Site, journal: Journal, target: str) -> tuple[Path, ...]:
    """Write the pages of a release; remove pages that were not approved and no longer can be.

    A failure does not fail the rehearsal or approval: the pages can be written again at any time.

    Args:
        site: The site.
        journal: Its journal.
        target: The release.

    Returns:
        Paths of the pages; empty if they could not be written, which is logged.
    """
    try:
        return _write_pages(site, journal, target)
    except (UpdaterError, OSError) as error:
        logger.warning("the dossier on %s was not written: %s", target, error)
        return ()


def refresh_dossiers(site: Site, target: str | None, binding: str) -> None:
    """Rewrite the pages if approvals or the schedule have changed since they were written.

    API requests only record approvals; the service updates the pages in its next cycle.
    """
    if target is None or not binding:
        return
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        consent = ApprovalStore(journal)
        schedule = consent.find_schedule(binding)
        digest = compute_approvals_digest(
            consent.list_for_binding(binding), schedule.not_before if schedule else None
        )
        path = site.state_directory / DOSSIERS_DIRECTORY / f"{binding}.{list_languages()[0]}.html"
        try:
            with path.open("rb") as stream:
                is_current = digest.encode() in stream.read(HEAD_BYTES)
        except OSError:
            is_current = False
        if not is_current:
            write_dossiers(site, journal, target)


def _write_pages(site: Site, journal: Journal, target: str) -> tuple[Path, ...]:
    # A release marked bad may be retried after an approval.
    subject = approving.find_upgrade_to_approve(
        site, journal, SilentProgress(), Version(target), retry=True
    )
    facts = collect_dossier(site, journal, subject)
    directory = site.state_directory / DOSSIERS_DIRECTORY
    durable.make_directory(directory, 0o750)
    written = []
    for language in list_languages():
        path = directory / f"{subject.binding}.{language}.html"
        durable.write_file(path, render_dossier(facts, language), 0o640)
        written.append(path)
    consent = ApprovalStore(journal)
    for old in directory.glob("*.*.html"):
        binding = old.name.partition(".")[0]
        if old not in written and not (
            consent.list_for_binding(binding) or consent.was_consumed(binding)
        ):
            durable.remove_file(old)
    return tuple(written)
