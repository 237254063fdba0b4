"""Form actions: each sends a request to the service and returns the path of the outcome's page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlencode

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText, match_language
from ncen_updater.common.json_records import within_calendar
from ncen_updater.common.messages import CONSOLE_FORM, CONSOLE_LOSS_COUNT_MISMATCH
from ncen_updater.console.page_request import PageRequest
from ncen_updater.console.service_client import PREPARATORY_JOBS

#: Paths of pages.
PAGE_PATH = re.compile(r"/([a-z0-9-]+(/[a-z0-9-]+)?)?")
FormResult = tuple[str, LazyText | None]
#: Inspections that the user may repeat, and the page that shows each.
INSPECTION_PAGES = {
    "plan": "/upgrade", "dossier": "/upgrade", "rollback-plan": "/rollback-plan",
    "findings": "/help", "receipts": "/sharing",
    "audit-log": "/audit-log", "verify": "/audit-log", "support-bundle": "/help",
}  # fmt: skip


def require_field(asking: PageRequest, name: str) -> str:
    """Return a field of the form.

    Raises:
        UpdaterError: If the field is missing or empty.
    """
    found = asking.form.get(name, "").strip()
    if not found:
        raise UpdaterError(CONSOLE_FORM, reason=LazyText("'{name}' is missing", {"name": name}))
    return found


def submit_job(asking: PageRequest) -> FormResult:
    """Submit a job; return the page of the job."""
    kind = require_field(asking, "kind")
    wanted: dict[str, object] = {"kind": kind, "language": asking.language}
    if asking.form.get("version"):
        wanted["version"] = asking.form["version"]
    if asking.form.get("retry") == "yes":
        wanted["retry"] = True
    if kind == "upgrade" and asking.form.get("agreed") != "yes":
        raise UpdaterError(CONSOLE_FORM, reason="confirmation of the downtime is missing")
    if kind in ("rollback", "import"):
        raise UpdaterError(CONSOLE_FORM, reason=LazyText("use the form for {kind}", {"kind": kind}))
    return _post_job(asking, wanted)


def import_bundle(asking: PageRequest) -> FormResult:
    """Import a bundle from the import directory."""
    file = require_field(asking, "file")
    return _post_job(asking, {"kind": "import", "language": asking.language, "file": file})


def _post_job(asking: PageRequest, job: dict[str, object]) -> FormResult:
    given = asking.call_service if job["kind"] in PREPARATORY_JOBS else asking.call_with_password
    number = given("POST", "/v1/jobs", job)["id"]
    return f"/jobs/{number}", None


def start_rollback(asking: PageRequest) -> FormResult:
    """Start a rollback; the user confirms data loss by typing the number of lost records."""
    wanted: dict[str, object] = {"kind": "rollback", "language": asking.language}
    wanted["undoes"] = require_field(asking, "undoes")
    wanted |= _read_accepted_loss(asking)
    if asking.form.get("emergency_reason", "").strip():
        wanted["emergency_reason"] = asking.form["emergency_reason"].strip()
    return _post_job(asking, wanted)


def _read_accepted_loss(asking: PageRequest) -> dict[str, object]:
    """Return the accepted data loss as typed in the form; empty without data loss."""
    lost = asking.form.get("lost", "0")
    if lost == "0":
        return {}
    typed = "".join(c for c in asking.form.get("typed", "") if c.isdecimal())
    if typed != lost:
        raise UpdaterError(CONSOLE_LOSS_COUNT_MISMATCH)
    return {"accept_loss": int(lost)}


def approve(asking: PageRequest) -> FormResult:
    """Approve the upgrade or rollback that the page showed."""
    of = "rollback" if asking.form.get("change_kind") == "rollback" else "upgrade"
    wanted: dict[str, object] = {"binding": require_field(asking, "binding"), "change_kind": of}
    if of == "rollback":
        wanted |= _read_accepted_loss(asking)
    recorded = asking.call_with_password("POST", "/v1/approvals", wanted)
    text = N_("Approval recorded.") if recorded["added"] else N_("Already approved by you.")
    return _find_approval_page(asking), LazyText(text)


def _find_approval_page(asking: PageRequest) -> str:
    """Return the path of the page with the approval form."""
    return "/rollback-plan" if asking.form.get("change_kind") == "rollback" else "/approve"


def withdraw_approval(asking: PageRequest) -> FormResult:
    """Withdraw the user's own approval."""
    chosen = {n: asking.form[n] for n in ("change_kind", "version") if asking.form.get(n)}
    asking.call_with_password("DELETE", f"/v1/approvals?{urlencode(chosen)}")
    return _find_approval_page(asking), LazyText(N_("Approval withdrawn."))


