"""One order: its number, what became of it, and what it said."""

from __future__ import annotations

from collections.abc import Mapping

from ncen_updater.common.i18n import N_
from ncen_updater.console.asking import PageContent, PageRequest
from ncen_updater.console.service import Document

#: Orders as people see them.
JOB_KINDS: Mapping[str, str] = {
    "check": N_("asking the feed"),
    "prepare": N_("preparing the release"),
    "rehearse": N_("rehearsal"),
    "upgrade": N_("upgrade"),
    "rollback": N_("going back"),
    "resume": N_("going on after a cut"),
    "confirm": N_("end of the watching"),
    "self-update": N_("renewing the agent"),
    "import": N_("import of a bundle"),
}


def describe_job_result(order: Document) -> tuple[str, str, Document | None]:
    """Return the tone of an order, a sentence on it, and why it failed; pure."""
    if order["ended_at"] is None:
        taken = N_("The service carries it out.")
        return (
            "wait",
            taken if order["started_at"] else N_("The order waits for the service."),
            None,
        )
    result = order["result"] or {}
    error = (result.get("document") or {}).get("error")
    if result.get("interrupted"):
        return "bad", N_("The order was cut off."), error
    if error:
        return "bad", N_("The order came to no good end."), error
    return "good", N_("The order is carried out."), None


def build_page(asking: PageRequest) -> PageContent:
    """One order."""
    asking.get_status()
    order = asking.get_document(f"/v1/orders/{asking.path_parameters['number']}")
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
