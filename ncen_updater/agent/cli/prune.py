"""``prune``: drop previous databases whose retention period has ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from ncen_updater.agent.cli.common import dry_run_option, get_agent_session
from ncen_updater.common.cli.lazy import CliCommand
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode

if TYPE_CHECKING:
    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.engine.site import Site


@click.command(
    "prune",
    cls=CliCommand,
    help=N_("Remove previous databases and releases past their retention"),
)
@dry_run_option
@click.option(
    "--retained",
    "change",
    metavar="CHANGE",
    help=N_("Remove the databases that the rollback of this change retained"),
)
@click.pass_context
def prune(context: click.Context, dry_run: bool, change: str | None) -> ExitCode:
    from ncen_updater.agent.engine import prune as retention
    from ncen_updater.agent.engine.change_guards import require_no_unfinished_change
    from ncen_updater.agent.engine.operations import Operations

    session = get_agent_session(context)
    site = session.open_site()
    if change is not None:
        return _prune_retained(session, site, change, dry_run=dry_run)
    with session.make_progress() as progress:
        if dry_run:
            with Operations(site, progress).read_journal() as journal:
                require_no_unfinished_change(journal)
                found = retention.find_prunable(site, journal)
        else:
            with Operations(site, progress).lock_idle_site("prune") as journal:
                found = retention.find_prunable(site, journal)
                retention.prune(site, journal, found, progress)
    removed = [
        LazyText(N_("databases before change {change}"), {"change": c}) for c in found.changes
    ]
    removed += [LazyText(N_("release {version}"), {"version": v}) for v in found.slots]
    _show_removed(session, removed, dry_run=dry_run)
    if not found:
        session.add_line(LazyText(N_("Nothing to prune.")))
    session.write_output(
        {
            "dry_run": dry_run,
            "changes": list(found.changes),
            "slots": [str(version) for version in found.slots],
        }
    )
    return ExitCode.OK


def _show_removed(session: AgentSession, removed: Iterable[object], *, dry_run: bool) -> None:
    text = N_("Would be removed: {what}") if dry_run else N_("Removed: {what}")
    for what in removed:
        session.add_line(LazyText(text, {"what": what}))


def _prune_retained(session: AgentSession, site: Site, change: str, *, dry_run: bool) -> ExitCode:
    from ncen_updater.agent.engine import prune as aside
    from ncen_updater.agent.engine.change_guards import require_no_unfinished_change
    from ncen_updater.agent.engine.operations import Operations

    with session.make_progress() as progress:
        operations = Operations(site, progress)
        if dry_run:
            with operations.read_journal() as journal:
                require_no_unfinished_change(journal)
            places = aside.list_quarantined(site, change)
        else:
            with operations.lock_idle_site("prune") as journal:
                places = aside.drop_quarantined(site, journal, change, progress)
    _show_removed(session, places, dry_run=dry_run)
    if not places:
        session.add_line(LazyText(N_("Nothing retained for change {change}."), {"change": change}))
    session.write_output({"dry_run": dry_run, "retained": list(places)})
    return ExitCode.OK
