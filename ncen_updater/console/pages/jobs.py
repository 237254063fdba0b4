"""What people call jobs, and what became of one."""

from __future__ import annotations

from collections.abc import Mapping

from ncen_updater.common.i18n import N_
from ncen_updater.console.service_client import Document

#: Jobs as people see them.
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


def describe_job(job: Document) -> tuple[str, str, Document | None]:
    """Return the tone and the label of a job without a change, and why it failed; pure."""
    if job["ended_at"] is None:
        return "wait", N_("In progress") if job["started_at"] else N_("Queued"), None
    result = job["result"] or {}
    error = (result.get("document") or {}).get("error")
    if result.get("interrupted"):
        return "bad", N_("Interrupted"), error
    if error:
        return "bad", N_("Failed"), error
    return "good", N_("Completed"), None
