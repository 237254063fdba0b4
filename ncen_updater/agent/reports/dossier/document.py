"""The dossier as a JSON document: the contents of its page, for programs. Pure."""

from __future__ import annotations

from ncen_updater.agent.engine.rehearsal.report import CodeMapResult, RehearsedHop
from ncen_updater.agent.reports.dossier.facts import Dossier, DossierHop
from ncen_updater.common.cli.render import finding_to_json
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, N_, LazyText

#: Schema in which ``down`` migrations store data that the old schema cannot hold.
PARKED_SCHEMA = "ncen_kept"
#: Number of codes without a target that are listed.
MAX_CODES_SHOWN = 20


def format_code_mapping(item: CodeMapResult) -> list[LazyText]:
    """Return the effects of a code mapping, and the codes without a target."""
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
    """Return the application's changed tables: name, rows before, rows after, kind of change."""
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


def build_dossier_document(dossier: Dossier, language: str = DEFAULT_LANGUAGE) -> dict[str, object]:
    """Return the facts for a decision; the SQL is part of the plan's document."""
    return {
        "site": dossier.site,
        "country": dossier.country,
        "product": dossier.product,
        "agent": dossier.agent,
        "made_at": dossier.made_at,
        "current": dossier.current,
        "target": dossier.target,
        "downtime_s": _build_downtime(dossier.downtime_s),
        "keeps_records": dossier.keeps_records,
        "lost_objects": list(dossier.lost_objects),
        "hops": [_build_hop(hop, language) for hop in dossier.hops],
        "findings": [finding_to_json(finding, language) for finding in dossier.findings],
        "sizes": dict(dossier.sizes),
        "rehearsed_at": dossier.rehearsed_at,
        "rehearsal": dossier.rehearsal,
        "rehearsal_expires_at": dossier.rehearsal_expires_at,
        "backup_s": dossier.backup_s,
        "not_in_backup": {name: list(objects) for name, objects in dossier.not_in_backup.items()},
        "not_before": dossier.not_before,
        "window_opens_at": dossier.window_opens_at,
        "window_closes_at": dossier.window_closes_at,
        "starts_automatically": dossier.starts_automatically,
        "approvals": [
            {"actor": given.actor, "uid": given.uid, "at": given.at} for given in dossier.approvals
        ],
        "required_approvals": dossier.required_approvals,
        "retention_days": dossier.retention_days,
        "soak_s": dossier.soak_s,
        "rolls_back_automatically": dossier.rolls_back_automatically,
        "chain_head": dossier.chain_head,
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
