"""*Settings as they are*: read only; they are changed in the file, by who may write it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.console.page_request import PageContent, PageRequest
from ncen_updater.console.service_client import ServiceRefusedError


def build_page(asking: PageRequest) -> PageContent:
    """Return the settings in force, and the agent itself."""
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
            "tables": group_by_table(rows),
            "refused": refused,
            "may": asking.find_missing_role("operate") if agent["on_offer"] else None,
        },
        "refused" if refused else "ready",
    )


def group_by_table(
    rows: Iterable[Mapping[str, Any]],
) -> dict[str, list[tuple[str, LazyText, bool]]]:
    """Return settings by their table: the name, the value, and whether the file says it; pure."""
    found: dict[str, list[tuple[str, LazyText, bool]]] = {}
    for row in rows:
        table, name = str(row["table"]), str(row["name"])
        found.setdefault(table, []).append((name, _format_value(row), bool(row["explicit"])))
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
