"""The section on data: what will change, in words and counts, from the rehearsal's report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ncen_updater.agent.dossier.gather import Dossier, DossierHop
from ncen_updater.agent.dossier.html import ARROW, Child, element, grid
from ncen_updater.common.i18n import N_, Text

__all__ = ["data_section"]

#: Where ``down`` files keep what the old shape cannot hold; no table of the application.
PARKED = "ncen_kept"
#: So many codes without a target are listed; the rest is counted.
SHOWN_CODES = 20


def data_section(dossier: Dossier, language: str) -> list[Child]:
    """Say what changes in the data, hop by hop; pure."""

    def say(template: str, **values: object) -> str:
        return Text(template, values).render(language)

    parts: list[Child] = [element("h2", say(N_("What changes in your data")))]
    for hop in dossier.hops:
        parts.append(element("h3", f"{hop.origin} {ARROW} {hop.version}"))
        if hop.report is None:
            parts.append(element("p", say(N_("Not known: it was not rehearsed."))))
            continue
        lines = [text for item in hop.report["maps"] for text in _map_words(item)]
        lines.append(Text(N_("{count} checks of the data hold."), {"count": _checks(hop)}))
        parts += [element("p", text.render(language)) for text in lines]
        rows = [
            (f"{database}.{table}", _rows(before), _rows(after), say(_verb(before, after)))
            for database, tables in hop.report["tables"].items()
            for table, (before, after) in tables.items()
            if not table.startswith(PARKED)
        ]
        if rows:
            heading = N_("Table"), N_("Rows before"), N_("Rows after"), N_("What happens")
            parts.append(grid(map(say, heading), rows))
        else:
            parts.append(element("p", say(N_("No table changes."))))
    return parts


def _checks(hop: DossierHop) -> int:
    return len(hop.report["checks"]) if hop.report else 0


def _map_words(item: Mapping[str, Any]) -> list[Text]:
    found = []
    if item["affected"] is not None:
        values = {"name": item["name"], "count": item["affected"]}
        found.append(Text(N_("{name}: {count} records get a new code."), values))
    without = sum(count for _, count in item["unmapped"])
    if without:
        shown = item["unmapped"][:SHOWN_CODES]
        codes = ", ".join(f"{code} ({count})" for code, count in shown)
        if len(item["unmapped"]) > len(shown):
            codes += ", ..."
        values = {"name": item["name"], "count": without, "codes": codes}
        found.append(Text(N_("{name}: {count} records have no target: {codes}."), values))
    return found


def _rows(count: int) -> str:
    return "-" if count < 0 else str(count)


def _verb(before: int, after: int) -> str:
    if before < 0:
        return N_("is new")
    if after < 0:
        return N_("goes")
    if before == after:
        return N_("rows change")
    return N_("rows are added") if after > before else N_("rows go")
