"""One order: its number, what became of it, and what it said."""

from __future__ import annotations

from collections.abc import Mapping

from ncen_updater.common.i18n import N_
from ncen_updater.console.page_request import PageContent, PageRequest
from ncen_updater.console.service_client import Document

#: Orders as people see them.
JOB_KINDS: Mapping[str, str] = {
    "check": N_("check"),
    "prepare": N_("download"),
    "rehearse": N_("rehearsal"),
    "upgrade": N_("upgrade"),
    "rollback": N_("rollback"),
    "resume": N_("resume"),
    "confirm": N_("confirmation"),
    "self-update": N_("update of ncen-updater"),
    "import": N_("import"),
}


def describe_job_result(order: Document) -> tuple[str, str, Document | None]:
    """Return the tone of an order, a sentence on it, and why it failed; pure."""
    if order["ended_at"] is None:
        taken = N_("Running")
        return (
            "wait",
            taken if order["started_at"] else N_("Queued"),
            None,
        )
    result = order["result"] or {}
    error = (result.get("document") or {}).get("error")
    if result.get("interrupted"):
        return "bad", N_("Interrupted"), error
    if error:
        return "bad", N_("Failed"), error
    return "good", N_("Completed"), None


def build_page(asking: PageRequest) -> PageContent:
    """One order."""
    asking.get_status()
    order = asking.get_document(f"/v1/jobs/{asking.path_parameters['number']}")
    document = (order["result"] or {}).get("document") or {}
    ended = order["ended_at"] is not None
    tone, sentence, error = describe_job_result(order)
    return PageContent(
        "order",
        {
            "order": order,
            "kind": JOB_KINDS.get(order["kind"], order["kind"]),
            "ended": ended,
            "tone": tone,
            "sentence": sentence,
            "words": [str(line) for line in document.get("lines") or ()],
            "error": error,
        },
        "ready" if ended else "loading",
        refresh_s=0 if ended else 3,
    )
