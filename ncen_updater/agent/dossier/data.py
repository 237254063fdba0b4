"""What changes in the data of a site, from the rehearsal's report. Pure."""

from __future__ import annotations

from ncen_updater.agent.rehearsal.report import MappedCodes, RehearsedHop
from ncen_updater.common.i18n import N_, Text

#: Where ``down`` files keep what the old shape cannot hold; no table of the application.
PARKED = "ncen_kept"
#: So many codes without a target are listed; the rest is counted.
SHOWN_CODES = 20


def map_words(item: MappedCodes) -> list[Text]:
    """Say what a mapping of codes does, and what it has no target for."""
    found = []
    if item.affected is not None:
        values: dict[str, object] = {"name": item.name, "count": item.affected}
        found.append(Text(N_("{name}: {count} records get a new code."), values))
    without = item.without_target
    if without:
        shown = item.unmapped[:SHOWN_CODES]
        codes = ", ".join(f"{code} ({count})" for code, count in shown)
        if len(item.unmapped) > len(shown):
            codes += ", ..."
        values = {"name": item.name, "count": without, "codes": codes}
        found.append(Text(N_("{name}: {count} records have no target: {codes}."), values))
    return found


def table_rows(hop: RehearsedHop) -> list[tuple[str, str, str, str]]:
    """Name each table of the application that changes: rows before, rows after, what happens."""
    return [
        (f"{database}.{table}", _rows(before), _rows(after), _verb(before, after))
        for database, tables in hop.tables.items()
        for table, (before, after) in tables.items()
        if not table.startswith(PARKED)
    ]


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