def reject(asking: PageRequest) -> FormResult:
    """Reject the upgrade that the page showed, with a reason."""
    wanted = {
        "binding": require_field(asking, "binding"),
        "reason": require_field(asking, "reason"),
        "language": asking.language,
    }
    asking.call_with_password("POST", "/v1/rejections", wanted)
    return "/", LazyText(N_("Rejected. Upgrades are on hold."))


def hold(asking: PageRequest) -> FormResult:
    """Put upgrades on hold."""
    until = _parse_time(asking, "until")
    wanted = {"reason": require_field(asking, "reason"), "until": until}
    asking.call_with_password("POST", "/v1/holds", wanted)
    return "/", LazyText(N_("Upgrades are on hold."))


def unhold(asking: PageRequest) -> FormResult:
    """Remove all holds."""
    asking.call_with_password("DELETE", "/v1/holds")
    return "/", LazyText(N_("All holds removed."))


def schedule(asking: PageRequest) -> FormResult:
    """Schedule the earliest start of the upgrade that the page showed."""
    wanted = {"binding": require_field(asking, "binding"), "not_before": _parse_time(asking, "at")}
    if wanted["not_before"] is None:
        raise UpdaterError(CONSOLE_FORM, reason=LazyText("'{name}' is missing", {"name": "at"}))
    asking.call_with_password("PUT", "/v1/schedule", wanted)
    return "/upgrade", LazyText(N_("Upgrade scheduled."))


def cancel_schedule(asking: PageRequest) -> FormResult:
    """Cancel the schedule."""
    asking.call_with_password("DELETE", "/v1/schedule")
    return "/upgrade", LazyText(N_("Schedule cancelled."))


def confirm_release(asking: PageRequest) -> FormResult:
    """End the soak period."""
    asking.call_with_password("POST", "/v1/confirmation")
    return "/", LazyText(N_("Release confirmed. The soak period has ended."))


def refresh_inspection(asking: PageRequest) -> FormResult:
    """Repeat an inspection."""
    kind = require_field(asking, "kind")
    if kind not in INSPECTION_PAGES:
        raise UpdaterError(CONSOLE_FORM, reason="unknown 'kind'")
    asking.inspections.discard(kind)
    begins = "?look=" + kind if kind in ("verify", "support-bundle", "rollback-plan") else ""
    return INSPECTION_PAGES[kind] + begins, None


def read_back_path(form: Mapping[str, str]) -> str:
    """Return the path of the page from which a form was submitted; the first page if invalid.

    An address that begins with two slashes leads to another host.
    """
    back = form.get("back", "/")
    return back if PAGE_PATH.fullmatch(back) else "/"


def set_language(asking: PageRequest) -> FormResult:
    """Set the language of the session."""
    known = match_language(require_field(asking, "language"))
    if known is not None:
        asking.session.language = known
    return read_back_path(asking.form), None


def _parse_time(asking: PageRequest, name: str) -> str | None:
    """Return a local time of the site from a form field; None if the field is empty.

    Raises:
        UpdaterError: If the field is not a time.
    """
    text = asking.form.get(name, "").strip()
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return within_calendar(moment.replace(tzinfo=moment.tzinfo or asking.zone)).isoformat()
    except ValueError as error:
        raise UpdaterError(
            CONSOLE_FORM, reason=LazyText("'{name}' is not a time", {"name": name})
        ) from error
