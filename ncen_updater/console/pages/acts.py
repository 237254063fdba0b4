"""What forms do: each is one request to the service, and says where its outcome is seen."""

from __future__ import annotations

import re
from datetime import datetime

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text, language_of
from ncen_updater.common.messages import CONSOLE_COUNT, CONSOLE_FORM
from ncen_updater.common.records import within_calendar
from ncen_updater.console.asking import Asking
from ncen_updater.console.service import HARMLESS_ORDERS

#: Addresses of pages.
OWN_PAGE = re.compile(r"/[a-z0-9-]*(/[a-z0-9-]+)?")
Seen = tuple[str, Text | None]
ORDERED = N_("Order {number} is written down; the service carries it out.")
#: What a person may have looked at anew, and the page that shows it.
LOOKS = {
    "plan": "/upgrade", "dossier": "/upgrade", "way-back": "/way-back", "findings": "/help",
    "proof": "/proof", "verify": "/proof", "support-bundle": "/help",
}  # fmt: skip


def _given(asking: Asking, name: str) -> str:
    """Return what a form says.

    Raises:
        UpdaterError: If it does not.
    """
    found = asking.form.get(name, "").strip()
    if not found:
        raise UpdaterError(CONSOLE_FORM, reason=Text("'{name}' is empty", {"name": name}))
    return found


def order(asking: Asking) -> Seen:
    """Have the service do something; its number is there at once."""
    kind = _given(asking, "kind")
    wanted: dict[str, object] = {"kind": kind, "language": asking.language}
    if asking.form.get("version"):
        wanted["version"] = asking.form["version"]
    if asking.form.get("retry") == "yes":
        wanted["retry"] = True
    if kind == "upgrade" and asking.form.get("agreed") != "yes":
        raise UpdaterError(CONSOLE_FORM, reason="nobody agreed that officers are kept out")
    if kind in ("rollback", "import"):
        raise UpdaterError(
            CONSOLE_FORM, reason=Text("a {kind} has a form of its own", {"kind": kind})
        )
    return _ordered(asking, wanted)


def import_(asking: Asking) -> Seen:
    """Import a bundle that lies in the tray."""
    file = _given(asking, "file")
    return _ordered(asking, {"kind": "import", "language": asking.language, "file": file})


def _ordered(asking: Asking, wanted: dict[str, object]) -> Seen:
    given = asking.call if wanted["kind"] in HARMLESS_ORDERS else asking.decide
    number = given("POST", "/v1/orders", wanted)["id"]
    return f"/orders/{number}", Text(ORDERED, {"number": str(number)})


def rollback(asking: Asking) -> Seen:
    """Go back; what would be lost was counted, and the count is typed by who agrees."""
    wanted: dict[str, object] = {"kind": "rollback", "language": asking.language}
    wanted["undoes"] = _given(asking, "undoes")
    wanted |= _accepted(asking)
    if asking.form.get("emergency", "").strip():
        wanted["emergency"] = asking.form["emergency"].strip()
    return _ordered(asking, wanted)


def _accepted(asking: Asking) -> dict[str, object]:
    """The count of what would be lost, which who agrees has to type."""
    lost = asking.form.get("lost", "0")
    if lost == "0":
        return {}
    typed = "".join(c for c in asking.form.get("typed", "") if c.isdecimal())
    if typed != lost:
        raise UpdaterError(CONSOLE_COUNT)
    return {"accept_loss": int(lost)}


def approve(asking: Asking) -> Seen:
    """Say yes to what was seen."""
    of = "rollback" if asking.form.get("of") == "rollback" else "upgrade"
    wanted: dict[str, object] = {"binding": _given(asking, "binding"), "of": of}
    if of == "rollback":
        wanted |= _accepted(asking)
    given = asking.decide("POST", "/v1/approvals", wanted)
    text = N_("Your yes is written down.") if given["given"] else N_("You had said yes already.")
    return _decided(asking), Text(text)


def _decided(asking: Asking) -> str:
    """Where a yes is seen; how going back would go is looked at anew, since that tells of each."""
    if asking.form.get("of") != "rollback":
        return "/approve"
    asking.looking.forget("way-back")
    return "/way-back"


def withdraw(asking: Asking) -> Seen:
    """Take one's own yes back."""
    binding = _given(asking, "binding")
    if not (binding.isascii() and binding.isalnum()):
        raise UpdaterError(CONSOLE_FORM, reason="'binding' is no digest")
    asking.decide("DELETE", f"/v1/approvals/{binding}")
    return _decided(asking), Text(N_("Your yes is taken back."))


def hold(asking: Asking) -> Seen:
    """Forbid upgrades."""
    until = _moment(asking, "until")
    wanted = {"reason": _given(asking, "reason"), "until": until}
    asking.decide("POST", "/v1/holds", wanted)
    return "/", Text(N_("Upgrades are on hold."))


def unhold(asking: Asking) -> Seen:
    """Allow upgrades again."""
    asking.decide("DELETE", "/v1/holds")
    return "/", Text(N_("No hold is in force any more."))


def schedule(asking: Asking) -> Seen:
    """Choose when what was seen may begin."""
    wanted = {"binding": _given(asking, "binding"), "not_before": _moment(asking, "at")}
    if wanted["not_before"] is None:
        raise UpdaterError(CONSOLE_FORM, reason="'at' is empty")
    asking.decide("PUT", "/v1/schedule", wanted)
    return "/upgrade", Text(N_("The time is chosen."))


def unschedule(asking: Asking) -> Seen:
    """Take the time back."""
    asking.decide("DELETE", "/v1/schedule")
    return "/upgrade", Text(N_("The chosen time is taken back."))


def confirm(asking: Asking) -> Seen:
    """End the watched time."""
    asking.decide("POST", "/v1/confirmation")
    return "/", Text(N_("The release is confirmed: it is not watched any more."))


def look(asking: Asking) -> Seen:
    """Have something looked at once more."""
    kind = _given(asking, "kind")
    if kind not in LOOKS:
        raise UpdaterError(CONSOLE_FORM, reason="'kind' is nothing that is looked at")
    asking.looking.forget(kind)
    begins = "?look=" + kind if kind in ("verify", "support-bundle", "way-back") else ""
    return LOOKS[kind] + begins, None


def language(asking: Asking) -> Seen:
    """Show everything in another language."""
    known = language_of(_given(asking, "language"))
    if known is not None:
        asking.session.language = known
    back = asking.form.get("back", "/")
    return back if OWN_PAGE.fullmatch(back) else "/", None


def _moment(asking: Asking, name: str) -> str | None:
    """Return a time as a browser's field has it, which is the site's; None where it is empty.

    Raises:
        UpdaterError: If it is none.
    """
    text = asking.form.get(name, "").strip()
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return within_calendar(moment.replace(tzinfo=moment.tzinfo or asking.zone)).isoformat()
    except ValueError as error:
        raise UpdaterError(
            CONSOLE_FORM, reason=Text("'{name}' is no time", {"name": name})
        ) from error
