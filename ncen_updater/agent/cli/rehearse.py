"""``rehearse``: try a release on copies of the site's own data, while officers work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from ncen_updater.agent.cli.common import agent_session, path_document, show_path
from ncen_updater.agent.cli.remote import carry_out, service_for
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.engine.rollback_words import Back, way_words
from ncen_updater.agent.rehearsal.store import rehearsal_document
from ncen_updater.common.cli.arguments import parse_version
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.render import format_bytes, format_duration
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_, Text

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["rehearse", "show_rehearsal"]


@click.command("rehearse", cls=Command, help=N_("Try a release on copies of your own data."))
@click.argument("version", required=False)
@click.option("--retry", is_flag=True, help=N_("Take releases too that failed here."))
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.pass_context
def rehearse(context: click.Context, version: str | None, retry: bool, dry_run: bool) -> ExitCode:
    session = agent_session(context)
    target = parse_version(version)
    service = None if dry_run else service_for(session)
    if service is not None:
        named = str(target) if target else None
        return carry_out(session, service, "rehearse", version=named, retry=retry)
    from ncen_updater.agent.dossier.store import keep_dossiers
    from ncen_updater.agent.engine.interruption import Interruption
    from ncen_updater.agent.engine.operations import Operations, new_change_id
    from ncen_updater.agent.journal.journal import Journal
    from ncen_updater.agent.journal.names import JOURNAL
    from ncen_updater.agent.rehearsal.rehearse import Rehearser
    from ncen_updater.feed.upgrade_path import UpgradePath

    site = session.open_site()
    interruption = Interruption()
    pages: tuple[Path, ...] = ()
    with session.progress() as progress, interruption.handled():
        operations = Operations(site, progress)
        if dry_run:
            with Journal.open(site.state / JOURNAL, read_only=True) as journal:
                path = operations.known_path(journal, target, retry=retry)
            record = None
        else:
            with operations.between_changes("rehearse") as journal:
                path = operations.known_path(journal, target, retry=retry)
                record = (
                    Rehearser(site, journal, progress, new_change_id, interruption).run(path)
                    if isinstance(path, UpgradePath)
                    else None
                )
                pages = keep_dossiers(site, journal, record.to_version) if record else ()
    current = str(site.slots.current())
    if record is None:
        show_path(session, site.config.site.product, current, path)
        session.finish({"rehearsal": None, **path_document(path, session.language, current)})
        return ExitCode.OK
    found = rehearsal_document(record)
    show_rehearsal(session, found)
    for kept in pages:
        session.show(Text(N_("The dossier is in {path}."), {"path": kept}))
    session.finish({"rehearsal": found, "dossiers": [str(kept) for kept in pages]})
    return ExitCode.OK


def show_rehearsal(session: AgentSession, found: Mapping[str, Any]) -> None:
    """Show what a rehearsal found to people.

    Args:
        session: Where.
        found: The rehearsal as :func:`rehearsal_document` returns it.
    """
    report: Mapping[str, Any] = found["report"] or {}
    values: dict[str, object] = {"origin": found["from"], "version": found["to"]}
    session.show(Text(N_("Rehearsed {origin} -> {version} on copies of your data."), values))
    backup = {
        "size": format_bytes(sum(report["sizes"].values())),
        "seconds": format_duration(report["backup_s"]),
    }
    session.show(Text(N_("  a backup of {size} was made and restored in {seconds}"), backup))
    for database, objects in (report.get("not_carried") or {}).items():
        _show_lacking(session, database, objects)
    for hop in report["hops"]:
        _show_hop(session, hop)


def _show_lacking(session: AgentSession, database: str, objects: Sequence[str]) -> None:
    """Show what the backup of a database does not carry, so that nothing was proved of it."""
    values: dict[str, object] = {"database": database, "objects": ", ".join(objects)}
    session.show(
        Text(
            N_(
                "  not proved: a backup by the agent's role does not carry this of {database}, or"
                " not as it is: {objects}"
            ),
            values,
        )
    )


def _show_hop(session: AgentSession, hop: Mapping[str, Any]) -> None:
    stop = hop["stop_s"]
    values: dict[str, object] = {
        "origin": hop["from"], "version": hop["to"],
        "low": format_duration(stop["low"]), "high": format_duration(stop["high"]),
    }  # fmt: skip
    session.show()
    session.show(Text(N_("{origin} -> {version}: officers are out for {low} to {high}"), values))
    for item in hop["maps"]:
        _show_map(session, item)
    for database, tables in hop["tables"].items():
        for table, (before, after) in tables.items():
            rows = {"table": f"{database}.{table}", "before": before, "after": after}
            session.show(Text(_words_of(before, after), rows))
    session.show(Text(N_("  {count} checks of the data hold"), {"count": len(hop["checks"])}))
    _show_way_back(session, hop)


def _show_way_back(session: AgentSession, hop: Mapping[str, Any]) -> None:
    back = Back(hop.get("way_back") or (Back.KEEPS if hop["keeps_records"] else Back.RESTORES))
    words = way_words(back, hop["to"], hop["from"])
    session.show(f"  {words.render(session.language)}")
    if hop["back_s"] is not None:
        seconds = {"seconds": format_duration(hop["back_s"])}
        session.show(Text(N_("  the way back was tried too, in {seconds}"), seconds))
    elif hop.get("restore_s") is not None:
        seconds = {"seconds": format_duration(hop["restore_s"])}
        session.show(
            Text(N_("  the databases of before were restored on trial, in {seconds}"), seconds)
        )
    if hop["back_differs"]:
        tables = {"tables": ", ".join(hop["back_differs"])}
        session.show(Text(N_("  after it these tables are not as before: {tables}"), tables))


def _show_map(session: AgentSession, item: Mapping[str, Any]) -> None:
    without = sum(count for _, count in item["unmapped"])
    values = {"name": item["name"], "count": item["affected"], "without": without}
    if item["affected"] is not None:
        session.show(Text(N_("  {name}: {count} rows get a new code"), values))
    if without:
        codes = ", ".join(f"{code} ({count})" for code, count in item["unmapped"][:20])
        values["codes"] = codes
        session.show(Text(N_("  {name}: {without} rows have no target: {codes}"), values))


def _words_of(before: int, after: int) -> str:
    if before < 0:
        return N_("  new table {table}, {after} rows")
    if after < 0:
        return N_("  table {table} goes, {before} rows")
    if before == after:
        return N_("  table {table}: rows change, {after} before and after")
    return N_("  table {table}: {before} rows before, {after} after")
