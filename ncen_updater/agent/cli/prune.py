"""``prune``: drop what was kept from before upgrades, where its days are over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ncen_updater.agent.cli.common import get_agent_session
from ncen_updater.common.cli.lazy import CliCommand
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode

if TYPE_CHECKING:
    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.engine.site import Site


@click.command("prune", cls=CliCommand, help=N_("Drop what is kept longer than its days."))
@click.option("--dry-run", is_flag=True, help=N_("Say what would go, and drop nothing."))
@click.option(
    "--kept",
    metavar="CHANGE",
    help=N_("Drop what going back kept of this change for what somebody may have entered."),
)
@click.pass_context
def prune(context: click.Context, dry_run: bool, kept: str | None) -> ExitCode:
    from ncen_updater.agent.engine import retention
    from ncen_updater.agent.engine.operations import Operations
    from ncen_updater.agent.model.names import JOURNAL_FILE
    from ncen_updater.agent.storage.journal.journal import Journal

    session = get_agent_session(context)
    site = session.open_site()
    if kept is not None:
        return _prune_retained(session, site, kept, dry_run=dry_run)
    with session.make_progress() as progress:
        if dry_run:
            with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
                found = retention.find_prunable(site, journal)
        else:
            with Operations(site, progress).lock_idle_site("prune") as journal:
                found = retention.find_prunable(site, journal)
                retention.prune(site, journal, found, progress)
    changed = N_("Would go: the databases from before change {change}") if dry_run else N_(
        "Dropped: the databases from before change {change}"
    )  # fmt: skip
    removed = N_("Would go: the slot of {version}") if dry_run else N_(
        "Removed: the slot of {version}"
    )  # fmt: skip
    for change in found.changes:
        session.add_line(LazyText(changed, {"change": change}))
    for version in found.slots:
        session.add_line(LazyText(removed, {"version": version}))
    if not found:
        session.add_line(LazyText(N_("Nothing is kept longer than its days.")))
    session.write_output(
        {
            "dry_run": dry_run,
            "changes": list(found.changes),
            "slots": [str(version) for version in found.slots],
        }
    )
    return ExitCode.OK


def _prune_retained(session: AgentSession, site: Site, change: str, *, dry_run: bool) -> ExitCode:
    from ncen_updater.agent.engine import aside
    from ncen_updater.agent.engine.operations import Operations

    if dry_run:
        places = aside.list_quarantined(site, change)
    else:
        with (
            session.make_progress() as progress,
            Operations(site, progress).lock_idle_site("prune") as journal,
        ):
            places = aside.drop_quarantined(site, journal, change, progress)
    for path in places:
        session.add_line(
            LazyText(N_("Would go: {path}") if dry_run else N_("Dropped: {path}"), {"path": path})
        )
    if not places:
        session.add_line(
            LazyText(N_("Nothing is kept of the change {change}."), {"change": change})
        )
    session.write_output({"dry_run": dry_run, "kept": list(places)})
    return ExitCode.OK
