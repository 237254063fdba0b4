"""``approve`` and ``schedule``: people say yes to what was rehearsed, and when it may begin."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ncen_updater.cli.commands.common import agent_session, parse_version
from ncen_updater.cli.commands.hold import parse_until
from ncen_updater.cli.commands.rehearse import show_rehearsal
from ncen_updater.cli.lazy import Command
from ncen_updater.cli.person import person
from ncen_updater.cli.render import format_time
from ncen_updater.cli.session import AgentSession
from ncen_updater.errors import ExitCode
from ncen_updater.i18n import N_, Text

if TYPE_CHECKING:
    from ncen_updater.upgrade.approving import Subject

__all__ = ["approve", "schedule"]


@click.command("approve", cls=Command, help=N_("Say yes to what was rehearsed."))
@click.argument("version", required=False)
@click.option("--withdraw", is_flag=True, help=N_("Take your own approval back."))
@click.option("--yes", is_flag=True, help=N_("Do not ask. Nothing that blocks is passed over."))
@click.option(
    "--dry-run", is_flag=True, help=N_("Show what would be approved, and change nothing.")
)
@click.pass_context
def approve(
    context: click.Context, version: str | None, withdraw: bool, yes: bool, dry_run: bool
) -> ExitCode:
    from ncen_updater.cli.dossier.kept import keep_dossiers
    from ncen_updater.upgrade import approving
    from ncen_updater.upgrade.journal import Journal
    from ncen_updater.upgrade.names import JOURNAL

    session = agent_session(context)
    target = parse_version(version)
    site = session.open_site()
    with Journal.open(site.state / JOURNAL, read_only=dry_run) as journal:
        with session.progress() as progress:
            found = approving.subject(site, journal, progress, target)
        if found.standing.rehearsal is not None and not withdraw:
            show_rehearsal(session, found.standing.rehearsal)
        if not dry_run:
            if withdraw:
                approving.withdraw(journal, found, person())
            else:
                question = Text(N_("Approve the upgrade to {version}?"), {"version": found.target})
                session.agree(question, yes=yes)
                approving.approve(journal, found, person())
            keep_dossiers(site, journal, found.target)
            with session.progress() as progress:
                found = approving.subject(site, journal, progress, target)
    _show(session, found)
    return ExitCode.OK


@click.command("schedule", cls=Command, help=N_("Choose when an approved upgrade may begin."))
@click.argument("time", required=False)
@click.option("--release", "version", metavar="VERSION", help=N_("The release that is meant."))
@click.option("--cancel", is_flag=True, help=N_("Take the chosen time back."))
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.pass_context
def schedule(
    context: click.Context, time: str | None, version: str | None, cancel: bool, dry_run: bool
) -> ExitCode:
    from ncen_updater.upgrade import approving
    from ncen_updater.upgrade.consent import Consent
    from ncen_updater.upgrade.journal import Journal
    from ncen_updater.upgrade.names import JOURNAL

    session = agent_session(context)
    if (time is None) is not cancel:
        raise click.UsageError("give a TIME, or --cancel", context)
    moment = parse_until(time, datetime.now(UTC))
    target = parse_version(version)
    site = session.open_site()
    with Journal.open(site.state / JOURNAL, read_only=dry_run) as journal:
        if cancel and not dry_run:
            Consent(journal).cancel_schedule(person())
        with session.progress() as progress:
            found = approving.subject(site, journal, progress, target)
            if moment is not None and not dry_run:
                approving.schedule(journal, found, moment, person())
                found = approving.subject(site, journal, progress, target)
    _show(session, found)
    return ExitCode.OK


def _show(session: AgentSession, found: Subject) -> None:
    """Show where an approval stands."""
    for void in found.standing.voids:
        session.show(Text(N_("No longer what was approved: {reason}"), {"reason": void.text}))
    for approval in found.people.given:
        values: dict[str, object] = {"who": approval.who, "at": format_time(approval.at)}
        session.show(Text(N_("Approved by {who}, {at}"), values))
    if found.binding:
        session.show(Text(N_("Digest of what is approved: {digest}"), {"digest": found.binding}))
    missing = {"version": found.target, "count": found.people.missing}
    if found.people.missing:
        session.show(Text(N_("{version} needs {count} more approval(s)."), missing))
    else:
        session.show(Text(N_("{version} is approved."), missing))
    if found.scheduled is not None:
        chosen = {"at": format_time(found.scheduled.not_before), "who": found.scheduled.who}
        session.show(Text(N_("It begins at the earliest {at}, as {who} chose."), chosen))
    session.finish(
        {
            "version": found.target,
            "binding": found.binding or None,
            "plan": found.plan.digest,
            "rehearsed": found.standing.rehearsed.value,
            "approvals": [{"who": a.who, "uid": a.uid, "at": a.at} for a in found.people.given],
            "missing": found.people.missing,
            "scheduled": found.scheduled.not_before if found.scheduled else None,
            "voids": [str(void.text) for void in found.standing.voids],
        }
    )
