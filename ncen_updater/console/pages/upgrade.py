"""Page *Upgrade*: the next upgrade, its effects at this site, and the predicted downtime."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import quote

from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.labels import (
    format_predicted_downtime,
    format_upgrade_path,
    format_upgrade_start,
)
from ncen_updater.console.inspection_poller import InspectionState
from ncen_updater.console.page_request import PageContent, PageRequest
from ncen_updater.console.pages.live import REPORTED
from ncen_updater.console.rendering import parse_time
from ncen_updater.console.service_client import Document, ServiceRefusedError

#: States of a rehearsal without a result to decide on.
NOT_REHEARSED = ("missing", "outdated")
#: The service assesses the site within seconds after a job; the page waits no longer than this.
ASSESSMENT_LIMIT_S = 60.0


def compute_revision(status: Document, next_upgrade: Document) -> str:
    """Return a string that identifies the state of the site that the inspections depend on. Pure.

    The binding covers all data that users decide on. Before there is a binding, any event in the
    journal may change that data.
    """
    binding = next_upgrade["binding"]
    return f"{next_upgrade['target']} {binding or status['journal'].get('chain_head')}"


def inspect_site(
    asking: PageRequest, kind: str, status: Document, next_upgrade: Document
) -> InspectionState:
    """Return an inspection of the next upgrade; repeat it if a change has ended since.

    Such a change may leave the binding unchanged, but the predictions were made before it.
    """
    revision = compute_revision(status, next_upgrade)
    inspection = asking.inspect(kind, revision)
    if is_older_than_last_change(inspection, status):
        asking.inspections.discard(kind)
        inspection = asking.inspect(kind, revision)
    return inspection


def is_older_than_last_change(inspection: InspectionState, status: Document) -> bool:
    """Return whether a change has ended since the inspection. Pure."""
    ended = (status["journal"].get("last_change") or {}).get("ended_at")
    return (
        inspection.ended_at is not None
        and ended is not None
        and parse_time(ended) > inspection.ended_at
    )


def has_failed_here(next_upgrade: Document, journal: Document) -> bool:
    """Return whether the next release is marked bad. Pure."""
    return any(row["version"] == next_upgrade["target"] for row in journal.get("bad_releases", ()))


def is_assessing(job: Document | None, next_upgrade: Document, now: datetime) -> bool:
    """Return whether the result of a download or rehearsal is not assessed yet. Pure."""
    if next_upgrade["up_to_date"] or job is None or job["kind"] not in REPORTED:
        return False
    ended = job["ended_at"]
    return ended is not None and (now - parse_time(ended)).total_seconds() < ASSESSMENT_LIMIT_S


def build_page(asking: PageRequest) -> PageContent:
    """Build the page of the next upgrade."""
    status, next_upgrade = asking.get_status(), asking.get_document("/v1/next-upgrade")
    version = next_upgrade["target"]
    job = next(iter(asking.get_document("/v1/jobs?limit=1")["jobs"]), None)
    assessing = is_assessing(job, next_upgrade, asking.now)
    common = {
        "status": status, "next_upgrade": next_upgrade, "may": asking.find_missing_role("operate"),
        "busy": status["service"]["running"] is not None, **_read_inbox(asking),
    }  # fmt: skip
    # During a change, the service's data on the next upgrade is older than the change.
    if version is None or next_upgrade.get("open_change"):
        return PageContent("upgrade", {**common, "way": None}, "empty")
    # A missing download or rehearsal is the next action, not an error.
    plan = dossier = None
    if next_upgrade["slot_built"]:
        plan = inspect_site(asking, "plan", status, next_upgrade)
        if next_upgrade["rehearsal_status"] not in NOT_REHEARSED:
            dossier = inspect_site(asking, "dossier", status, next_upgrade)
    try:
        notes = asking.get_document(f"/v1/notes?version={quote(version, safe='')}")
    except ServiceRefusedError:
        notes = None  # no notes before the release is downloaded
    inspections = [one for one in (plan, dossier) if one is not None]
    predicted = dossier.document if dossier is not None else None
    loading = assessing or any(one.is_loading for one in inspections)
    return PageContent(
        "upgrade",
        {
            **common,
            "path": format_upgrade_path(next_upgrade["hops"]),
            "way": plan,
            "dossier": dossier,
            "predicted": predicted,
            "notes": notes,
            "assessing": assessing,
            "failed_here": has_failed_here(next_upgrade, status["journal"]),
            "stop": format_downtime(predicted["downtime_s"] if predicted else None),
            "starts_at": format_upgrade_start(next_upgrade["starts_at"], asking.zone),
        },
        "loading" if loading else "stale" if any(one.stale for one in inspections) else "ready",
        refresh_s=2 if loading else 0,
    )


def format_downtime(predicted: Document | None) -> LazyText:
    """Return the predicted downtime as text. Pure."""
    if predicted is None:
        return LazyText(N_("unknown (no rehearsal yet)"))
    return format_predicted_downtime(predicted["likely"], predicted["high"])


def _read_inbox(asking: PageRequest) -> dict[str, object]:
    """Return the contents of the import directory, or why it cannot be read."""
    try:
        return {"inbox": asking.get_document("/v1/inbox"), "inbox_error": None}
    except ServiceRefusedError as refused:
        return {"inbox": None, "inbox_error": refused.error}
