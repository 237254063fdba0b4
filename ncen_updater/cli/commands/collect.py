"""``collect``: drop what was kept from before upgrades, where its days are over."""

from __future__ import annotations

import click

from ncen_updater.cli.commands.common import agent_session
from ncen_updater.cli.lazy import Command
from ncen_updater.errors import ExitCode
from ncen_updater.i18n import N_, Text

__all__ = ["collect"]


@click.command("collect", cls=Command, help=N_("Drop what is kept longer than its days."))
@click.option("--dry-run", is_flag=True, help=N_("Say what would go, and drop nothing."))
@click.pass_context
def collect(context: click.Context, dry_run: bool) -> ExitCode:
    from ncen_updater.upgrade import collecting
    from ncen_updater.upgrade.journal import Journal
    from ncen_updater.upgrade.names import JOURNAL
    from ncen_updater.upgrade.operations import Operations

    session = agent_session(context)
    site = session.open_site()
    with session.progress() as progress:
        if dry_run:
            with Journal.open(site.state / JOURNAL, read_only=True) as journal:
                found = collecting.collectable(site, journal)
        else:
            with Operations(site, progress).between_changes("collect") as journal:
                found = collecting.collectable(site, journal)
                collecting.collect(site, journal, found, progress)
    changed = N_("Would go: the databases from before change {change}") if dry_run else N_(
        "Dropped: the databases from before change {change}"
    )  # fmt: skip
    removed = N_("Would go: the slot of {version}") if dry_run else N_(
        "Removed: the slot of {version}"
    )  # fmt: skip
    for change in found.changes:
        session.show(Text(changed, {"change": change}))
    for version in found.slots:
        session.show(Text(removed, {"version": version}))
    if not found:
        session.show(Text(N_("Nothing is kept longer than its days.")))
    session.finish(
        {
            "dry_run": dry_run,
            "changes": list(found.changes),
            "slots": [str(version) for version in found.slots],
        }
    )
    return ExitCode.OK
