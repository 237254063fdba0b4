"""Page *History*: changes with predicted and actual downtime, one change, and the audit log."""

from __future__ import annotations

from urllib.parse import quote

from ncen_updater.console.inspection_poller import InspectionState
from ncen_updater.console.page_request import PageContent, PageRequest
from ncen_updater.console.pages.live import (
    STATES,
    build_steps,
    choose_headline,
    find_problem,
    get_shown_state,
)
from ncen_updater.console.rendering import JOB_KINDS
from ncen_updater.console.service_client import Document

#: Changes per page.
MAX_CHANGES = 50


def build_page(asking: PageRequest) -> PageContent:
    """Build the history page."""
    status = asking.get_status()
    before = asking.query.get("before", "")
    older = f"&before={quote(before, safe='')}" if before else ""
    found = asking.get_document(f"/v1/history?limit={MAX_CHANGES + 1}{older}")
    more, changes = len(found["changes"]) > MAX_CHANGES, found["changes"][:MAX_CHANGES]
    return PageContent(
        "history",
        {
            "status": status,
            "changes": changes,
            "imports": [] if before else found["imports"],
            "adopted_restores": [] if before else found.get("adopted_restores", []),
            "older": changes[-1]["id"] if more else None,
            "newest": not before,
        },
        "ready" if changes or found["imports"] or before else "empty",
    )


def build_change_page(asking: PageRequest) -> PageContent:
    """Build the page of one change."""
    asking.get_status()
    report = asking.get_document(f"/v1/history/{asking.path_parameters['id']}")
    return PageContent(
        "change",
        {
            "report": report,
            "headline": choose_headline(report),
            "look": STATES["interrupted" if report["interrupted"] else get_shown_state(report)],
            "rows": list(build_steps(report, asking.now, asking.language)),
            "failure": find_problem(report, None, asking.language),
        },
    )


def build_rollback_page(asking: PageRequest) -> PageContent:
    """Build the page of the rollback plan, with the form that starts the rollback."""
    status = asking.get_status()
    newest = asking.get_document("/v1/history?limit=1")["changes"]
    values: dict[str, object] = {"status": status}
    if not newest:
        return PageContent("rollback-plan", {**values, "looked": None}, "empty")
    looked = inspect_rollback(asking, status, newest[0])
    found = looked.document
    uid = status["you"]["name"]
    way = found if found is not None and "undoes" in found else None
    may, may_approve = (asking.find_missing_role(role) for role in ("operate", "approve"))
    starts_and_approves = may is None and may_approve is None
    return PageContent(
        "rollback-plan",
        {
            **values,
            "looked": looked,
            "way": way,
            "missing": count_missing_approvals(way, starts_and_approves) if way else 0,
            "words": [str(line) for line in found.get("how") or found.get("lines") or ()]
            if found
            else [],
            "lost": found.get("lost_total") if found else None,
            "mine": any(row["actor"] == uid for row in (found or {}).get("approvals") or ()),
            "may": may,
            "may_approve": may_approve,
        },
        "loading" if looked.is_loading else "stale" if looked.stale else "ready",
        refresh_s=2 if looked.is_loading else 0,
    )


def count_missing_approvals(way: Document, starts_and_approves: bool) -> int:
    """Return how many approvals a user needs from others before starting a rollback. Pure.

    Args:
        way: The rollback plan.
        starts_and_approves: Whether the user may start and approve it: starting it counts as the
            approval if only one is required.
    """
    missing: int = way["missing"]
    return 0 if starts_and_approves and missing + len(way["approvals"]) == 1 else missing


def inspect_rollback(asking: PageRequest, status: Document, newest: Document) -> InspectionState:
    """Return the rollback plan; repeat it after a new change or approval."""
    about = (newest["id"], newest["state"], status["journal"].get("rollback_approved"))
    looked = asking.inspect("rollback-plan", f"{about}")
    if looked.stale:
        asking.inspections.discard("rollback-plan")
        looked = asking.inspect("rollback-plan", f"{about}")
    return looked


MAX_JOBS = 30


def build_audit_page(asking: PageRequest) -> PageContent:
    """Build the audit log page."""
    status = asking.get_status()
    journal = status["journal"]
    mark = f"{journal.get('chain_head')}"
    chain = asking.inspect("audit-log", mark)
    # The full verification takes longer and runs only on request.
    wanted = asking.query.get("look") == "verify"
    whole = asking.inspect("verify", mark) if wanted else None
    both = [one for one in (chain, whole) if one is not None]
    loading = any(one.is_loading for one in both)
    return PageContent(
        "audit-log",
        {
            "status": status,
            "chain": chain,
            "whole": whole,
            "kinds": JOB_KINDS,
            "orders": asking.get_document(f"/v1/jobs?limit={MAX_JOBS}")["jobs"],
        },
        "loading" if loading else "stale" if any(one.stale for one in both) else "ready",
        refresh_s=2 if loading else 0,
    )
