"""*Settings as they are*: read only; they are changed in the file, by who may write it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ncen_updater.common.i18n import N_, Text
from ncen_updater.console.asking import Asking, ShownPage
from ncen_updater.console.service import ServiceRefusal


def page(asking: Asking) -> ShownPage:
    """The settings in force, and the agent itself."""
    status = asking.status()
    agent, refused = asking.get("/v1/agent"), None
    rows: list[Mapping[str, Any]] = []
    try:
        rows = list(asking.get("/v1/settings")["settings"])
    except ServiceRefusal as error:
        refused = error.error
    return ShownPage(
        "settings",
        {
            "status": status,
            "agent": agent,
            "tables": tables(rows),
            "refused": refused,
            "may": asking.may("operate") if agent["on_offer"] else None,
        },
        "refused" if refused else "ready",
    )


def tables(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[str, Text, bool]]]:
    """Return settings by their table: the name, the value, and whether the file says it; pure."""
    found: dict[str, list[tuple[str, Text, bool]]] = {}
    for row in rows:
        table, name = str(row["table"]), str(row["name"])
        found.setdefault(table, []).append((name, _value(row), bool(row["chosen"])))
    return found


def _value(row: Mapping[str, Any]) -> Text:
    value = row["value"]
    if row["hidden"] and value in (None, "", []):
        return Text(N_("is not shown"))
    if isinstance(value, bool):
        return Text(N_("yes") if value else N_("no"))
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    if value is None or value == "":
        return Text("-")
    if row["hidden"]:
        return Text(N_("{value} (a part is not shown)"), {"value": str(value)})
    return Text("{value}", {"value": str(value)})
