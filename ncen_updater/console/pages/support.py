"""Pages *Help* and *Settings*: problems, error codes, the support bundle, settings in force."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.labels import explain_code
from ncen_updater.common.messages import CONSOLE_NO_PAGE
from ncen_updater.console.page_request import PageContent, PageRequest
from ncen_updater.console.rendering import FileResponse
from ncen_updater.console.service_client import ServiceRefusedError

_CODE = re.compile(r"(?:NU-?)?([0-9]{4})", re.IGNORECASE)
#: Characters displayed of each part of a support bundle.
PREVIEW_CHARS = 4_000


def build_page(asking: PageRequest) -> PageContent:
    """Build the help page."""
    status = asking.get_status()
    revision = f"{status['journal'].get('chain_head')}"
    doctor = asking.inspect("findings", revision)
    operates = "operate" in status["you"]["roles"]
    shows_bundle = operates and asking.query.get("look") == "support-bundle"
    bundle = asking.inspect("support-bundle", "") if shows_bundle else None
    inspections = [one for one in (doctor, bundle) if one is not None]
    typed = asking.query.get("code", "")
    loading = any(one.is_loading for one in inspections)
    return PageContent(
        "support",
        {
            "status": status,
            "doctor": doctor,
            "bundle": bundle,
            "may": None if operates else asking.find_missing_role("operate"),
            "typed": typed[:20],
            "meaning": _explain_code(typed),
            "preview": PREVIEW_CHARS,
        },
        "loading" if loading else "stale" if doctor.stale else "ready",
        refresh_s=2 if loading else 0,
    )


def _explain_code(typed: str) -> tuple[str, LazyText, LazyText] | None:
    """Return an error code, its meaning and its remedy; None for an unknown code."""
    found = _CODE.fullmatch(typed.strip())
    code = f"NU-{found[1]}" if found else ""
    known = explain_code(code)
    return (code, *known) if known else None


def get_bundle_file(asking: PageRequest) -> FileResponse:
    """Return the support bundle as a file."""
    bundle = asking.inspect("support-bundle", "")
    archive = bundle.document["archive"] if bundle.document is not None else None
    try:
        content = base64.b64decode(archive or "", validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not content:
        raise UpdaterError(CONSOLE_NO_PAGE, path="/help/bundle")
    name = 'attachment; filename="ncen-support-bundle.tar.gz"'
    return FileResponse(content, "application/gzip", (("Content-Disposition", name),))


def build_settings_page(asking: PageRequest) -> PageContent:
    """Build the page with the settings in force and the state of the agent."""
    status = asking.get_status()
    agent, refused = asking.get_document("/v1/agent"), None
    rows: list[Mapping[str, Any]] = []
    try:
        rows = list(asking.get_document("/v1/settings")["settings"])
    except ServiceRefusedError as error:
        refused = error.error
    return PageContent(
        "settings",
        {
            "status": status,
            "agent": agent,
            "chosen": group_by_table(rows, explicit=True),
            "defaults": group_by_table(rows, explicit=False),
            "refused": refused,
            "may": asking.find_missing_role("operate") if agent["available"] else None,
        },
        "refused" if refused else "ready",
    )


def group_by_table(
    rows: Iterable[Mapping[str, Any]], *, explicit: bool
) -> dict[str, list[tuple[str, LazyText]]]:
    """Return names and values of the settings by table. Pure.

    Args:
        rows: The settings.
        explicit: Whether to return the settings that the file sets, or the defaults.
    """
    found: dict[str, list[tuple[str, LazyText]]] = {}
    for row in rows:
        if bool(row["explicit"]) is explicit:
            found.setdefault(str(row["table"]), []).append((str(row["name"]), _format_value(row)))
    return found


def _format_value(row: Mapping[str, Any]) -> LazyText:
    value = row["value"]
    if row["redacted"] and value in (None, "", []):
        return LazyText(N_("hidden"))
    if isinstance(value, bool):
        return LazyText(N_("yes") if value else N_("no"))
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    if value is None or value == "":
        return LazyText("-")
    if row["redacted"]:
        return LazyText(N_("{value} (partly hidden)"), {"value": str(value)})
    return LazyText("{value}", {"value": str(value)})
