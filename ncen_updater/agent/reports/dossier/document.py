"""The dossier as JSON has it: what its page says, for programs. Pure."""

from __future__ import annotations

from ncen_updater.agent.engine.rehearsal.report import CodeMapResult, RehearsedHop
from ncen_updater.agent.reports.dossier.facts import Dossier, DossierHop
from ncen_updater.common.cli.render import finding_to_json
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, N_, LazyText

#: Where ``down`` files keep what the old shape cannot hold; no table of the application.
PARKED_SCHEMA = "ncen_kept"
#: So many codes without a target are listed; the rest is counted.
MAX_CODES_SHOWN = 20


def format_code_mapping(item: CodeMapResult) -> list[LazyText]:
    """Say what a mapping of codes does, and what it has no target for."""
    found = []
    if item.affected is not None:
        values: dict[str, object] = {"name": item.name, "count": item.affected}
        found.append(LazyText(N_("'{name}': new code for {count} records."), values))
    without = item.unmapped_rows
    if without:
        shown = item.unmapped[:MAX_CODES_SHOWN]
        codes = ", ".join(f"{code} ({count})" for code, count in shown)
        if len(item.unmapped) > len(shown):
            codes += ", ..."
        values = {"name": item.name, "count": without, "codes": codes}
        found.append(LazyText(N_("'{name}': {count} records without a new code: {codes}"), values))
    return found


def list_table_changes(hop: RehearsedHop) -> list[tuple[str, str, str, str]]:
    """Name each table of the application that changes: rows before, rows after, what happens."""
    return [
        (
            f"{database}.{table}",
            _format_count(before),
            _format_count(after),
            _describe_row_change(before, after),
        )
        for database, tables in hop.changed_tables.items()
        for table, (before, after) in tables.items()
        if not table.startswith(PARKED_SCHEMA)
    ]


def _format_count(count: int) -> str:
    return "-" if count < 0 else str(count)


def _describe_row_change(before: int, after: int) -> str:
    if before < 0:
        return N_("added")
    if after < 0:
        return N_("removed")
    if before == after:
        return N_("rows modified")
    return N_("rows added") if after > before else N_("rows removed")


DowntimeBounds = tuple[float, float, float]
#: Facts that only the page shows.
PAGE_ONLY_FACTS = frozenset({"zone", "past_predictions", "basis"})


def build_dossier_document(dossier: Dossier, language: str = DEFAULT_LANGUAGE) -> dict[str, object]:
    """Return what a person decides on; its SQL is the plan's."""
    shown = {name: value for name, value in vars(dossier).items() if name not in PAGE_ONLY_FACTS}
    return {
        **shown,
        "downtime_s": _build_downtime(dossier.downtime_s),
        "keeps_records": dossier.keeps_records,
        "lost_objects": dossier.lost_objects,
        "hops": [_build_hop(hop, language) for hop in dossier.hops],
        "findings": [finding_to_json(finding, language) for finding in dossier.findings],
        "approvals": [
            {"actor": given.actor, "uid": given.uid, "at": given.at} for given in dossier.approvals
        ],
    }


def _build_downtime(stop: DowntimeBounds | None) -> dict[str, float] | None:
    return dict(zip(("low", "likely", "high"), stop, strict=True)) if stop else None


def _build_hop(hop: DossierHop, language: str) -> dict[str, object]:
    report = hop.report
    return {
        "from": hop.origin,
        "to": hop.version,
        "required": hop.required,
        "urgency": hop.urgency,
        "notes": {
            name: {"title": notes.title, "text": notes.text} for name, notes in hop.notes.items()
        },
        "code_only": hop.code_only,
        "expands": hop.expands,
        "contract": list(hop.contract),
        "rollback_kind": hop.rollback_kind.value,
        "rollback_text": hop.rollback_line.render(language),
        "irreversible_migrations": [
            {"database": database, "id": id_, "reason": reason}
            for database, id_, reason in hop.irreversible_migrations
        ],
        "lost_objects": list(hop.lost_objects),
        "round_trip": list(hop.format_round_trip(language)),
        "migrations": hop.migrations,
        "unpacked_bytes": hop.unpacked_bytes,
        "downtime_s": _build_downtime(hop.downtime_s),
        "file_changes": [sentence.render(language).strip() for sentence in hop.file_changes],
        "overlay_changes": [sentence.render(language).strip() for sentence in hop.overlay_changes],
        "changed_tables": [
            {"table": table, "before": before, "after": after, "what": what}
            for table, before, after, what in (list_table_changes(report) if report else ())
        ],
        "codes": [
            words.render(language)
            for item in (report.code_maps if report else ())
            for words in format_code_mapping(item)
        ],
        "unmapped": hop.unmapped_rows,
    }
