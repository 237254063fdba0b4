"""Page *Sharing*: preview of the receipts sent to the Secretariat, and their sharing level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import CONSOLE_FORM
from ncen_updater.console.page_request import PageContent, PageRequest
from ncen_updater.console.pages.form_actions import FormResult, require_field
from ncen_updater.console.service_client import Document

#: The levels, lowest first.
LEVELS = {
    "none": N_("nothing"),
    "version": N_("version number"),
    "outcome": N_("version and outcome"),
    "figures": N_("version, outcome and figures"),
}


@dataclass(frozen=True)
class SharingLevel:
    """One level as displayed.

    Attributes:
        level: The level.
        name: Its displayed name.
        action: ``raise``, ``lower``, or empty for the current level.
        added: Sentences added to those of the level below; None while unknown.
        statement: The bytes that would be signed.
    """

    level: str
    name: LazyText
    action: str
    added: Sequence[str] | None = None
    statement: str = ""


def build_page(asking: PageRequest) -> PageContent:
    """Build the sharing page."""
    status, receipts = asking.get_status(), asking.get_document("/v1/receipts")
    revision = f"{receipts['written']} {status['running'].get('version')}"
    inspection = asking.inspect("receipts", revision)
    return PageContent(
        "sharing",
        {
            "status": status,
            "receipts": receipts,
            "now": LazyText(LEVELS[receipts["level"]]),
            "looked": inspection,
            "levels": list(build_levels(receipts["level"], inspection.document)),
            "may": asking.find_missing_role("approve"),
        },
        "loading" if inspection.is_loading else "stale" if inspection.stale else "ready",
        refresh_s=2 if inspection.is_loading else 0,
    )


def build_levels(agreed: str, found: Document | None) -> Iterator[SharingLevel]:
    """Yield the levels, lowest first. Pure."""
    names = list(LEVELS)
    rows = {row["level"]: row for row in found["levels"]} if found else {}
    previous_lines: Sequence[str] = ()
    for rank, (level, name) in enumerate(LEVELS.items()):
        row, agreed_rank = rows.get(level, {}), names.index(agreed)
        action = "raise" if rank > agreed_rank else "lower" if rank < agreed_rank else ""
        lines = row.get("sentences")
        added = None if lines is None else [one for one in lines if one not in previous_lines]
        yield SharingLevel(level, LazyText(name), action, added, row.get("statement", ""))
        previous_lines = lines or ()


def set_level(asking: PageRequest) -> FormResult:
    """Set the level; a higher level requires the checkbox in the form."""
    level, names = require_field(asking, "level"), list(LEVELS)
    agreed = asking.get_document("/v1/receipts")["level"]
    if level not in names:
        raise UpdaterError(CONSOLE_FORM, reason="unknown 'level'")
    if names.index(level) > names.index(agreed) and asking.form.get("agreed") != "yes":
        reason = LazyText("'{name}' is missing", {"name": "agreed"})
        raise UpdaterError(CONSOLE_FORM, reason=reason)
    asking.call_with_password("PUT", "/v1/receipts", {"level": level})
    asking.inspections.discard("receipts")
    name = LazyText(LEVELS[level])
    return "/sharing", LazyText(N_("Shared with the Secretariat: {level}"), {"level": name})
